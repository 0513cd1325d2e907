"""A store's snapshot and the file made of it: whole, or not there; equal batches are not sent; copies are compared."""

import contextlib
import shutil
import sqlite3

import numpy as np
import pytest
from shards import ALL_TIME, NOW_MS, STORE, container, samples_of, shard_spec

from filoray.cluster.errors import BadData, StoreIsAhead, Unavailable
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.store.copy_checksums import differences, stored_checksums
from filoray.nodes.memstore.store.snapshot import SnapshotFile, StoreSnapshot
from filoray.nodes.memstore.store.snapshot_pieces import Kind, decode_piece, encode_piece
from filoray.nodes.memstore.store.store_errors import DamagedStore

NOISE = np.random.default_rng(7).normal(size=20_000)


def batch_of(first: int) -> bytes:
    return container(
        [
            ({"__name__": "m", "i": str(i)}, [(t * 1000, float(NOISE[200 * i + t])) for t in range(first, first + 50)])
            for i in range(20)
        ]
    )


def filled(directory, batches=3, *, with_log=True):
    shard = Shard.open(shard_spec(directory))
    for batch in range(batches):
        shard.append([batch_of(50 * batch)])
        shard.flush_all(NOW_MS + batch)
    if with_log:
        shard.append([batch_of(50 * batches)])
    return shard


def answers(shard):
    return samples_of(shard.select([], *ALL_TIME))


def copied(leader, directory, bytes_max=10_000, epoch=1, durability="process"):
    joining = SnapshotFile(shard_spec(directory).path, epoch, durability)
    snapshot = StoreSnapshot(leader.spec.path)
    for piece in snapshot.pieces(bytes_max, without=joining.held()):
        joining.add(piece)
    snapshot.close()
    return joining


@pytest.mark.parametrize("bytes_max", [1, 1000, 1 << 20])
@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_copy_opens_as_the_shard_was(tmp_path, bytes_max, durability):
    leader = filled(tmp_path / "leader")
    expected = answers(leader)
    copied(leader, tmp_path / "follower", bytes_max, 5, durability).install()
    follower = Shard.open(shard_spec(tmp_path / "follower", epoch=5, durability=durability, groups_per_shard=9))
    assert answers(follower) == expected
    assert follower._store.state.clock == leader._flusher._clock.reading
    assert follower._store.state.group_count == STORE.groups_per_shard
    assert follower._store._writer.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert (follower.damages, follower._store.state.is_new) == ((), False)
    assert follower.stats().next_offset == leader.stats().next_offset
    assert stored_checksums(follower.spec.path) == stored_checksums(leader.spec.path)
    with pytest.raises(StoreIsAhead):
        Shard.open(shard_spec(tmp_path / "follower", epoch=4))
    assert not list((tmp_path / "follower").glob("*.joining*"))


def test_a_snapshot_is_of_the_moment_when_it_began_and_pieces_are_small(tmp_path):
    leader = filled(tmp_path / "leader")
    expected = answers(leader)
    snapshot = StoreSnapshot(leader.spec.path)
    leader.append([batch_of(151)])
    leader.flush_all(NOW_MS + STORE.disk_time_to_live_ms + 2)
    assert answers(leader) != expected
    joining = SnapshotFile(shard_spec(tmp_path / "follower").path, 1, "process")
    pieces = list(snapshot.pieces(20_000))
    snapshot.close()
    assert max(map(len, pieces)) < 21_000
    for piece in pieces:
        joining.add(piece)
    joining.install()
    assert answers(Shard.open(shard_spec(tmp_path / "follower"))) == expected


def test_a_leader_does_not_wait_for_a_snapshot_when_it_clears_up(tmp_path):
    leader = filled(tmp_path / "leader")
    snapshot = StoreSnapshot(leader.spec.path)
    busy_ms = leader._store._writer.execute("PRAGMA busy_timeout").fetchone()
    for _ in range(100):
        if not leader._store.reclaim():
            break
    assert leader._store._writer.execute("PRAGMA busy_timeout").fetchone() == busy_ms
    log_bytes = leader.spec.path.with_name("shard-3.db-wal").stat().st_size
    snapshot.close()
    leader._store.reclaim()
    assert leader.spec.path.with_name("shard-3.db-wal").stat().st_size == 0 < log_bytes


def test_batches_that_the_old_file_has_are_not_sent(tmp_path):
    leader = filled(tmp_path / "leader")
    copied(leader, tmp_path / "follower").install()
    leader.flush_all(NOW_MS + 10)
    path = shard_spec(tmp_path / "follower").path
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        (data,) = database.execute("SELECT data FROM chunks WHERE batch_id = 2").fetchone()
        changed = data[:100] + bytes([data[100] ^ 1]) + data[101:]
        database.execute("UPDATE chunks SET data = ? WHERE batch_id = 2", (changed,))
    assert differences(stored_checksums(leader.spec.path), stored_checksums(path)) == [
        f"chunk batch 2: checksum {stored_checksums(path)[2]:016x} at the follower, "
        f"{stored_checksums(leader.spec.path)[2]:016x} at the leader",
        "chunk batch 4: missing at the follower",
    ]
    whole, rest = (sum(map(len, pieces_of(leader, held))) for held in ([], stored_checksums(path).items()))
    assert rest < 0.6 * whole
    copied(leader, tmp_path / "follower").install()
    assert stored_checksums(path) == stored_checksums(leader.spec.path)
    assert answers(Shard.open(shard_spec(tmp_path / "follower"))) == answers(leader)


def test_a_piece_names_no_more_held_batches_than_it_could_send(tmp_path):
    leader = filled(tmp_path / "leader", batches=12)
    held = list(stored_checksums(leader.spec.path).items())
    largest = max(len(leader._store.read_batch(batch_id)) for batch_id, _ in held)
    bytes_max = 2 * largest + 1000
    snapshot = StoreSnapshot(leader.spec.path)
    pieces = list(snapshot.pieces(bytes_max, without=held))
    snapshot.close()
    named = [
        [fields[0] for kind, fields in decode_piece(piece, number, "piece") if kind is Kind.HELD]
        for number, piece in enumerate(pieces)
    ]
    assert sorted(batch_id for batch_ids in named for batch_id in batch_ids) == [batch_id for batch_id, _ in held]
    for batch_ids in named:
        assert sum(len(leader._store.read_batch(batch_id)) for batch_id in batch_ids) <= bytes_max


def add_all(joining, pieces):
    for piece in pieces:
        joining.add(piece)


def pieces_of(leader, held=()):
    with contextlib.closing(StoreSnapshot(leader.spec.path)) as snapshot:
        return list(snapshot.pieces(5000, without=held))


# ---- what is interrupted


def crashed_copy(directory, log):
    """A file as a killed process leaves it, with its log or damaged."""
    shard = filled(directory / "running", 2)
    expected = answers(shard)
    folder = directory / "follower"
    folder.mkdir()
    for file in (directory / "running").iterdir():
        shutil.copy(file, folder / file.name)
    shard.close()
    path = shard_spec(folder).path
    assert path.with_name("shard-3.db-wal").stat().st_size > 0
    if log == "damaged":
        path.write_bytes(b"no database" * 1000)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
    return expected


STEPS = {
    "with log": [
        "the new file is whole",
        "the old file's -wal is gone",
        "the old file's -shm is gone",
        "the old file's -journal is gone",
        "the new file is in place",
        "its place is known to have been made",
    ],
    "damaged": [
        "the new file is whole",
        "a damaged old file is gone",
        "the old file's -wal is gone",
        "the old file's -shm is gone",
        "the old file's -journal is gone",
        "the new file is in place",
        "its place is known to have been made",
    ],
}


@pytest.mark.parametrize(("log", "last"), [(log, step) for log, steps in STEPS.items() for step in steps])
def test_a_crash_while_it_is_installed_leaves_the_old_file_or_the_new_one(tmp_path, log, last):
    old = crashed_copy(tmp_path, log)
    leader = filled(tmp_path / "leader", 3)
    joining = copied(leader, tmp_path / "follower")
    done = []
    for step in joining.install_steps():
        done.append(step)
        if step == last:
            break
    assert done == STEPS[log][: STEPS[log].index(last) + 1]
    is_in_place = "the new file is in place" in done
    if log == "damaged" and not is_in_place:
        try:
            opened = Shard.open(shard_spec(tmp_path / "follower"))
        except DamagedStore:
            pass
        else:
            assert "the file is gone that was made before" in opened.damages[0]
            opened.close()
    else:
        opened = Shard.open(shard_spec(tmp_path / "follower"))
        assert answers(opened) == (answers(leader) if is_in_place else old)
        assert opened.damages == ()
        opened.close()
    # The next attempt finds all as it needs it.
    copied(leader, tmp_path / "follower").install()
    assert answers(Shard.open(shard_spec(tmp_path / "follower"))) == answers(leader)


def test_what_is_not_whole_is_not_installed_and_leaves_the_old_file_as_it_was(tmp_path):
    old = crashed_copy(tmp_path, "with log")
    leader = filled(tmp_path / "leader")
    path = shard_spec(tmp_path / "follower").path
    pieces = pieces_of(leader)
    for count in range(len(pieces)):
        joining = SnapshotFile(path, 1, "process")  # over what the one before left
        for piece in pieces[:count]:
            joining.add(piece)
        with pytest.raises(BadData, match=r"items came, and not the last one"):
            joining.install()
        if count == len(pieces) // 2:
            joining.abort()
            joining.abort()
            assert not list((tmp_path / "follower").glob("*.joining*"))
    assert answers(Shard.open(shard_spec(tmp_path / "follower"))) == old


# ---- what is no snapshot


def item_pieces(*changes):
    items = [(Kind.META, 1, 4, 0, 0), (Kind.CHECKPOINT, 0, -1), *changes]
    return [encode_piece(0, items)]


BATCH = (Kind.BATCH, 1, 5, b"meta", 3)


@pytest.mark.parametrize(
    ("pieces", "error", "problem"),
    [
        (lambda sent: [sent[0], sent[2]], BadData, "piece 2 of the snapshot, where piece 1 is to come"),
        (lambda sent: [sent[0], sent[0]], BadData, "piece 0 of the snapshot, where piece 1 is to come"),
        (lambda sent: [sent[0][:-1]], DamagedStore, "piece 0: checksum does not match"),
        (lambda sent: [sent[0], sent[1][:50] + b"??" + sent[1][52:]], DamagedStore, "piece 1: checksum does not match"),
        (lambda sent: [*sent, encode_piece(len(sent), [(Kind.CHECKPOINT, 9, 9)])], BadData, "was whole already"),
        (lambda _: [encode_piece(0, [(Kind.CHECKPOINT, 0, 0)])], BadData, "CHECKPOINT is out of place"),
        (lambda _: [encode_piece(0, [(Kind.META, 2, 4, 0, 0)])], BadData, "a store of format 2"),
        (lambda _: [encode_piece(0, [(Kind.META, 1, 4)])], BadData, "kind 0 and 2 such fields"),
        (lambda _: item_pieces((12, 0)), BadData, "kind 12"),
        (lambda _: item_pieces((Kind.LOG, 0, 0)), BadData, "kind 4 and 2 such fields"),
        (lambda _: item_pieces((Kind.META, 1, 4, 0, 0)), BadData, "META is out of place"),
        (lambda _: item_pieces((Kind.CHECKPOINT, 0, 5)), BadData, "CHECKPOINT came twice"),
        (lambda _: item_pieces((Kind.DATA, b"x")), BadData, "DATA is out of place"),
        (lambda _: item_pieces(BATCH, BATCH), BadData, "BATCH is out of place"),
        (lambda _: item_pieces(BATCH, (Kind.DATA, b"four")), BadData, "more bytes than were to come"),
        (lambda _: item_pieces(BATCH, (Kind.DATA, b"2b"), (Kind.BATCH_END, 0)), BadData, "lacks 1 bytes"),
        (lambda _: item_pieces(BATCH, (Kind.DATA, b"all"), (Kind.BATCH_END, 0)), DamagedStore, "checksum does not"),
        (lambda _: item_pieces((Kind.HELD, 1, 7)), BadData, "batch 1 is not among what is held here"),
        (lambda _: item_pieces((Kind.END, 3)), BadData, "2 items came, where 3 were sent"),
        (lambda _: item_pieces((Kind.END, 2), (Kind.CHECKPOINT, 1, 0)), BadData, "CHECKPOINT is out of place"),
    ],
)
def test_what_is_no_snapshot_is_refused(tmp_path, pieces, error, problem):
    leader = filled(tmp_path / "leader", 1)
    joining = SnapshotFile(shard_spec(tmp_path / "follower").path, 1, "process")
    with pytest.raises(error, match=problem):
        add_all(joining, pieces(pieces_of(leader)))
    joining.abort()
    assert not shard_spec(tmp_path / "follower").path.exists()


# ---- comparing copies


def test_there_is_nothing_to_read_where_no_file_is(tmp_path):
    with pytest.raises(Unavailable):
        stored_checksums(tmp_path / "shard-3.db")
    with pytest.raises(Unavailable):
        StoreSnapshot(tmp_path / "shard-3.db")
    assert not list(tmp_path.iterdir())


def test_differences_are_told_by_batch():
    assert differences({1: 5, 2: 6}, {1: 5, 2: 6}) == []
    assert differences({1: 5, 2: 6}, {2: 255, 3: 7}) == [
        "chunk batch 1: missing at the follower",
        "chunk batch 2: checksum 00000000000000ff at the follower, 0000000000000006 at the leader",
        "chunk batch 3: the follower has it, the leader has not",
    ]


def test_a_limit_of_bytes_a_second_slows_the_reading_and_changes_no_checksum(tmp_path):
    shard = filled(tmp_path, with_log=False)
    assert stored_checksums(shard.spec.path, bytes_per_s=5e6) == stored_checksums(shard.spec.path)
