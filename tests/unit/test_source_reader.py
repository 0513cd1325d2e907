"""A copy reads its stream ahead, and gets the messages that its leader names, or hears of them later."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence

import pytest
from waiting import wait_until

from filoray.nodes.streams import source_reader
from filoray.nodes.streams.source_reader import SourceReader
from filoray.nodes.streams.stream import ProblemReport, StreamBatch, StreamFailed

Piece = Sequence[StreamBatch] | StreamFailed


class Source:
    """Messages as they are put: those of one poll, or what it fails with. ``opened``: behind which offsets."""

    def __init__(self) -> None:
        self.pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()
        self.opened: list[int] = []
        self.polled = 0
        self.closed = 0
        self.refuses = ""

    def open(self, offset: int) -> Stream:
        self.opened.append(offset)
        if self.refuses:
            raise StreamFailed(self.refuses)
        return Stream(self, offset)

    def put(self, *offsets: int, data: bytes = b"") -> None:
        self.pieces.put([StreamBatch(data or f"m{offset}".encode(), offset) for offset in offsets])


class Stream:
    def __init__(self, source: Source, offset: int) -> None:
        self._source = source
        self.position = offset
        self.ended = False
        self.problems = ProblemReport("a source")

    def poll(self, timeout_ms: int) -> Sequence[StreamBatch]:
        try:
            piece = self._source.pieces.get(timeout=timeout_ms / 1000)
        except queue.Empty:
            return ()
        if isinstance(piece, StreamFailed):
            raise piece
        self._source.polled += 1
        self.position = piece[-1].offset
        return piece

    def end_offset(self) -> int | None:
        return None

    def known_end(self) -> int | None:
        return None

    def commit(self, offset: int) -> None: ...

    def close(self) -> None:
        self._source.closed += 1


class Reading:
    def __init__(self) -> None:
        self.source = Source()
        self.came = threading.Semaphore(0)
        self.reader = SourceReader("d 0", self.source.open, 9, self.came.release)
        self.reader.start()

    def take_when_there(self, *offsets: int) -> object:
        return wait_until(lambda: self.reader.take(offsets), f"{offsets} are read")


@pytest.fixture
def reading() -> Iterator[Reading]:
    reading = Reading()
    yield reading
    reading.reader.close()
    wait_until(lambda: reading.source.closed == len(reading.source.opened), "what was opened is closed")


def test_messages_come_as_they_are_named_and_what_is_between_is_passed_over(reading: Reading) -> None:
    reading.source.put(10, 11, 12, 13)
    reading.source.put(14, 15)
    assert reading.take_when_there(10, 12) == [b"m10", b"m12"]
    assert reading.take_when_there(13, 15) == [b"m13", b"m15"]
    assert reading.source.opened == [9]


def test_who_comes_too_early_is_told_once_when_all_is_there(reading: Reading) -> None:
    assert reading.reader.take((10, 14)) is None
    reading.source.put(10, 11)
    assert not reading.came.acquire(timeout=0.3), "the last of them is not there"
    reading.source.put(14)
    assert reading.came.acquire(timeout=60)
    assert reading.reader.take((10, 14)) == [b"m10", b"m14"]
    reading.source.put(15)
    assert not reading.came.acquire(timeout=0.3)


def test_a_message_that_is_not_there_any_more_is_said_so(reading: Reading) -> None:
    reading.source.put(12)
    wait_until(lambda: reading.source.polled, "it is read")
    with pytest.raises(StreamFailed, match="d 0: its leader has appended offset 11, which its source has not"):
        reading.take_when_there(11, 12)


def test_a_source_that_fails_is_opened_again_behind_what_was_read(reading: Reading) -> None:
    reading.source.put(10, 11)
    reading.source.pieces.put(StreamFailed("no broker"))
    reading.source.put(12)
    assert reading.take_when_there(10, 12) == [b"m10", b"m12"]
    assert reading.source.opened == [9, 11]
    assert reading.source.closed == 1


def test_it_reads_ahead_only_as_far_as_there_is_room_or_somebody_waits(
    monkeypatch: pytest.MonkeyPatch, reading: Reading
) -> None:
    monkeypatch.setattr(source_reader, "_AHEAD_BYTES_MAX", 10)
    for offset in range(10, 20):
        reading.source.put(offset, data=b"12345")
    wait_until(lambda: reading.source.polled >= 2, "it reads")
    assert not reading.came.acquire(timeout=0.5)
    assert reading.source.polled <= 3, "one more may have been on its way"
    assert reading.reader.take((15,)) is None
    assert reading.came.acquire(timeout=60)
    assert reading.reader.take((15,)) == [b"12345"]
