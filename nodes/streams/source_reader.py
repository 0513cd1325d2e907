"""Reads a shard's stream ahead for a copy that is told, by its leader, which messages are next.

    reader.start()                 a thread of its own polls, as far ahead as there is room
    reader.take((17, 18, 20))      those messages, if they were read; else ``on_more`` is called when they are
    reader.close()

A source that fails is opened again behind what was read, with growing delays: who waits is told nothing meanwhile, and
gives up by itself.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from filoray.cluster.errors import reason_of
from filoray.nodes.streams.stream import IngestionStream, StreamBatch, StreamFailed

logger = logging.getLogger(__name__)

_POLL_MS = 100
_AHEAD_BYTES_MAX = 16 << 20
_RETRY_DELAY_S_MIN = 0.2
_RETRY_DELAY_S_MAX = 5.0


class SourceReader:
    """``open_stream``: a stream from behind that offset. ``offset``: of the last message that is not wanted.

    ``on_more``: called on the reader's thread, once for each ``take`` that came too early.
    """

    def __init__(
        self, name: str, open_stream: Callable[[int], IngestionStream], offset: int, on_more: Callable[[], None]
    ) -> None:
        self._name = name
        self._open_stream = open_stream
        self._on_more = on_more
        self._changed = threading.Condition()
        self._read: deque[StreamBatch] = deque()
        self._read_bytes = 0
        self._position = offset
        self._wanted: int | None = None
        """The offset that somebody waits for."""
        self._is_closed = False

    def start(self) -> None:
        """Raises RuntimeError if there can be no thread."""
        threading.Thread(target=self._run, name=f"read ahead {self._name}", daemon=True).start()

    def close(self) -> None:
        """Does not wait for the thread, which ends within a poll or two. Nothing is called from then on."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def take(self, offsets: Sequence[int]) -> list[bytes | memoryview] | None:
        """Those messages, ascending; they and all before them are forgotten. None: not all of them were read yet.

        Raises StreamFailed if one of them is not there any more.
        """
        last = offsets[-1]
        with self._changed:
            if self._position < last:
                self._wanted = last
                self._changed.notify()
                return None
            self._wanted = None
            found: dict[int, bytes | memoryview] = {}
            while self._read and self._read[0].offset <= last:
                batch = self._read.popleft()
                self._read_bytes -= len(batch.container)
                found[batch.offset] = batch.container
            self._changed.notify()
        missing = [offset for offset in offsets if offset not in found]
        if missing:
            raise StreamFailed(f"{self._name}: its leader has appended offset {missing[0]}, which its source has not")
        return [found[offset] for offset in offsets]

    # ---- the reader's thread

    def _run(self) -> None:
        delay_s = _RETRY_DELAY_S_MIN
        while not self._is_closed:
            before = self._position
            try:
                self._read_on()
            except Exception as error:
                logger.warning("%s: its source cannot be read for its copy: %s", self._name, reason_of(error))
            delay_s = _RETRY_DELAY_S_MIN if self._position > before else min(2 * delay_s, _RETRY_DELAY_S_MAX)
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed, delay_s)

    def _read_on(self) -> None:
        """Until it is closed, or the source ends; raises what the source does."""
        stream = self._open_stream(self._position)
        try:
            self._got((), stream.position)
            while not stream.ended and self._await_room():
                self._got(stream.poll(_POLL_MS), stream.position)
        finally:
            stream.close()

    def _await_room(self) -> bool:
        """False: it is closed. Who waits for more than there is room for gets it all the same."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_closed or self._wanted is not None or self._read_bytes < _AHEAD_BYTES_MAX
            )
            return not self._is_closed

    def _got(self, batches: Sequence[StreamBatch], position: int) -> None:
        with self._changed:
            self._read.extend(batches)
            self._read_bytes += sum(len(batch.container) for batch in batches)
            self._position = max(self._position, position)
            is_there = self._wanted is not None and self._position >= self._wanted and not self._is_closed
            if is_there:
                self._wanted = None
        if is_there:
            self._on_more()
