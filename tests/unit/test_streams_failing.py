"""A shard's consumer whose source, shard or copies fail it: no message is lost, and none comes twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from shards import ALL_TIME, NOW_MS, container, samples_of, shard_spec
from waiting import wait_until

from filoray.cluster.control.shard_status import ShardEvent
from filoray.cluster.errors import CopiesJoining, Unavailable
from filoray.nodes.data.write_outcome import AppendReply
from filoray.nodes.memstore.ingestion import Ingestion
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.streams.consumer import AnswerAppend, StreamConsumer
from filoray.nodes.streams.stream import ProblemReport, StreamBatch, StreamFailed


class Source:
    """A log in memory, of which each stream gives all there is at once; it can be away."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.is_away = False
        self.opened_behind: list[int | None] = []

    def add(self, count: int) -> None:
        """So many messages at once, of one sample each."""
        first = len(self.messages)
        times_s = range(first, first + count)
        self.messages += [container([({"__name__": "up"}, [(NOW_MS + 1000 * s, float(s))])]) for s in times_s]

    def open(self, offset: int | None) -> SourceStream:
        self.check()
        self.opened_behind.append(offset)
        return SourceStream(self, -1 if offset is None else offset)

    def leave(self) -> None:
        self.is_away = True

    def check(self) -> None:
        if self.is_away:
            raise StreamFailed("the source is away")


class SourceStream:
    ended = False

    def __init__(self, source: Source, position: int) -> None:
        self._source = source
        self.position = position
        self.problems = ProblemReport("the source")

    def poll(self, timeout_ms: int) -> Sequence[StreamBatch]:
        self._source.check()
        first, self.position = self.position + 1, len(self._source.messages) - 1
        if self.position < first:
            time.sleep(0.001)
        return [StreamBatch(self._source.messages[offset], offset) for offset in range(first, self.position + 1)]

    def end_offset(self) -> int | None:
        self._source.check()
        return self.known_end()

    def known_end(self) -> int | None:
        return len(self._source.messages) - 1

    def commit(self, offset: int) -> None: ...

    def close(self) -> None: ...


class Fed:
    """A shard and its consumer.

    ``before_append`` is called before each group, and may raise. ``may_answer``: groups are answered when it is set.
    """

    def __init__(self, path: Path) -> None:
        self.source = Source()
        self.shard = Shard.open(shard_spec(path))
        self.events: list[ShardEvent] = []
        self.groups: list[list[int]] = []
        self.before_append: Callable[[], None] = lambda: None
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.consumer = StreamConsumer("shard 3", self.shard, self.source.open, lambda act: act(), self.events.append)

    def start(self) -> None:
        self.consumer.recover(lambda percent: None, threading.Event())
        self.consumer.start(self._append)

    def close(self) -> None:
        self.may_answer.set()
        self.consumer.stop()
        self.consumer.join(60)
        self.shard.close()

    def _append(self, containers: Sequence[bytes | memoryview], offsets: Sequence[int], answer: AnswerAppend) -> None:
        self.before_append()
        self.groups.append(list(offsets))
        replies = self.shard.append(containers, offsets)
        if self.may_answer.is_set():
            answer(replies)
        else:
            threading.Thread(target=self._answer_in_time, args=(answer, replies)).start()

    def _answer_in_time(self, answer: AnswerAppend, replies: list[AppendReply]) -> None:
        self.may_answer.wait()
        answer(replies)

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    def wait_for_events(self, *names: str) -> None:
        wait_until(lambda: self.names == [*names], lambda: f"{names}, reported: {self.events}")

    def count(self) -> int:
        return sum(len(samples) for samples in samples_of(self.shard.select([], *ALL_TIME)).values())

    def wait_for_samples(self, count: int) -> None:
        wait_until(lambda: self.count() == count, lambda: f"{count} samples: {self.count()}")


@pytest.fixture
def fed(tmp_path: Path) -> Iterator[Fed]:
    fed = Fed(tmp_path)
    yield fed
    fed.close()


def test_what_was_being_stored_when_the_source_failed_is_not_read_again(fed: Fed) -> None:
    fed.start()
    fed.may_answer.clear()
    fed.before_append = fed.source.leave
    fed.source.add(3)
    fed.wait_for_events("IngestionError")
    fed.before_append = lambda: None
    fed.source.is_away = False
    fed.source.add(2)
    assert fed.source.opened_behind == [None], "not before it is known what became of the group"
    fed.may_answer.set()
    fed.wait_for_events("IngestionError", "IngestionStarted")
    assert [offset for group in fed.groups for offset in group] == [0, 1, 2, 3, 4]
    assert fed.count() == 5


def test_a_source_that_fails_before_its_first_message_is_read_on_from_where_the_shard_began(fed: Fed) -> None:
    fed.start()
    assert fed.shard.stream_checkpoint == -1, "durable before it is served"
    fed.source.leave()
    fed.wait_for_events("IngestionError")
    fed.source.add(2)
    fed.source.is_away = False
    fed.wait_for_samples(2)
    assert fed.source.opened_behind == [None, -1]


def test_of_a_group_that_failed_half_way_only_the_rest_is_read_again(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    fed.start()
    apply, calls = Ingestion.apply, []

    def apply_but_the_third(*args: object) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise Unavailable("a chunk cannot be read")
        apply(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Ingestion, "apply", apply_but_the_third)
    fed.source.add(4)
    fed.wait_for_events("IngestionError", "IngestionStarted")
    assert fed.source.opened_behind == [None, 1]
    assert fed.groups == [[0, 1, 2, 3], [2, 3]]
    fed.wait_for_samples(4)


def test_a_source_that_is_back_while_copies_are_missing_is_no_failure_any_more(fed: Fed) -> None:
    fed.start()

    def refuse() -> None:
        raise CopiesJoining("1 of 2 copies are in sync")

    fed.before_append = refuse
    fed.source.is_away = True
    fed.wait_for_events("IngestionError")
    fed.source.add(2)
    fed.source.is_away = False
    fed.wait_for_events("IngestionError", "IngestionStarted")
    wait_until(lambda: fed.consumer.lag == 2, lambda: f"a lag of {fed.consumer.lag}")
    assert fed.count() == 0
    fed.before_append = lambda: None
    fed.wait_for_samples(2)
    wait_until(lambda: fed.consumer.lag == 0, lambda: f"a lag of {fed.consumer.lag}")
    assert fed.names == ["IngestionError", "IngestionStarted"]
