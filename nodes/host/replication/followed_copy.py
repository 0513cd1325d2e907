"""One copy that a node has as a follower, and what it does with its leader's entries.

Each entry is carried out in its order. One that is about messages of the shard's stream needs them: the copy reads them
itself (``source_reader``), and where they have not come yet that entry and those behind it wait, and nothing else does.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from filoray.cluster.config.dataset_limits import DatasetLimits
from filoray.cluster.control.node_effects import OpenShard
from filoray.cluster.errors import FilorayError, StaleRoute, Unavailable
from filoray.nodes.host.replication.joining import Joining
from filoray.nodes.memstore.replica_entries import ReplicaEntry, StreamedEntry, decode_entry
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.streams.source_reader import SourceReader
from filoray.nodes.streams.sources import is_polled, open_stream
from filoray.nodes.streams.stream import IngestionStream
from filoray.nodes.wire.copy_bodies import Stored, encode_stored
from filoray.nodes.wire.protocol import Frames

Answer = Callable[[object], None]
"""Of a request: the body, or the exception, of its reply. Called on any thread, once."""
GiveTo = Callable[[Shard | None], None]

_PENDING_BYTES_MAX = 64 << 20
"""Of entries that wait for messages of the shard's stream."""


@dataclass(frozen=True, slots=True)
class _Pending:
    seq: int
    entry: ReplicaEntry
    size_bytes: int


@dataclass(slots=True)
class FollowedCopy:
    """On the follow thread.

    ``shard``: None while nothing is open. ``stored``: number of the last entry that it has in this session.

    ``session``: whose steps and entries are taken; None: nobody's. ``joining``: what has come in so far. ``is_live``:
    ``shard`` is what the session brought, so that its entries belong there. ``source``: of its messages, if it is fed
    by a stream. ``is_source_doubted``: a session ended while messages were missing here.
    ``is_aside``: it is in another thread's hand; ``wanted``: who gets it then. ``unwanted``: that thread should not
    take longer than it must, as somebody does. ``upkeep_problem``: what the last piece of upkeep failed with.
    """

    order: OpenShard
    session: int | None = None
    shard: Shard | None = None
    stored: int = 0
    is_live: bool = False
    joining: Joining | None = None
    next_piece: int = 0
    source: SourceReader | None = None
    is_source_doubted: bool = False
    is_aside: bool = False
    upkeep_problem: str = ""
    wanted: list[GiveTo] = field(default_factory=list)
    unwanted: threading.Event = field(default_factory=threading.Event)
    _pending: deque[_Pending] = field(default_factory=deque)
    _pending_bytes: int = 0
    _asked: list[tuple[int, Answer]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"dataset {self.order.config.name} shard {self.order.shard}"

    @property
    def _received(self) -> int:
        return self._pending[-1].seq if self._pending else self.stored

    # ---- sessions

    def go_live(self, shard: Shard, seq: int, *, is_live: bool) -> None:
        """``shard`` has all entries up to ``seq``. ``is_live``: the session that brought it goes on."""
        self.shard, self.stored, self.is_live = shard, seq, is_live

    def end_session(self, problem: FilorayError | None = None) -> None:
        """``problem``: why, for who waits; None: somebody wants it so."""
        self.session, self.is_live = None, False
        joining, self.joining = self.joining, None
        if joining is not None:
            joining.abort()
        source, self.source = self.source, None
        if source is not None:
            source.close()
        if self._pending and is_polled(self.order.config):
            self.is_source_doubted = True
        self._pending.clear()
        self._pending_bytes = 0
        asked, self._asked = self._asked, []
        for _, answer in asked:
            answer(problem or StaleRoute(f"{self.name}: that session is over"))

    def read_source(self, limits: DatasetLimits, on_more: Callable[[], None]) -> None:
        """From behind what it has, where a stream feeds it. ``on_more``: called when ``carry_out`` gets further.

        Raises RuntimeError if there can be no thread.
        """
        order = self.order
        if not self.is_live or not is_polled(order.config):
            return
        assert self.shard is not None

        def reopen(offset: int) -> IngestionStream:
            stream = open_stream(order.config, order.shard, offset, limits)
            assert stream is not None, "its source is polled"
            return stream

        self.source = SourceReader(self.name, reopen, self.shard.stream_offset, on_more)
        self.source.start()

    # ---- entries

    def take(self, first: int, frames: Frames) -> None:
        """Entries from that number on. What comes twice is passed over.

        Raises StaleRoute where one is missing, Unavailable if too much waits, and as ``carry_out``.
        """
        for seq, frame in enumerate(frames, first):
            if seq <= self._received:
                continue
            if seq != self._received + 1:
                raise StaleRoute(f"{self.name}: entry {seq} comes where {self._received + 1} belongs")
            entry = decode_entry(bytes(frame), f"{self.name}: entry {seq}")
            self._pending.append(_Pending(seq, entry, len(frame)))
            self._pending_bytes += len(frame)
            self.carry_out()
        if self._pending_bytes > _PENDING_BYTES_MAX:
            raise Unavailable(
                f"{self.name}: entries of {self._pending_bytes} bytes wait for messages that its source has not given"
            )

    def carry_out(self) -> None:
        """As many entries as can be. Raises what Shard.follow does, and StreamFailed for messages that are gone."""
        assert self.shard is not None
        while self._pending:
            messages = self._messages(self._pending[0].entry)
            if messages is None:
                return
            self.shard.follow(self._pending[0].entry, messages)
            done = self._pending.popleft()
            self.stored = done.seq
            self._pending_bytes -= done.size_bytes

    def _messages(self, entry: ReplicaEntry) -> Sequence[bytes | memoryview] | None:
        """That go with the entry; None: they were not read yet."""
        if not isinstance(entry, StreamedEntry):
            return ()
        assert self.source is not None, "it is open, and fed by a stream"
        return self.source.take(entry.offsets)

    # ---- who waits for them

    def tell_when_stored(self, seq: int, answer: Answer) -> None:
        self._asked.append((seq, answer))
        self.answer_asked()

    def answer_asked(self) -> None:
        """Those who wait for what is stored by now."""
        asked, self._asked = self._asked, []
        for seq, answer in asked:
            if seq <= self.stored:
                answer(encode_stored([Stored(self.stored)]))
            else:
                self._asked.append((seq, answer))
