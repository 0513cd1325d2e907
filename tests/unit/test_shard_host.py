"""The shards of one node, beside each other: what goes wrong with one costs the others nothing."""

from __future__ import annotations

import dataclasses
import gc
import os
import re
import resource
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
import pytest
from shards import container
from waiting import wait_until

from filoray.cluster.config.dataset import DatasetConfig, parse_dataset_config
from filoray.cluster.control.shard_slot import NodeLimits
from filoray.cluster.control.shard_status import IngestionError, IngestionStarted, ShardEvent
from filoray.cluster.errors import LeaseLapsed, StaleRoute, Unavailable
from filoray.cluster.process import open_files
from filoray.cluster.process.clocks import wall_ms
from filoray.nodes.data.write_outcome import WriteOutcome
from filoray.nodes.host import host_shards
from filoray.nodes.host.append_jobs import PendingWrite
from filoray.nodes.host.lease import Lease
from filoray.nodes.host.shard_host import ShardHost
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.shard_spec import ShardSpec
from filoray.nodes.wire.write_reply import Refused, ShardWriteReply

SHARDS = 7
UP = {"__name__": "up"}


class Node:
    def __init__(self, data_dir: Path, lease: Lease | None = None) -> None:
        self.data_dir = data_dir
        self.events: list[tuple[int, ShardEvent]] = []
        self.host = ShardHost(
            "node-0", data_dir, lambda dataset, shard, epoch, event: self.events.append((shard, event)), lease=lease
        )

    def start(self, shards: Sequence[int], **store: object) -> DatasetConfig:
        config = dataset_config(**store)
        self.host.start_shards(config, [(shard, 1) for shard in shards])
        return config

    def is_open(self, shard: int) -> bool:
        return any(number == shard and isinstance(event, IngestionStarted) for number, event in list(self.events))

    def reasons(self, shard: int) -> list[str]:
        return [e.reason for number, e in list(self.events) if number == shard and isinstance(e, IngestionError)]

    def shard(self, number: int) -> Shard:
        (shard,) = self.host.readable("d", [(number, 1)])
        return shard

    def write(self, number: int, data: bytes) -> Answer:
        answer = Answer()
        self.host.submit("d", [(number, 1)], [data], PendingWrite(answer.take, [None]))
        return answer


class Answer:
    def __init__(self) -> None:
        self._replies: list[ShardWriteReply] = []
        self._is_there = threading.Event()

    def take(self, replies: Sequence[ShardWriteReply]) -> None:
        self._replies.extend(replies)
        self._is_there.set()

    def wait(self) -> ShardWriteReply:
        assert self._is_there.wait(20), "no answer"
        return self._replies[0]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.host.close()


def dataset_config(**store: object) -> DatasetConfig:
    body = {
        "dataset": "d", "num-shards": 8, "min-num-nodes": 1,
        "sourcefactory": "filoray.nodes.streams.LogStreamFactory", "sourceconfig": {"store": store},
    }  # fmt: skip
    return parse_dataset_config(orjson.dumps(body).decode(), "d")


def sample(time_ms: int, value: float = 1.0) -> bytes:
    return container([(UP, [(time_ms, value)])])


def test_shards_that_do_not_open_keep_no_other_from_opening(node: Node) -> None:
    (node.data_dir / "d").mkdir()
    damaged = range(SHARDS - 1)
    for shard in damaged:
        (node.data_dir / "d" / f"shard-{shard}.db").write_bytes(b"this is no database " * 1000)
    node.start(range(SHARDS))
    wait_until(lambda: node.is_open(SHARDS - 1), "the sound shard, the last in line, is open")
    wait_until(lambda: all(node.reasons(shard) for shard in damaged), "every damaged shard says why it is not")
    assert "shard-3.db: file is not a database" in node.reasons(3)[0]
    (node.data_dir / "d" / "shard-3.db").unlink()
    wait_until(lambda: node.is_open(3), "a shard whose file was mended opens by itself")


def test_a_shard_that_cannot_flush_keeps_no_other_from_flushing(node: Node) -> None:
    config = node.start([0, 1, 2], **{"flush-interval": "100ms", "groups-per-shard": 1})
    wait_until(lambda: all(node.is_open(shard) for shard in range(3)), "all are open")
    for shard in range(3):
        assert isinstance(node.write(shard, sample(1)).wait(), WriteOutcome)
    # A later owner, which this node has not heard of: whatever the first shard writes is refused from now on.
    thief = Shard.open(ShardSpec("d", 0, 2, node.data_dir / "d" / "shard-0.db", config.store))
    for shard in (1, 2):
        node.write(shard, sample(2)).wait()
        wait_until(lambda shard=shard: node.shard(shard).stats().buffered_samples == 0, f"shard {shard} flushes")  # type: ignore[misc]
    assert node.shard(0).stats().samples == 1
    thief.close()


def test_shards_take_turns_in_upkeep(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.start([0, 1, 2])
    wait_until(lambda: all(node.is_open(shard) for shard in range(3)), "all are open")
    seen: list[int] = []

    def always_more(shard: Shard, now_ms: int, wall_ms: int) -> bool:
        seen.append(shard.spec.shard)
        return True

    monkeypatch.setattr(Shard, "upkeep", always_more)
    wait_until(lambda: len(seen) >= 30, "upkeep goes on")
    monkeypatch.undo()
    assert {seen.count(shard) for shard in range(3)} <= {len(seen) // 3, len(seen) // 3 + 1}


def test_a_bad_container_costs_its_sender_only(node: Node) -> None:
    node.start([0])
    wait_until(lambda: node.is_open(0), "it is open")
    wrong = bytearray(container([({"__name__": "x"}, [(1, 1.0)])]))
    wrong[-1] ^= 1  # the last byte of the part key
    go_on = threading.Event()
    node.host.threads.run(go_on.wait)
    answers = [node.write(0, data) for data in (sample(1), bytes(wrong), b"no container", sample(2))]
    go_on.set()  # all four wait by now, so that they share a round
    first, second, third, fourth = [answer.wait() for answer in answers]
    assert (first, fourth) == (WriteOutcome(1), WriteOutcome(1))
    for refused, word in ((second, "hash"), (third, "not a record container")):
        assert isinstance(refused, Refused)
        assert refused.error_class == "BadData"
        assert word in refused.message
    assert node.shard(0).stats().samples == 2


def test_a_sender_that_cannot_be_answered_stops_nothing(node: Node) -> None:
    node.start([0])
    wait_until(lambda: node.is_open(0), "it is open")

    def gone(replies: Sequence[ShardWriteReply]) -> None:
        raise OSError("the connection is closed")

    node.host.submit("d", [(0, 1)], [sample(1)], PendingWrite(gone, [None]))
    assert node.write(0, sample(2)).wait() == WriteOutcome(1)
    assert node.shard(0).stats().samples == 2


def stored(node: Node, config: DatasetConfig, number: int) -> Path:
    return node.data_dir / config.storage_name / f"shard-{number}.db"


def set_up_anew(node: Node, config: DatasetConfig, epoch: int) -> DatasetConfig:
    node.events.clear()
    anew = dataclasses.replace(config, generation=config.generation + 1)
    node.host.start_shards(anew, [(0, epoch)])
    wait_until(lambda: node.is_open(0), "the new data set's shard is open")
    return anew


def test_a_deletion_that_comes_late_and_twice_touches_no_later_data_set_of_the_name(node: Node) -> None:
    first = node.start([0, 1])
    wait_until(lambda: node.is_open(0) and node.is_open(1), "all are open")
    node.host.delete_shards("d", 0, [0, 1])
    assert not (node.data_dir / "d").exists()
    second = set_up_anew(node, first, 2)
    assert second.storage_name == "d@1"

    node.host.delete_shards("d", 0, [0, 1])  # the same order again
    node.host.start_shards(first, [(1, 1)])  # and one that it overtook
    answer = Answer()
    node.host.submit("d", [(0, 2)], [sample(1)], PendingWrite(answer.take, [None]))
    assert isinstance(answer.wait(), WriteOutcome)
    assert stored(node, second, 0).exists()
    assert [(held.shard, held.epoch) for held in node.host.held()] == [(0, 2)]
    assert not (node.data_dir / "d").exists(), "nothing of the deleted data set is made again"
    with pytest.raises(StaleRoute):
        node.host.readable("d", [(0, 1)])

    node.host.delete_shards("d", 1, [0])
    assert not (node.data_dir / "d@1").exists()


def test_deleting_what_another_node_held_leaves_what_is_held_here_of_a_later_data_set(node: Node) -> None:
    first = node.start([])
    old = node.data_dir / "d"
    old.mkdir()
    for suffix in ("db", "db-wal", "made", "metrics"):
        (old / f"shard-0.{suffix}").touch()
    second = set_up_anew(node, first, 5)
    node.host.delete_shards("d", 0, [0])
    assert not old.exists()
    assert stored(node, second, 0).exists()
    assert [(held.shard, held.epoch) for held in node.host.held()] == [(0, 5)]


def test_a_stop_that_comes_late_does_not_stop_what_was_started_since(node: Node) -> None:
    config = node.start([0])
    wait_until(lambda: node.is_open(0), "it is open")
    node.host.stop_shards("d", [(0, 1)])
    assert node.host.held() == ()
    node.events.clear()
    node.host.start_shards(config, [(0, 2)])
    wait_until(lambda: node.is_open(0), "it is open again")
    node.host.stop_shards("d", [(0, 1)])
    assert [held.epoch for held in node.host.held()] == [2]


def test_a_start_that_its_stop_has_passed_opens_nothing(node: Node) -> None:
    node.host.stop_shards("d", [(0, 1)])
    config = node.start([0])
    assert node.host.held() == ()
    assert node.reasons(0) == ["dataset d shard 0: epoch 1 was overtaken here by epoch 1"]
    assert not (node.data_dir / "d").exists()
    node.host.start_shards(config, [(0, 2)])
    wait_until(lambda: node.is_open(0), "a later one does")


def test_two_that_stop_a_shard_are_both_answered_when_it_is_closed(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.start([0])
    wait_until(lambda: node.is_open(0), "it is open")
    closes, go_on, close = threading.Event(), threading.Event(), Shard.close

    def close_slowly(shard: Shard) -> None:
        closes.set()
        assert go_on.wait(30)
        close(shard)

    monkeypatch.setattr(Shard, "close", close_slowly)
    stopping = [threading.Thread(target=node.host.stop_shards, args=("d", [(0, 1)])) for _ in range(2)]
    for thread in stopping:
        thread.start()
    assert closes.wait(30)
    stopping[1].join(0.1)
    assert all(thread.is_alive() for thread in stopping)
    assert [held.epoch for held in node.host.held()] == [1], "whoever asks hears of it"
    go_on.set()
    for thread in stopping:
        thread.join(30)
    assert node.host.held() == ()


def test_an_order_that_is_given_twice_is_carried_out_once_and_told_again(node: Node) -> None:
    config = node.start([0])
    (node.data_dir / "d" / "shard-1.db").mkdir(parents=True)
    node.start([1])
    wait_until(lambda: node.is_open(0) and bool(node.reasons(1)), "one is open and one cannot be")
    opened = node.shard(0)
    node.events.clear()
    node.host.start_shards(config, [(0, 1), (1, 1)])
    assert node.is_open(0)
    assert "shard-1.db: cannot open" in node.reasons(1)[0]
    assert node.shard(0) is opened


def test_a_shard_whose_place_is_gone_is_in_error_until_it_is_back(node: Node) -> None:
    """As a volume that is not mounted: at the start, under a living owner, and by itself when it is there again."""
    config = node.start([0])
    wait_until(lambda: node.is_open(0), "it is open")
    assert isinstance(node.write(0, sample(1)).wait(), WriteOutcome)
    place, away = node.data_dir / "d", node.data_dir / "unmounted"
    place.rename(away)
    refused = node.write(0, sample(2)).wait()
    assert isinstance(refused, Refused)
    # Whichever looks first, the write or the upkeep, which opens it anew.
    said = ("was removed or replaced while it was open", "not open here", "being opened here")
    assert any(words in refused.message for words in said), refused.message
    wait_until(lambda: len(node.reasons(0)) >= 2, "it says so, and why it does not open")
    assert "was removed or replaced while it was open" in node.reasons(0)[0]
    assert "the shard was open before, and nothing of it is here; is the volume mounted?" in node.reasons(0)[1]
    assert not place.exists(), "nothing is made in its place"

    node.host.stop_shards("d", [(0, 1)])
    node.events.clear()
    node.host.start_shards(config, [(0, 2)], [0])
    wait_until(lambda: bool(node.reasons(0)), "the next owner says so too")
    assert not place.exists()
    away.rename(place)
    wait_until(lambda: node.is_open(0), "it is back")
    (shard,) = node.host.readable("d", [(0, 2)])
    assert shard.stats().samples == 1


def test_a_shard_that_does_not_close_well_is_opened_anew_all_the_same(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.start([0])
    wait_until(lambda: node.is_open(0), "it is open")
    assert isinstance(node.write(0, sample(1)).wait(), WriteOutcome)
    close = Shard.close

    def closes_badly(shard: Shard) -> None:
        monkeypatch.undo()
        close(shard)
        raise OSError("input/output error")

    monkeypatch.setattr(Shard, "close", closes_badly)
    place, away = node.data_dir / "d", node.data_dir / "unmounted"
    place.rename(away)
    assert isinstance(node.write(0, sample(2)).wait(), Refused)
    wait_until(lambda: bool(node.reasons(0)), "it is in error")
    node.events.clear()
    away.rename(place)
    wait_until(lambda: node.is_open(0), "it is open again")
    assert isinstance(node.write(0, sample(3)).wait(), WriteOutcome)


def test_an_operator_may_have_a_lost_shard_begin_anew(node: Node) -> None:
    config = node.start([])
    node.host.start_shards(config, [(0, 2)], [0])
    wait_until(lambda: bool(node.reasons(0)), "nothing is there")
    (node.data_dir / "d").mkdir()
    assert "make a file shard-0.made" in node.reasons(0)[0]
    (node.data_dir / "d" / "shard-0.made").touch()
    wait_until(lambda: node.is_open(0), "it begins anew")
    (shard,) = node.host.readable("d", [(0, 2)])
    assert "its samples are missing" in shard.stats().damages[0]


def test_a_shard_whose_file_is_ahead_says_so_and_opens_above_it(node: Node) -> None:
    config = dataset_config()
    Shard.open(ShardSpec("d", 0, 7, node.data_dir / "d" / "shard-0.db", config.store)).close()
    node.start([0])
    wait_until(lambda: bool(node.reasons(0)), "it says why it is not open")
    event = next(event for _, event in node.events if isinstance(event, IngestionError))
    assert event.stored_epoch == 7
    node.host.start_shards(config, [(0, 8)])
    wait_until(lambda: node.is_open(0), "it is open")


@pytest.fixture
def few_files(node: Node) -> Iterator[int]:
    """As many shards as this process has files for, beside those that are kept."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    shards = 3
    gc.collect()  # what earlier tests dropped would be closed later, and be room for more
    in_use = len(os.listdir("/proc/self/fd"))
    soft = in_use + open_files.FILES_KEPT + shards * open_files.FILES_PER_SHARD
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, limits[1]))
    yield shards
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_shards_leave_files_for_connections_and_say_which_have_none(node: Node, few_files: int) -> None:
    node.start(range(8))
    wait_until(lambda: all(node.is_open(i) or node.reasons(i) for i in range(8)), "each is open or says why not")
    opened = [shard for shard in range(8) if node.is_open(shard)]
    assert few_files <= len(opened) <= few_files + 3, "a shard takes somewhat less than is reckoned with"
    (refused, *_) = set(range(8)) - set(opened)
    assert re.search(r"files are open in this node with its \d shards; 256 are kept", node.reasons(refused)[0])
    kept = [socket.socket() for _ in range(open_files.FILES_KEPT - 20)]
    assert isinstance(node.write(opened[0], sample(1)).wait(), WriteOutcome), "what is open goes on"
    for one in kept:
        one.close()
    node.host.stop_shards("d", [(shard, 1) for shard in opened])
    wait_until(lambda: node.is_open(refused), "there is room again")


def test_a_node_takes_the_files_that_the_system_allows_it(few_files: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert open_files.raise_limit() == min(hard, 1 << 20) > soft
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(hard, 1 << 20), hard)


def test_a_node_that_may_start_no_more_threads_says_so_and_goes_on_when_it_may(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = node.start([0], **{"flush-interval": "100ms", "groups-per-shard": 1})
    wait_until(lambda: node.is_open(0), "it is open")

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        node.host.start_shards(config, [(shard, 1) for shard in range(1, 8)])
        wait_until(lambda: all(node.reasons(shard) for shard in range(1, 8)), "those that do not open say why")
        assert node.reasons(7)[0] == "RuntimeError: can't start new thread"
        with pytest.raises(Unavailable, match="can't start new thread"):
            node.host.delete_shards("other", 0, [0])
        with patch.context() as full:
            full.setattr(Shard, "upkeep", fail)
            time.sleep(0.7)
        assert isinstance(node.write(0, sample(1)).wait(), WriteOutcome)
        wait_until(lambda: node.shard(0).stats().buffered_samples == 0, "a flush that failed is tried again")
    wait_until(lambda: all(node.is_open(shard) for shard in range(8)), "all are open")
    node.host.delete_shards("other", 0, [0])


@pytest.mark.parametrize("jump_ms", [25 * 3_600_000, -365 * 86_400_000])
def test_a_tick_of_a_wrong_clock_drops_nothing_and_is_logged(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, jump_ms: int
) -> None:
    node.start([0], **{"flush-interval": "100ms", "groups-per-shard": 1, "disk-time-to-live": "24 hours"})
    wait_until(lambda: node.is_open(0), "it is open")
    assert isinstance(node.write(0, sample(1)).wait(), WriteOutcome)
    wait_until(lambda: node.shard(0).stats().chunks == 1, "it is flushed")
    ticks: list[int] = []

    def wrong_ms() -> int:
        ticks.append(1)
        return wall_ms() + jump_ms

    monkeypatch.setattr(host_shards, "wall_ms", wrong_ms)
    wait_until(lambda: len(ticks) > 3, "upkeep has seen the wrong clock")
    monkeypatch.undo()
    wait_until(lambda: caplog.text.count("the clock jumped by") >= 2, "there and back")
    assert node.shard(0).stats().samples == 1
    assert isinstance(node.write(0, sample(2)).wait(), WriteOutcome)


def test_a_node_whose_lease_has_ended_answers_neither_reads_nor_writes(tmp_path: Path) -> None:
    now_ms = 0
    lease = Lease(is_needed=True, now_ms=lambda: now_ms)
    lease.renew(0, 1000)
    node = Node(tmp_path, lease)
    node.start([0])
    wait_until(lambda: node.is_open(0), "it is open")
    assert isinstance(node.write(0, sample(1)).wait(), WriteOutcome)
    assert node.shard(0).stats().samples == 1
    now_ms = 1000
    with pytest.raises(LeaseLapsed):
        node.shard(0)
    with pytest.raises(LeaseLapsed):
        node.host.metadata_files("d", [(0, 1)])
    refused = node.write(0, sample(2)).wait()
    assert isinstance(refused, Refused)
    assert refused.error_class == "LeaseLapsed"
    lease.renew(900, 1000)
    assert isinstance(node.write(0, sample(2)).wait(), WriteOutcome)
    assert node.shard(0).stats().samples == 2
    node.host.close()


@pytest.mark.parametrize("deletes_own_only", [True, False])
def test_on_a_machine_of_its_own_a_node_deletes_nobody_elses_copies(tmp_path: Path, *, deletes_own_only: bool) -> None:
    """They may be a lost cluster's, whose data set had the same name: their node is refused until somebody decides."""
    paths = [tmp_path / "copies" / node / "d" / "shard-0.db" for node in ("node-0", "node-1")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.touch()
    limits = NodeLimits(deletes_own_only=deletes_own_only)
    host = ShardHost("node-0", tmp_path, lambda *report: None, node_limits=limits)
    host.delete_shards("d", 0, [0, 1])
    assert [path.exists() for path in paths] == [False, deletes_own_only]
    host.close()
