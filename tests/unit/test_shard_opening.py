"""Shards whose source does not answer: they cost no other data set anything, say so, and can be stopped and deleted."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import orjson
import pytest
from shards import container
from waiting import wait_until

from filoray.cluster.config.dataset import KAFKA_STREAM_FACTORY, LOG_STREAM_FACTORY, DatasetConfig, parse_dataset_config
from filoray.cluster.control.shard_slot import NodeLimits
from filoray.cluster.control.shard_status import ACTIVE, IngestionError, IngestionStarted, ShardEvent
from filoray.cluster.errors import Unavailable
from filoray.nodes.host.append_jobs import PendingWrite
from filoray.nodes.host.opening_threads import OpeningThreads
from filoray.nodes.host.shard_files import ShardFiles
from filoray.nodes.host.shard_host import ShardHost
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.streams.stream import ProblemReport, StreamBatch

TIMEOUT_MS = 150


def dataset(name: str, factory: str = KAFKA_STREAM_FACTORY, num_shards: int = 8) -> DatasetConfig:
    source = {"sourceconfig": {"filo-topic-name": name, "bootstrap.servers": "127.0.0.1:9"}}
    body = {"dataset": name, "num-shards": num_shards, "min-num-nodes": 1, "sourcefactory": factory}
    return parse_dataset_config(orjson.dumps(body | source).decode(), name)


class Stream:
    """An empty source, or one that promises more than it gives."""

    def __init__(self, end: int | None = None) -> None:
        self.problems = ProblemReport("test")
        self.position = 0 if end else -1
        self.ended = False
        self._end = end

    def poll(self, timeout_ms: int) -> Sequence[StreamBatch]:
        time.sleep(0.01)
        return []

    def end_offset(self) -> int | None:
        return self._end

    def known_end(self) -> int | None:
        return self._end

    def commit(self, offset: int) -> None:
        pass

    def close(self) -> None:
        pass


class Sources:
    """Those of data sets in ``dead`` do not answer until ``revive``."""

    def __init__(self) -> None:
        self.dead = {"dead"}
        self.promising: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.given: list[Stream] = []
        self.revived = threading.Event()
        self.hangs_s: Callable[[], float] = lambda: 0.0
        """How long those that live take to answer."""

    def open(self, config: DatasetConfig, shard: int, offset: int | None, limits: object) -> Stream:
        self.asked[config.name] += 1
        if config.name in self.dead:
            assert self.revived.wait(60)
        time.sleep(self.hangs_s())
        stream = Stream(5 if config.name in self.promising else None)
        self.given.append(stream)
        return stream

    def revive(self) -> None:
        self.dead.clear()
        self.revived.set()


class Node:
    def __init__(self, data_dir: Path, sources: Sources, limits: NodeLimits) -> None:
        self.sources = sources
        self.events: list[tuple[str, int, ShardEvent]] = []
        self.data_dir = data_dir
        self.host = ShardHost(
            "node-0",
            data_dir,
            lambda dataset, shard, epoch, event: self.events.append((dataset, shard, event)),
            node_limits=limits,
        )

    def open_shards(self, name: str) -> set[int]:
        return {shard for dataset, shard, event in list(self.events) if dataset == name
                and isinstance(event, IngestionStarted)}  # fmt: skip

    def reasons(self, name: str, shard: int) -> list[str]:
        return [event.reason for dataset, number, event in list(self.events)
                if (dataset, number) == (name, shard) and isinstance(event, IngestionError)]  # fmt: skip


@pytest.fixture
def limits() -> NodeLimits:
    return NodeLimits(source_timeout_ms=TIMEOUT_MS)


patient = pytest.mark.parametrize("limits", [NodeLimits(source_timeout_ms=3_600_000)])
"""Nothing is done by giving up."""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: NodeLimits) -> Iterator[Node]:
    sources = Sources()
    monkeypatch.setattr("filoray.nodes.host.shard_opener.open_stream", sources.open)
    node = Node(tmp_path, sources, limits)
    yield node
    sources.revive()
    node.host.close()


@patient
def test_a_source_that_does_not_answer_costs_no_other_data_set_anything(node: Node) -> None:
    node.host.start_shards(dataset("dead"), [(shard, 1) for shard in range(8)])
    wait_until(lambda: node.sources.asked["dead"] > 0, "the dead source is asked")
    node.host.start_shards(dataset("living"), [(shard, 1) for shard in range(8)])
    node.host.start_shards(dataset("own-log", LOG_STREAM_FACTORY), [(shard, 1) for shard in range(8)])
    for name in ("living", "own-log"):
        wait_until(lambda name=name: node.open_shards(name) == set(range(8)), f"{name} is open")  # type: ignore[misc]
    assert node.open_shards("dead") == set()


def test_a_shard_whose_source_cannot_be_followed_says_so_and_is_opened_anew(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Stream] = []
    monkeypatch.setattr(Stream, "close", lambda stream: closed.append(stream))
    start = threading.Thread.start

    def start_no_stream(thread: threading.Thread) -> None:
        if thread.name.startswith("stream "):
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_no_stream)
        node.host.start_shards(dataset("living"), [(0, 1)])
        wait_until(lambda: node.reasons("living", 0), "it says why it is not fed")
    assert node.reasons("living", 0)[0] == "RuntimeError: can't start new thread"
    follower = "stream dataset living shard 0"
    wait_until(lambda: any(thread.name == follower for thread in threading.enumerate()), "it is fed")
    wait_until(lambda: node.host.held()[0].status.kind is ACTIVE, "it says so")

    def closes() -> list[int]:
        """Of each stream that this node was given; those of nodes before it may still come back."""
        return sorted(sum(one is stream for one in list(closed)) for stream in list(node.sources.given))

    wait_until(
        lambda: closes() == [0] + [1] * (node.sources.asked["living"] - 1),
        lambda: f"streams that nobody read are closed, once each, and the one that is read is not: {closes()}",
    )


def test_a_shard_whose_source_does_not_answer_says_so_and_opens_when_it_does(node: Node) -> None:
    node.host.start_shards(dataset("dead"), [(shard, 1) for shard in range(8)])
    wait_until(lambda: all(node.reasons("dead", shard) for shard in range(8)), "every shard says why it is not open")
    reason = node.reasons("dead", 3)[0]
    assert "dataset dead shard 3: its source (" in reason
    assert "gave no answer within filoray.node.source-timeout = 0.15 s" in reason
    node.sources.revive()
    wait_until(lambda: node.open_shards("dead") == set(range(8)), "all open by themselves")
    assert len(node.host.readable("dead", [(shard, 1) for shard in range(8)])) == 8


@pytest.mark.parametrize("limits", [NodeLimits(source_timeout_ms=TIMEOUT_MS, retry_delay_max_ms=20)])
def test_attempts_that_hang_do_not_become_more_and_more(node: Node) -> None:
    node.host.start_shards(dataset("dead"), [(0, 1)])
    said = "3 attempts have not come back"
    wait_until(lambda: said in node.host.held()[0].status.reason, "it says that it waits for them")
    assert node.sources.asked["dead"] == 3
    node.sources.revive()
    wait_until(lambda: node.open_shards("dead") == {0}, "it opens when one has come back")


def test_a_source_that_promises_more_than_it_gives_is_said_so(node: Node) -> None:
    node.sources.promising.add("slow")
    node.host.start_shards(dataset("slow"), [(0, 1)])
    wait_until(lambda: bool(node.reasons("slow", 0)), "it says why it is not open")
    assert "the source has offsets up to 5 and gave nothing behind 0 within" in node.reasons("slow", 0)[0]
    node.sources.promising.clear()
    wait_until(lambda: node.open_shards("slow") == {0}, "it opens by itself")


@patient
@pytest.mark.parametrize("way", ["stop", "delete", "a later epoch", "close"])
def test_a_shard_whose_source_hangs_is_let_go_at_once_and_its_late_opening_changes_nothing(
    node: Node, way: str
) -> None:
    config = dataset("dead", num_shards=2)
    node.host.start_shards(config, [(0, 1), (1, 1)])
    wait_until(lambda: node.sources.asked["dead"] == 2, "both hang")
    threads = [opening.thread for opening in node.host.shards.openings() if opening.thread is not None]
    assert len(threads) == 2
    if way == "stop":
        node.host.stop_shards("dead", [(0, 1), (1, 1)])
    elif way == "delete":
        node.host.delete_shards("dead", 0, [0, 1])
        assert not (node.data_dir / "dead").exists()
    elif way == "close":
        node.host.close()
    else:
        node.sources.dead.clear()  # for those who ask from now on; the threads hang on
        node.host.start_shards(config, [(0, 2), (1, 2)])
        wait_until(lambda: node.open_shards("dead") == {0, 1}, "they are open at the later epoch")
    assert all(thread.is_alive() for thread in threads), "nobody waited for them"
    events = len(node.events)
    node.sources.revive()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert len(node.events) == events
    if way == "a later epoch":
        assert len(node.host.readable("dead", [(0, 2), (1, 2)])) == 2
    else:
        assert node.open_shards("dead") == set()
    if way == "delete":
        assert not (node.data_dir / "dead").exists()


@patient
def test_shards_that_wait_for_a_place_to_open_are_let_go_at_once(node: Node) -> None:
    node.host.start_shards(dataset("dead"), [(shard, 1) for shard in range(8)])
    wait_until(lambda: node.sources.asked["dead"] == 2, "as many as there are places hang")
    hanging = {opening.order.shard for opening in node.host.shards.openings() if opening.thread is not None}
    assert len(hanging) == 2
    node.host.stop_shards("dead", [(shard, 1) for shard in range(8) if shard not in hanging])
    node.host.stop_shards("dead", [(shard, 1) for shard in hanging])  # before the others, these had their places
    assert node.host.held() == ()
    assert node.host.shards.openings() == []
    node.host.start_shards(dataset("living"), [(0, 1)])
    wait_until(lambda: node.open_shards("living") == {0}, "another is open")
    node.sources.revive()
    assert node.sources.asked["dead"] == 2, "nobody opens what is wanted no more"
    assert node.open_shards("dead") == set()


def test_what_keeps_a_shard_from_being_closed_or_deleted_is_told_and_it_works_when_ordered_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = dataset("own-log", LOG_STREAM_FACTORY)
    node.host.start_shards(own, [(0, 1)])
    wait_until(lambda: node.open_shards("own-log") == {0}, "it is open")

    def fail(*arguments: object) -> None:
        raise OSError(5, "input/output error")

    for broken, method in ((Shard, "close"), (ShardFiles, "delete")):
        with monkeypatch.context() as patch:
            patch.setattr(broken, method, fail)
            with pytest.raises(Unavailable, match=r"\[Errno 5\] input/output error"):
                node.host.delete_shards("own-log", 0, [0])
        assert list((node.data_dir / "own-log").glob("shard-0.*"))
    node.host.delete_shards("own-log", 0, [0])
    assert not (node.data_dir / "own-log").exists()


@pytest.mark.parametrize("limits", [NodeLimits(source_timeout_ms=50, retry_delay_ms=20, retry_delay_max_ms=100)])
def test_orders_of_any_kind_given_at_once_are_all_answered_and_the_newest_epochs_are_open(node: Node) -> None:
    dice = random.Random(7)
    node.sources.hangs_s = lambda: dice.choice((0, 0, 0, 0.02, 0.2))
    configs = [dataset("living"), dataset("own-log", LOG_STREAM_FACTORY)]
    newest: dict[tuple[str, int], int] = {}
    stopping = []
    for epoch in range(1, 120):
        config = dice.choice(configs)
        shards = dice.sample(range(8), dice.randint(1, 8))
        node.host.start_shards(config, [(shard, epoch) for shard in shards])
        newest |= {(config.name, shard): epoch for shard in shards}
        if dice.random() < 0.7:
            stopped = [(shard, dice.randint(max(0, epoch - 3), epoch)) for shard in range(8)]
            name = dice.choice(configs).name
            stopping.append(threading.Thread(target=node.host.stop_shards, args=(name, stopped)))
            stopping[-1].start()
            for shard, stopped_epoch in stopped:
                if newest.get((name, shard)) == stopped_epoch:
                    del newest[name, shard]
        time.sleep(dice.random() * 0.02)
    for thread in stopping:
        thread.join(30)
        assert not thread.is_alive(), "it was answered"

    def is_settled() -> bool:
        held = {(one.dataset, one.shard): one for one in node.host.held()}
        return {key: one.epoch for key, one in held.items()} == newest and all(
            one.status.kind is ACTIVE for one in held.values()
        )

    wait_until(is_settled, lambda: f"wanted {newest}, held {node.host.held()}")
    for (name, shard), epoch in newest.items():
        assert len(node.host.readable(name, [(shard, epoch)])) == 1
    assert len(node.host.shards.openings()) == len(newest)


def test_deleting_files_that_takes_long_keeps_no_write_waiting(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    own = dataset("own-log", LOG_STREAM_FACTORY)
    node.host.start_shards(own, [(0, 1), (1, 1)])
    wait_until(lambda: node.open_shards("own-log") == {0, 1}, "they are open")
    deletes, go_on, deletion = threading.Event(), threading.Event(), ShardFiles.delete

    def delete_slowly(files: ShardFiles, dataset: str, generation: int, shards: Sequence[int]) -> None:
        deletes.set()
        assert go_on.wait(30)
        deletion(files, dataset, generation, shards)

    monkeypatch.setattr(ShardFiles, "delete", delete_slowly)
    deleting = threading.Thread(target=node.host.delete_shards, args=("own-log", 0, [0]))
    deleting.start()
    assert deletes.wait(30)
    answered = threading.Event()
    sample = container([({"__name__": "up"}, [(1, 1.0)])])
    node.host.submit("own-log", [(1, 1)], [sample], PendingWrite(lambda replies: answered.set(), [None]))
    assert answered.wait(20)
    go_on.set()
    deleting.join(30)
    assert not list((node.data_dir / "own-log").glob("shard-0.*"))


def test_opening_threads_are_shared_among_data_sets_and_freed_by_what_is_given_up() -> None:
    openers = OpeningThreads(count=3, per_source=1)
    running: list[str] = []
    go_on = threading.Event()

    def hold(name: str) -> None:
        running.append(name)
        assert go_on.wait(30)

    for name, has_source in [*[("a", False)] * 5, ("b", False), ("s", True), ("s", True), ("t", True)]:
        openers.submit(name, lambda name=name: hold(name), has_source=has_source)  # type: ignore[misc]
    wait_until(lambda: len(running) == 5, "three with their own logs and one of each source")
    assert Counter(running) == {"a": 3, "s": 1, "t": 1}
    hanging = next(thread for thread in threading.enumerate() if thread.name == "open a")
    for _ in range(2):
        openers.give_up(hanging)
    wait_until(lambda: len(running) == 6, "one more, and only one")
    assert running[-1] == "b", "of the data set that had none"
    openers.submit("fails", lambda: 1 / 0, has_source=True)  # type: ignore[arg-type, return-value]
    go_on.set()
    wait_until(lambda: len(running) == 9, "all had their turn")
    openers.close()
    openers.submit("a", lambda: running.append("after"), has_source=False)
    assert "after" not in running
