"""After any damage that a shard opens with, it goes on: it ingests, flushes, forgets in time, and opens again."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from shards import NOW_MS, STORE, container, read, shard_spec, write

from filoray.cluster.errors import Unavailable
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.store.store_errors import DamagedStore

UP = {"__name__": "up", "instance": "a"}
OTHER = {"__name__": "other", "instance": "b"}
NEW = {"__name__": "new", "instance": "c"}
FLUSHED = [(t, float(t % 7)) for t in range(0, 50_000, 500)]
LOGGED = [(t, float(t % 5)) for t in range(50_000, 60_000, 500)]
AFTER = [(t, float(t % 3)) for t in range(60_000, 70_000, 500)]
FILE = "shard-3.db"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A shard's file with two flushed batches and two rows each of log and part keys."""
    directory = tmp_path_factory.mktemp("pristine")
    shard = Shard.open(shard_spec(directory))
    for labels in (UP, OTHER):
        write(shard, labels, FLUSHED)
        shard.flush_all(NOW_MS)
    write(shard, UP, LOGGED[:10])
    write(shard, UP, LOGGED[10:])
    shard.close()
    return directory


@pytest.fixture
def stored(pristine, tmp_path):
    shutil.copytree(pristine, tmp_path / "damaged")
    return tmp_path / "damaged"


def edit(directory: Path, statement: str, *parameters: object) -> None:
    database = sqlite3.connect(directory / FILE)
    assert database.execute(statement, parameters).rowcount
    database.commit()
    database.close()


BLOBS = [
    (table, column, key, row)
    for table, column, key, rows in [
        ("chunks", "meta", "batch_id", (1, 2)), ("chunks", "data", "batch_id", (1, 2)),
        ("log", "data", "offset", (2, 3)), ("part_keys", "data", "row_id", (1, 2)),
    ]
    for row in rows
]  # fmt: skip
DAMAGES = {
    **{
        f"{table} {column} {row}: {name}": (f'UPDATE {table} SET {column} = {value} WHERE "{key}" = {row}',)
        for table, column, key, row in BLOBS
        for name, value in {
            "a flipped bit": f"CAST(substr({column}, 1, 20) || x'ff' || substr({column}, 22) AS BLOB)",
            "nothing left": "x''", "a text": "'text'", "a number": "17",
        }.items()
    },
    "a batch with a number far ahead": ("UPDATE chunks SET batch_id = 4611686018427387905 WHERE batch_id = 1",),
    "a batch from the future": (f"UPDATE chunks SET written_ms = {1 << 60} WHERE batch_id = 1",),
    "a batch that says nothing of when": ("UPDATE chunks SET written_ms = 'x' WHERE batch_id = 1",),
    "offsets behind the log": ("UPDATE meta SET next_offset = 0",),
    "series ids behind the series": ("UPDATE meta SET next_series_id = 0",),
    "a checkpoint of a group that is not": ("INSERT INTO checkpoints VALUES (900, 900)",),
    "no checkpoints": ("DELETE FROM checkpoints",),
    "no log": ("DELETE FROM log",),
    "no part keys": ("DELETE FROM part_keys",),
    "the clock's row is gone": ("DELETE FROM clock",),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_after_each_damage_a_shard_ingests_flushes_and_opens_again(stored, damage):
    edit(stored, *DAMAGES[damage])
    shard = Shard.open(shard_spec(stored, epoch=2))
    shard.append([container([(UP, AFTER), (NEW, FLUSHED)])])
    for _ in range(2):
        shard.flush_all(NOW_MS)
        write(shard, NEW, LOGGED)
    assert shard.stats().log_bytes < 2_000
    for opened in (shard, Shard.open(shard_spec(stored, epoch=3))):
        assert read(opened, NEW) == [*FLUSHED, *LOGGED]
        assert set(AFTER) <= set(read(opened, UP))
        for labels, samples in ((UP, {*FLUSHED, *LOGGED, *AFTER}), (OTHER, {*FLUSHED})):
            assert set(read(opened, labels)) <= samples, "never a sample that was not written"
    later_ms = NOW_MS + STORE.disk_time_to_live_ms
    again = Shard.open(shard_spec(stored, epoch=4))
    again.flush_all(NOW_MS)
    for now_ms in (later_ms, 2 * later_ms):
        while again.upkeep(now_ms):
            pass
    database = sqlite3.connect(stored / FILE)
    assert database.execute("SELECT count(*) FROM chunks").fetchone() == (0,), "what is damaged leaves in its time too"
    database.close()


@pytest.mark.parametrize("value", ["'text'", "-1", "x'00'"])
def test_a_meta_row_that_cannot_be_is_damage(stored, value):
    edit(stored, f"UPDATE meta SET group_count = {value}")
    with pytest.raises(DamagedStore, match=r"shard-3\.db: its meta table holds"):
        Shard.open(shard_spec(stored, epoch=2))


def damage_page_of(directory: Path, table: str) -> None:
    """Overwrite the table's root page, which nothing reads when the shard is opened, or when it is small."""
    database = sqlite3.connect(directory / FILE)
    (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    (size,) = database.execute("PRAGMA page_size").fetchone()
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    database.close()
    with open(directory / FILE, "r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)


def test_damage_that_a_write_meets_stops_acknowledgements_until_the_file_is_sound(stored):
    shard = Shard.open(shard_spec(stored, epoch=2))
    assert shard.trouble is None
    sound = stored.parent / "sound"
    shutil.copytree(stored, sound)
    damage_page_of(stored, "log")
    shard._store._writer.execute("PRAGMA shrink_memory")
    with pytest.raises(DamagedStore, match="malformed"):
        write(shard, UP, AFTER)
    assert "nothing more is acknowledged until the file is sound" in shard.trouble
    with pytest.raises(Unavailable, match="until the file is sound"):
        write(shard, UP, AFTER)
    shard.close()
    for epoch in (2, 3):
        with pytest.raises(DamagedStore):
            Shard.open(shard_spec(stored, epoch=epoch))
    shutil.copy(sound / FILE, stored / FILE)
    assert write(Shard.open(shard_spec(stored, epoch=4)), UP, AFTER).accepted == len(AFTER)


def remove(directory: Path) -> None:
    for file in directory.glob(f"{FILE}*"):
        file.unlink()


def replace(directory: Path) -> None:
    copy = directory / "copy"
    shutil.copy(directory / FILE, copy)
    os.replace(copy, directory / FILE)


GONE = {
    "unlinked": remove,
    "the whole directory": shutil.rmtree,
    "replaced by a copy": replace,
    "its log unlinked": lambda directory: (directory / f"{FILE}-wal").unlink(),
    "moved away": lambda directory: directory.rename(directory.with_name("elsewhere")),
}


@pytest.mark.parametrize("how", GONE)
def test_an_owner_notices_that_its_file_is_gone_and_acknowledges_nothing_more(stored, how):
    shard = Shard.open(shard_spec(stored, epoch=2))
    assert write(shard, UP, AFTER[:5]).accepted == 5
    assert shard.trouble is None
    GONE[how](stored)
    for change in (lambda: write(shard, UP, AFTER[5:]), lambda: shard.flush_all(NOW_MS)):
        with pytest.raises(Unavailable, match="was removed or replaced while it was open"):
            change()
    assert "shard-3.db" in shard.trouble
