"""Leaders and followers of shards, over real files and sockets: what is acknowledged is in every copy in sync."""

from __future__ import annotations

import dataclasses
import logging
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from copying_nodes import DATASET, Answer, CopyingCluster, CopyingNode, copied_dataset
from shards import container
from waiting import wait_until

from filoray.cluster.control.copy_set import CopySet, InSyncProposed
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.errors import ShardNotHere, ShardOpening, Unavailable
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.data.write_outcome import WriteOutcome
from filoray.nodes.host.replication import shard_leader
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.store.copy_checksums import differences, stored_checksums
from filoray.nodes.wire.message_pieces import PIECE_BYTES
from filoray.nodes.wire.write_reply import Refused, ShardWriteReply

UP = {"__name__": "up"}
Shown = dict[tuple[tuple[str, str], ...], list[tuple[int, bytes]]]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[CopyingCluster]:
    cluster = CopyingCluster(tmp_path, ["a", "b"])
    yield cluster
    cluster.close()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[CopyingCluster]:
    cluster = CopyingCluster(tmp_path, ["a", "b", "c"])
    yield cluster
    cluster.close()


def sample(series: int, time_ms: int, value: float = 1.0) -> bytes:
    return container([({**UP, "instance": str(series)}, [(time_ms, value)])])


def write(node: CopyingNode, *times_ms: int, epoch: int = 1, shard: int = 0) -> None:
    """One sample of some series each, acknowledged."""
    for time_ms in times_ms:
        reply = node.write(shard, sample(time_ms % 7, time_ms), epoch).wait()
        assert isinstance(reply, WriteOutcome), reply


def refusal(reply: ShardWriteReply) -> str:
    assert isinstance(reply, Refused), reply
    return f"{reply.error_class}: {reply.message}"


def take_over(cluster: CopyingCluster, shard: int, name: str) -> None:
    cluster.promote(shard, name)
    cluster.after_promotion(shard)
    cluster.wait_shown(shard)


class Load:
    """A sender: one sample after the other to a shard, until it is stopped. ``acknowledged``: their times."""

    def __init__(self, cluster: CopyingCluster, shard: int = 0) -> None:
        self.acknowledged: list[int] = []
        self._cluster = cluster
        self._shard = shard
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._is_over.set()
        self._thread.join()

    def await_more(self, count: int) -> None:
        wanted = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= wanted, lambda: f"{wanted} acknowledged: {self.acknowledged[-1:]}")

    def _run(self) -> None:
        time_ms = 1_000
        while not self._is_over.is_set():
            led = self._cluster.led[self._shard]
            node = self._cluster.nodes.get(led.leader)
            if node is not None:
                answer = node.write(self._shard, sample(time_ms % 5, time_ms), led.epoch)
                if isinstance(wait_or_over(answer, self._is_over), WriteOutcome):
                    self.acknowledged.append(time_ms)
                    time_ms += 1_000
                    continue
            time.sleep(0.002)


def wait_or_over(answer: Answer, is_over: threading.Event) -> ShardWriteReply | None:
    while not answer.is_there:
        if is_over.is_set():
            return None
        time.sleep(0.0005)
    return answer.wait()


def is_quiet(cluster: CopyingCluster, leader: str, shard: int) -> bool:
    """All that it has is in chunks, there and at its followers."""
    (figures,) = [it for it in cluster[leader].host.shards.figures() if it.shard == shard]
    return not figures.unflushed_samples and all(it.lag_entries == 0 for it in figures.followers)


def times(shown: Shown) -> set[int]:
    return {time_ms for samples in shown.values() for time_ms, _ in samples}


def test_what_was_acknowledged_is_served_at_once_by_a_follower_that_takes_over(pair: CopyingCluster) -> None:
    pair.start(copied_dataset(), {0: ("a", ["b"])})
    write(pair["a"], *range(1000, 1020))
    pair.wait_in_sync(0, "a", "b")
    write(pair["a"], *range(2000, 2050))
    shown = pair["a"].samples(0)
    pair.forget("a").close()
    take_over(pair, 0, "b")
    assert pair["b"].samples(0, epoch=2) == shown
    write(pair["b"], 9000, epoch=2)


def test_a_write_is_neither_shown_nor_acknowledged_before_the_follower_has_it(pair: CopyingCluster) -> None:
    pair.start(copied_dataset(), {0: ("a", ["b"])})
    pair.wait_in_sync(0, "a", "b")
    pair.takes_proposals = False
    go_on = threading.Event()
    pair["b"].host.followers.run("waiting for the test", go_on.wait)
    answers = [pair["a"].write(0, sample(1, 1000)), pair["a"].write(0, sample(1, 2000))]
    assert pair["a"].host.threads.run(lambda: "the ingest thread goes on").result(20)
    time.sleep(0.2)
    assert not any(answer.is_there for answer in answers)
    assert pair["a"].samples(0) == {}
    go_on.set()
    assert all(isinstance(answer.wait(), WriteOutcome) for answer in answers)
    assert times(pair["a"].samples(0)) == {1000, 2000}


def test_a_follower_that_is_gone_is_waited_for_until_a_smaller_set_is_told(pair: CopyingCluster) -> None:
    pair.start(copied_dataset(), {0: ("a", ["b"])})
    pair.wait_in_sync(0, "a", "b")
    pair.takes_proposals = False
    pair["b"].cut_off()
    answer = pair["a"].write(0, sample(1, 1000))
    wait_until(
        lambda: any(isinstance(it[3], InSyncProposed) and it[3].in_sync == ("a",) for it in pair.events),
        "it is proposed to go on without it",
    )
    time.sleep(0.2)
    assert not answer.is_there
    assert pair["a"].samples(0) == {}
    pair.take_proposals()
    assert isinstance(answer.wait(), WriteOutcome)
    write(pair["a"], 2000, 3000)
    assert times(pair["a"].samples(0)) == {1000, 2000, 3000}


@pytest.mark.parametrize("lasts", [False, True])
def test_a_node_that_is_away_is_told_of_once_and_its_copies_only_if_it_lasts(
    pair: CopyingCluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, lasts: bool
) -> None:
    pair.start(copied_dataset(), {0: ("a", ["b"]), 1: ("a", ["b"]), 2: ("a", ["b"])})
    for shard in range(3):
        pair.wait_in_sync(shard, "a", "b")
    monkeypatch.setattr(shard_leader, "_PASSING_MS", 0 if lasts else 60_000)
    caplog.set_level(logging.INFO)
    caplog.clear()
    pair["b"].cut_off()
    for shard in range(3):
        pair.wait_in_sync(shard, "a")
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert [text for text in told if "the connection" in text] == [
        "the connection to b was lost: it keeps up no copies for now, shards=3"
    ]
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert sorted(warnings) == [
        f"dataset {DATASET} shard {shard}: its copy on b is not kept up: the connection to it was lost"
        for shard in (range(3) if lasts else ())
    ]


def test_a_follower_that_hangs_is_given_up_after_a_while_and_joins_again(pair: CopyingCluster) -> None:
    pair.start(copied_dataset(), {0: ("a", ["b"])})
    pair.wait_in_sync(0, "a", "b")
    go_on = threading.Event()
    pair["b"].host.followers.run("waiting for the test", go_on.wait)
    begun_s = time.monotonic()
    write(pair["a"], 1000)
    assert 1 < time.monotonic() - begun_s < 20
    assert pair.led[0].copies.in_sync == ("a",)
    go_on.set()
    pair.wait_in_sync(0, "a", "b")
    write(pair["a"], 2000)
    take_over(pair, 0, "b")
    assert times(pair["b"].samples(0, epoch=2)) == {1000, 2000}


def test_a_follower_that_could_not_store_joins_again_when_it_can(
    pair: CopyingCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pair.start(copied_dataset(), {0: ("a", ["b"])})
    pair.wait_in_sync(0, "a", "b")
    with monkeypatch.context() as full_disk:

        def follow(*_: object) -> None:
            raise Unavailable("cannot write: database or disk is full")

        full_disk.setattr(Shard, "follow", follow)
        write(pair["a"], 1000)
        pair.wait_in_sync(0, "a")
    text = f"dataset {DATASET} shard 0: its copy on b is not kept up: cannot write: database or disk is full"
    assert (shard_leader.__name__, logging.WARNING, text) in caplog.record_tuples
    pair.wait_in_sync(0, "a", "b")
    write(pair["a"], 2000)
    take_over(pair, 0, "b")
    assert times(pair["b"].samples(0, epoch=2)) == {1000, 2000}


def test_with_too_few_in_sync_writes_are_refused_and_it_is_said_why(pair: CopyingCluster) -> None:
    pair.start(copied_dataset(least=2), {0: ("a", ["b"])})
    pair.wait_in_sync(0, "a", "b")
    write(pair["a"], 1000)
    gone = pair.forget("b")
    gone.close()

    def refused() -> str:
        return refusal(pair["a"].write(0, sample(1, 2000)).wait())

    assert refused().startswith("CopiesJoining: "), "it may be back in a moment"
    wait_until(lambda: refused().startswith("Unavailable: "), "senders are told")
    text = refused()
    assert text.startswith("Unavailable: dataset d shard 0: 1 of 2 copies are in sync (a), fewer than")
    assert "min-in-sync-replicas = 2; b: " in text
    pair.boot("b").host.follow_shards(pair.config, [(0, 1, pair.led[0].copies.version)])
    pair.tell(0)
    pair.wait_in_sync(0, "a", "b")
    write(pair["a"], 3000)


def test_a_follower_joins_while_it_is_written_to(three: CopyingCluster) -> None:
    config = copied_dataset(replicas=3, **{"flush-interval": "200ms", "groups-per-shard": 2})
    three.start(config, {0: ("a", ["b", "c"])})
    with Load(three) as load:
        three.wait_in_sync(0, "a", "b", "c")
        load.await_more(50)
        for name in ("b", "c", "b"):
            three.forget(name).close()
            load.await_more(30)
            three.boot(name).host.follow_shards(config, [(0, 1, three.led[0].copies.version)])
            three.tell(0)
            three.wait_in_sync(0, "a", "b", "c")
            load.await_more(30)
    shown = three["a"].samples(0)
    assert times(shown) >= set(load.acknowledged)
    three.forget("a").close()
    take_over(three, 0, "c")
    found = three["c"].samples(0, epoch=2)  # what was on its way when the load ended may have come since
    assert {series: found[series][: len(samples)] for series, samples in shown.items()} == shown


def test_all_that_is_acknowledged_outlives_takeovers_under_load(three: CopyingCluster) -> None:
    config = copied_dataset(replicas=3, **{"flush-interval": "300ms", "groups-per-shard": 2})
    three.start(config, {0: ("a", ["b", "c"])})
    with Load(three) as load:
        three.wait_in_sync(0, "a", "b", "c")
        for leader, heir in (("a", "b"), ("b", "c"), ("c", "a"), ("a", "b")):
            load.await_more(40)
            three.forget(leader).close()
            take_over(three, 0, heir)
            load.await_more(10)
            led = three.led[0]
            three.boot(leader)
            led.copies = type(led.copies)(
                led.copies.version + 1, tuple(name for name in "abc" if name != heir), led.copies.in_sync
            )
            three[leader].host.follow_shards(config, [(0, led.epoch, led.copies.version)])
            three.tell(0)
            three.wait_in_sync(0, "a", "b", "c")
    led = three.led[0]
    assert times(three[led.leader].samples(0, led.epoch)) >= set(load.acknowledged)


def test_a_former_leader_that_does_not_know_is_refused_and_acknowledges_nothing(three: CopyingCluster) -> None:
    three.start(copied_dataset(replicas=3), {0: ("a", ["b", "c"])})
    three.wait_in_sync(0, "a", "b", "c")
    write(three["a"], 1000)
    former = three.forget("a")
    take_over(three, 0, "b")
    three.wait_in_sync(0, "b", "c")
    late = former.write(0, sample(1, 2000))
    write(three["b"], 3000, 4000, epoch=2)
    wait_until(
        lambda: all(it.lag_entries is None for it in former.host.shards.figures()[0].followers),
        lambda: f"its followers refuse it: {former.host.shards.figures()}",
    )
    assert not late.is_there
    take_over(three, 0, "c")
    assert times(three["c"].samples(0, epoch=3)) == {1000, 3000, 4000}
    former.close()
    assert refusal(late.wait()).startswith("StaleRoute")


def test_two_nodes_that_lead_and_follow_each_other_never_wait_for_each_other(pair: CopyingCluster) -> None:
    config = copied_dataset(**{"flush-interval": "200ms", "groups-per-shard": 2})
    pair.start(config, {shard: ("ab"[shard % 2], ["ba"[shard % 2]]) for shard in range(8)})
    loads = [Load(pair, shard) for shard in range(8)]
    for load in loads:
        load.__enter__()
    for shard in range(8):
        pair.wait_in_sync(shard, "a", "b")
    for load in loads:
        load.await_more(60)
    for load in loads:
        load.__exit__()
    for node in pair.nodes.values():
        assert node.watch.problem() == ""
    for shard, load in enumerate(loads):
        assert times(pair[pair.led[shard].leader].samples(shard)) >= set(load.acknowledged)
    for shard in range(8):
        leader, follower = "ab"[shard % 2], "ba"[shard % 2]
        wait_until(lambda: is_quiet(pair, leader, shard), lambda: f"{shard} is flushed, here and there")  # noqa: B023
        paths = [pair[name].copy_path(config, shard) for name in (leader, follower)]
        # The last batch may have been made a moment before it counts as lag: it is on its way then.
        wait_until(
            lambda: differences(*map(stored_checksums, paths)) == [],  # noqa: B023
            lambda: f"copies of {shard} differ: {differences(*map(stored_checksums, paths))}",  # noqa: B023
        )


def test_a_shard_that_is_closed_while_a_round_is_open_answers_who_waits(pair: CopyingCluster) -> None:
    pair.start(copied_dataset(), {0: ("a", ["b"])})
    pair.wait_in_sync(0, "a", "b")
    pair.takes_proposals = False
    go_on = threading.Event()
    pair["b"].host.followers.run("waiting for the test", go_on.wait)
    answers = [pair["a"].write(0, sample(1, time_ms)) for time_ms in (1000, 2000, 3000)]
    pair["a"].host.threads.run(lambda: None).result(20)
    pair["a"].host.stop_shards(DATASET, [(0, 1)])
    assert [refusal(answer.wait())[:10] for answer in answers] == ["StaleRoute"] * 3
    go_on.set()


def test_a_node_closes_with_open_rounds_and_followers_that_hang(tmp_path: Path) -> None:
    cluster = CopyingCluster(tmp_path, ["a", "b"])
    cluster.start(copied_dataset(), {shard: ("ab"[shard % 2], ["ba"[shard % 2]]) for shard in range(4)})
    for shard in range(4):
        cluster.wait_in_sync(shard, "a", "b")
    cluster.takes_proposals = False
    go_on = threading.Event()
    cluster["b"].host.followers.run("waiting for the test", go_on.wait)
    answers = [cluster["a"].write(shard, sample(1, 1000)) for shard in (0, 2)]
    begun_s = time.monotonic()
    cluster["a"].close()
    assert time.monotonic() - begun_s < 10
    assert [refusal(answer.wait())[:10] for answer in answers] == ["StaleRoute"] * 2
    go_on.set()
    cluster.close()


def test_who_asks_a_follower_is_told_that_the_shard_is_not_there(pair: CopyingCluster) -> None:
    pair.start(copied_dataset(), {0: ("a", ["b"])})
    pair.wait_in_sync(0, "a", "b")
    with pytest.raises(ShardNotHere, match="only followed here"):
        pair["b"].shard(0)
    (reading,) = pair["b"].host.followers.figures()
    assert (reading.shard, reading.epoch, reading.is_open) == (0, 1, True)
    assert pair["b"].host.shards.figures() == ()
    ((follower,),) = [shard.followers for shard in pair["a"].host.shards.figures()]
    assert (follower.node, follower.in_sync, follower.lag_entries) == ("b", True, 0)
    assert (follower.lag_samples, follower.lag_bytes) == (0, 0)


def test_what_is_known_of_metrics_is_known_to_followers(pair: CopyingCluster) -> None:
    early, late = MetricMetadata("up", "gauge", "", ""), MetricMetadata("down", "gauge", "", "")
    pair.start(copied_dataset(), {0: ("a", [])})
    pair["a"].host.shards.put_metadata(DATASET, [(0, 1)], [[early]])
    led = pair.led[0]
    wait_until(lambda: led.copies.version == 2, "what it proposed when it was opened is taken")
    led.copies = type(led.copies)(3, ("b",), ("a",))
    pair["b"].host.follow_shards(pair.config, [(0, 1, 3)])
    pair.tell(0)
    pair.wait_in_sync(0, "a", "b")
    pair["a"].host.shards.put_metadata(DATASET, [(0, 1)], [[late]])
    write(pair["a"], 1000)
    take_over(pair, 0, "b")
    (file,) = pair["b"].host.metadata_files(DATASET, [(0, 2)])
    assert file.get("", 0) == [late, early]


def test_a_shard_that_is_deleted_has_no_copy_any_more_and_a_dropped_copy_leaves_the_others(
    pair: CopyingCluster,
) -> None:
    pair.start(copied_dataset(), {0: ("a", ["b"]), 1: ("a", ["b"])})
    for shard in (0, 1):
        pair.wait_in_sync(shard, "a", "b")
    paths = {name: pair[name].copy_path(pair.config, 0) for name in "ab"}
    assert all(path.exists() for path in paths.values())
    pair["b"].host.drop_copies(DATASET, 0, [(0, 1, pair.led[0].copies.version)])
    assert (paths["a"].exists(), paths["b"].exists()) == (True, False)
    pair["b"].host.stop_shards(DATASET, [(1, 1)])
    pair["a"].host.delete_shards(DATASET, 0, [0, 1])
    assert not any((pair["a"].data_dir / "copies").glob("*/*"))


def test_what_was_recovered_is_shown_when_all_have_it_that_may_lead_next(three: CopyingCluster) -> None:
    three.start(copied_dataset(replicas=3), {0: ("a", ["b", "c"])})
    three.wait_in_sync(0, "a", "b", "c")
    write(three["a"], 1000)
    three.takes_proposals = False
    go_on = threading.Event()
    three["c"].host.followers.run("waiting for the test", go_on.wait)
    (before,) = three["b"].host.followers.figures()
    unacknowledged = three["a"].write(0, sample(1, 2000))
    wait_until(lambda: three["b"].host.followers.figures()[0].entries > before.entries, "b has it, c has not")
    three.forget("a").close()
    assert refusal(unacknowledged.wait()).startswith("StaleRoute")
    led = three.led[0]
    three.promote(0, "b")
    three.led[0].copies = type(led.copies)(9, ("c",), ("b", "c"))
    three.after_promotion(0)
    three.led[0].copies = type(led.copies)(10, ("c",), ("b", "c"))  # nothing that was proposed before counts any more
    three.tell(0)
    with pytest.raises(ShardOpening, match="its copies are being looked at"):
        three["b"].samples(0, epoch=2)
    go_on.set()
    wait_until(lambda: three["b"].host.shards.figures()[0].followers[0].lag_entries == 0, "c has joined")
    assert times(three["b"].samples(0, epoch=2)) == {1000, 2000}


def noisy(series: int, times_ms: range) -> bytes:
    """Values that nothing makes smaller."""
    return container([({**UP, "instance": str(series)}, [(time_ms, random.random()) for time_ms in times_ms])])


def test_copies_between_machines_are_kept_over_encrypted_connections(tmp_path: Path) -> None:
    """What there was and what is written, both larger than the pieces in which messages go there."""
    cluster = CopyingCluster(tmp_path, ["a", "b", "c"], keys=KeyPair.generate())
    try:
        cluster.start(copied_dataset(replicas=3), {0: ("a", ["b"])})
        cluster.wait_in_sync(0, "a", "b")
        assert len(data := noisy(1, range(1000, 40_000))) > 4 * PIECE_BYTES
        assert isinstance(cluster["a"].write(0, data).wait(), WriteOutcome)
        led = cluster.led[0]
        led.copies = dataclasses.replace(led.copies, version=led.copies.version + 1, followers=("b", "c"))
        cluster["c"].host.follow_shards(cluster.config, [(0, 1, led.copies.version)])
        cluster.tell(0)
        cluster.wait_in_sync(0, "a", "b", "c")
        write(cluster["a"], *range(50_000, 50_020))
        shown = cluster["a"].samples(0)
        assert len(times(shown)) == 39_020
        cluster.forget("a").close()
        take_over(cluster, 0, "c")
        assert cluster["c"].samples(0, epoch=2) == shown
    finally:
        cluster.close()


def test_an_encrypted_node_takes_no_copy_of_one_with_other_keys(tmp_path: Path) -> None:
    cluster = CopyingCluster(tmp_path, ["a"], keys=KeyPair.generate())
    stranger = CopyingNode("b", tmp_path, lambda *_: None, keys=KeyPair.generate())
    try:
        cluster.start(copied_dataset(least=2), {0: ("a", [])})
        wait_until(lambda: cluster.led[0].copies.version == 2, "what it proposed when it was opened is taken")
        stranger.host.follow_shards(cluster.config, [(0, 1, 3)])
        cluster["a"].host.tell_of_copies(DATASET, [(0, 1, CopySet(3, ("b",), ("a",)))], [stranger.peer])
        wait_until(lambda: "connection" in str(cluster.figures(0)), lambda: cluster.figures(0))
        assert "1 of 2 copies are in sync" in refusal(cluster["a"].write(0, sample(1, 1000)).wait())
        assert not stranger.copy_path(cluster.config, 0).exists()
    finally:
        cluster.close()
        stranger.close()
