"""A leader and its followers: rounds of an append, entries that do not fit, promotion."""

from dataclasses import replace

import numpy as np
import pytest
from shards import ALL_TIME, NOW_MS, STORE, container, read, samples_of, shard_spec, write

from filoray.cluster.errors import StaleRoute, StoreIsAhead, Unavailable
from filoray.nodes.data.write_outcome import RefusalReason
from filoray.nodes.memstore.replica_entries import CommitEntry, DeadSeriesEntry, DropEntry, FlushEntry, SealEntry
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.store.column_store import Commit, LogRow
from filoray.nodes.memstore.store.copy_checksums import differences, stored_checksums
from filoray.nodes.memstore.store.snapshot import SnapshotFile
from filoray.nodes.memstore.store.store_errors import CopyDiffers, DamagedStore
from filoray.nodes.memstore.upkeep.retention_clock import ClockReading

UP = {"__name__": "up", "instance": "a"}
DOWN = {"__name__": "up", "instance": "b"}


class Copies:
    """A leader and a follower from the start; ``entries`` are all that were sent."""

    def __init__(self, directory, **store):
        self.leader = Shard.open(shard_spec(directory / "leader", **store))
        self.follower = Shard.open(shard_spec(directory / "follower", **store))
        self.entries = []
        self.leader.on_entry = self.send

    def send(self, entry):
        self.entries.append(entry)
        self.follower.follow(entry)

    def write(self, labels, samples):
        append_round = self.leader.begin_append([container([(labels, samples)])])
        self.send(CommitEntry(append_round.commit))
        return self.leader.finish_append(append_round)[0]

    def assert_equal(self):
        assert samples_of(self.leader.select([], *ALL_TIME)) == samples_of(self.follower.select([], *ALL_TIME))
        paths = [shard.spec.path for shard in (self.leader, self.follower)]
        assert differences(*map(stored_checksums, paths)) == []


@pytest.fixture
def copies(tmp_path):
    return Copies(tmp_path)


# ---- rounds


def test_an_append_that_is_not_finished_is_durable_and_in_no_answer(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    write(shard, UP, [(1, 1.0)])
    append_round = shard.begin_append([container([(UP, [(2, 2.0)]), (DOWN, [(2, 0.0)])])])
    assert append_round.commit.log.offset == 1
    assert append_round.commit.next_offset == 2
    assert shard._ingestion.applied_offset == 0
    assert samples_of(shard.select([], *ALL_TIME)).keys() == {tuple(sorted(UP.items()))}
    assert read(shard, UP) == [(1, 1.0)]
    assert shard.label_values("instance", [], 0, 10) == ["a"]
    (outcome,) = shard.finish_append(append_round)
    assert outcome.accepted == 2
    assert shard._ingestion.applied_offset == 1
    assert read(shard, UP) == [(1, 1.0), (2, 2.0)]


def test_a_process_that_ends_within_an_append_has_stored_it(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    shard.begin_append([container([(UP, [(1, 1.0)])])])
    shard.close()
    assert read(Shard.open(shard_spec(tmp_path, epoch=2)), UP) == [(1, 1.0)]


def test_nothing_else_changes_a_shard_within_an_append(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    append_round = shard.begin_append([container([(UP, [(1, 1.0)])])])
    for change in (
        lambda: shard.begin_append([]),
        lambda: write(shard, UP, [(2, 2.0)]),
        lambda: shard.flush_all(NOW_MS),
        lambda: shard.upkeep(NOW_MS),
        lambda: shard.snapshot(NOW_MS),
    ):
        with pytest.raises(AssertionError, match="under way"):
            change()
    shard.finish_append(append_round)
    with pytest.raises(AssertionError, match="under way"):
        shard.finish_append(append_round)
    shard.flush_all(NOW_MS)


def test_an_append_that_is_given_up_leaves_a_shard_that_can_only_be_closed(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    shard.abandon_append(shard.begin_append([container([(UP, [(1, 1.0)])])]))
    for change in (lambda: write(shard, UP, [(2, 2.0)]), lambda: shard.flush_all(NOW_MS), lambda: shard.upkeep(NOW_MS)):
        with pytest.raises(Unavailable, match="given up half-way"):
            change()
    shard.close()
    assert read(Shard.open(shard_spec(tmp_path, epoch=2)), UP) == [(1, 1.0)]


def test_a_round_of_nothing_has_nothing_for_followers(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    append_round = shard.begin_append([container([(UP, [(1, 1.0)])], with_keys=False)])
    assert append_round.commit is None
    assert shard.finish_append(append_round)[0].series.tolist() == [0]


def test_a_round_that_fails_to_begin_changes_nothing(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    Shard.open(shard_spec(tmp_path, epoch=2)).close()
    with pytest.raises(StaleRoute):
        shard.begin_append([container([(UP, [(1, 1.0)])])])
    assert shard.stats().series == 0
    assert shard._ingestion.next_offset == 0


# ---- entries


def test_a_follower_does_all_that_its_leader_does(tmp_path):
    copies = Copies(tmp_path, max_chunks_size=10)
    for start in range(0, 100, 7):
        copies.write(UP, [(t * 1000, t / 7) for t in range(start, start + 9)])
        copies.write({**UP, "i": str(start)}, [(start, 1.0)])
        copies.leader.flush_group(start % 4, NOW_MS + start)
    copies.leader.flush_all(NOW_MS + 100)
    copies.assert_equal()
    copies.leader.flush_all(NOW_MS + 50 + STORE.disk_time_to_live_ms)
    assert copies.entries[-1].dropped_batches
    copies.assert_equal()
    assert {type(entry) for entry in copies.entries} == {CommitEntry, FlushEntry}


def test_series_that_died_leave_a_follower_with_its_leader(tmp_path):
    copies = Copies(tmp_path, max_series_per_shard=5)
    for i in range(5):
        copies.write({**UP, "i": str(i)}, [(1, 1.0)])
    copies.leader.flush_all(NOW_MS)
    assert copies.leader.append([container([(DOWN, [(1, 1.0)])])])[0].refused == {RefusalReason.OVER_LIMIT: 1}
    while copies.leader.upkeep(NOW_MS + STORE.disk_time_to_live_ms):
        pass
    assert [type(entry) for entry in copies.entries[-2:]] == [DropEntry, DeadSeriesEntry]
    assert copies.follower.stats().series == 0
    assert list(copies.follower._store.part_keys()) == list(copies.leader._store.part_keys())


def test_a_flush_that_fails_at_the_leader_is_followed_too(copies):
    noise = np.random.default_rng(1).normal(size=3000)
    copies.write(UP, [(t, float(noise[t])) for t in range(1000)])
    writer = copies.leader._store._writer
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages}")  # a full disk
    with pytest.raises(Unavailable, match="full"):
        copies.leader.flush_group(0, NOW_MS)
    writer.execute("PRAGMA max_page_count = 1000000")
    assert copies.entries[-1] == SealEntry((0,))
    copies.write(UP, [(t, float(noise[t])) for t in range(1000, 1010)])
    chunks = copies.leader.stats().chunks
    copies.leader.flush_all(NOW_MS)
    assert copies.leader.stats().chunks == chunks + 1  # what was compressed stays so
    copies.assert_equal()


def commit_of(directory, *writes):
    """The last commit of a leader that was sent these."""
    shard = Shard.open(shard_spec(directory / "another"))
    for labels, samples in writes:
        append_round = shard.begin_append([container([(labels, samples)])])
        shard.finish_append(append_round)
    return append_round.commit


ONE, TWO, OTHER = (UP, [(1, 1.0)]), (UP, [(2, 2.0)]), (DOWN, [(1, 1.0)])
CLOCK = ClockReading(NOW_MS, NOW_MS)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (lambda d: CommitEntry(commit_of(d, ONE)), "a commit goes on to offset 1, the copy is at 1"),
        (lambda d: CommitEntry(commit_of(d, ONE, TWO, TWO)), "a commit goes on to offset 3, the copy is at 1"),
        (lambda d: CommitEntry(replace(commit_of(d, ONE, TWO), next_offset=3)), "offset 3"),
        (
            lambda d: CommitEntry(replace(commit_of(d, OTHER, ONE), part_keys=None)),
            "samples of series id 1, which the copy does not know",
        ),
        (lambda d: CommitEntry(replace(commit_of(d, OTHER, ONE), next_series_id=1)), "ids that end before 1"),
        (lambda d: CommitEntry(Commit(commit_of(d, ONE).part_keys, None, 2, 1)), "the copy is at 1"),
        (lambda d: CommitEntry(Commit(commit_of(d, OTHER, ONE).part_keys, None, 2, 1)), "that the copy has already"),
        (lambda d: SealEntry((4,)), r"groups \(4,\), the copy has 4"),
        (lambda d: DropEntry((1,), CLOCK), r"batches \[1\] are dropped"),
        (lambda d: DeadSeriesEntry((0,), 9), "or has samples of"),
        (lambda d: DeadSeriesEntry((5,), 9), "does not know"),
        (lambda d: FlushEntry((0,), CLOCK, None, (0,) * 4, 1, (), 0, 5), "chunk batch 0, the copy is at 1"),
        (lambda d: FlushEntry((0,), CLOCK, None, (0,) * 4, 1, (), 1, 5), "batch_checksum [0-9]+, the leader's 5"),
        (lambda d: FlushEntry((1,), CLOCK, None, (0,) * 4, 1, (), None, 0), r"checkpoints \(-1, 0, 0, 0\)"),
        (lambda d: FlushEntry((0,), CLOCK, None, (0,) * 3, 1, (), 1, 5), "checkpoints"),
        (lambda d: FlushEntry((0,), CLOCK, None, (0,) * 4, 1, (7,), 1, 5), r"batches \[7\]"),
        (lambda d: FlushEntry((0,), CLOCK, None, (0,) * 4, 2, (), 1, 5), "next_offset 1, the leader's 2"),
    ],
)
def test_an_entry_that_does_not_fit_is_refused_with_nothing_stored(copies, tmp_path, entry, problem):
    copies.write(*ONE)
    stored = list(copies.follower._store._writer.iterdump())
    with pytest.raises(CopyDiffers, match=problem):
        copies.follower.follow(entry(tmp_path))
    assert list(copies.follower._store._writer.iterdump()) == stored
    assert read(copies.follower, UP) == [(1, 1.0)]
    # It stays so: neither what would fit nor leading is for a copy that may be another.
    with pytest.raises(CopyDiffers, match=problem):
        copies.follower.follow(CommitEntry(commit_of(tmp_path / "more", ONE, TWO)))
    with pytest.raises(CopyDiffers, match=problem):
        copies.follower.promote(2)


@pytest.mark.parametrize("damaged", ["part_keys", "log"])
def test_a_damaged_row_is_not_stored(copies, tmp_path, damaged):
    commit = commit_of(tmp_path, ONE)
    if damaged == "log":
        commit = replace(commit, log=LogRow(0, commit.log.data[:-8] + b"8 others"))
    else:
        commit = replace(commit, part_keys=commit.part_keys[:-1] + b"?")
    with pytest.raises(DamagedStore, match="an entry of its leader"):
        copies.follower.follow(CommitEntry(commit))
    assert copies.follower.stats().next_offset == 0
    assert copies.follower.stats().series == 0
    copies.write(*ONE)
    copies.assert_equal()


def test_a_follower_whose_file_has_a_later_owner_follows_nobody(copies):
    copies.write(*ONE)
    Shard.open(replace(copies.follower.spec, epoch=2)).close()
    with pytest.raises(StaleRoute):
        copies.write(*TWO)
    with pytest.raises(StoreIsAhead):
        copies.follower.promote(1)
    with pytest.raises(StaleRoute):
        copies.follower.promote(2)


def test_a_follower_changes_nothing_by_itself_but_its_rows(copies):
    copies.write(*ONE)
    for change in (
        lambda: write(copies.follower, *TWO),
        lambda: copies.follower.upkeep(NOW_MS),
        lambda: copies.follower.flush_all(NOW_MS),
        lambda: copies.follower.snapshot(NOW_MS),
    ):
        with pytest.raises(AssertionError, match="a follower changes nothing"):
            change()
    copies.write(*OTHER)
    assert len(list(copies.follower._store.part_keys())) == 2
    copies.follower.follower_upkeep(NOW_MS)
    while copies.follower.follower_upkeep(NOW_MS + STORE.flush_when_idle_ms):
        pass
    assert len(list(copies.follower._store.part_keys())) == 1
    copies.write({**UP, "more": "x"}, [(1, 1.0)])
    copies.leader.flush_all(NOW_MS)
    copies.assert_equal()


# ---- promotion


def test_a_follower_goes_on_as_leader(tmp_path):
    copies = Copies(tmp_path, max_series_per_shard=2)
    copies.write(*ONE)
    copies.leader.flush_all(NOW_MS, NOW_MS)
    copies.write(*OTHER)
    leader = copies.follower
    leader.promote(2)
    assert (leader.spec.epoch, leader.figures().epoch) == (2, 2)
    outcome = write(leader, {**UP, "one": "too many"}, [(1, 1.0)])
    assert outcome.refused == {RefusalReason.OVER_LIMIT: 1}
    assert write(leader, *TWO).accepted == 1
    # By its own clock a day went by in an hour: only that hour counts for what is stored.
    leader.upkeep(0, NOW_MS + 1000)
    leader.upkeep(3_600_000, NOW_MS + 1000 + STORE.disk_time_to_live_ms)
    assert samples_of(leader.select([], *ALL_TIME))[tuple(sorted(UP.items()))][0][0] == 1
    assert leader._flusher._clock.reading.retention_ms == NOW_MS + 1000 + 3_600_000
    with pytest.raises(StoreIsAhead):
        Shard.open(replace(leader.spec, epoch=1))
    leader.close()
    assert read(Shard.open(replace(leader.spec, epoch=2)), UP) == [(1, 1.0), (2, 2.0)]


def test_what_a_drop_made_of_late_samples_is_in_a_snapshot(tmp_path):
    """Replayed from the log, the second sample at 1 would be taken: what it was compared with is gone."""
    leader = Shard.open(shard_spec(tmp_path / "leader", out_of_order_window_ms=10))
    write(leader, UP, [(1, 1.0), (100, 100.0)])
    leader.flush_all(NOW_MS)
    write(leader, UP, [(1, 2.0), (101, 101.0)])
    while leader.upkeep(NOW_MS + STORE.disk_time_to_live_ms):
        pass
    assert read(leader, UP) == [(101, 101.0)]
    snapshot = leader.snapshot(NOW_MS + STORE.disk_time_to_live_ms)
    joining = SnapshotFile(shard_spec(tmp_path / "follower").path, 1, "process")
    for piece in snapshot.pieces(1 << 20):
        joining.add(piece)
    snapshot.close()
    joining.install()
    assert read(Shard.open(shard_spec(tmp_path / "follower", out_of_order_window_ms=10)), UP) == [(101, 101.0)]
