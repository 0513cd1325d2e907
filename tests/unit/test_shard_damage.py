"""A table of named damages: what must survive each, and what is said about it. Never a wrong number."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from shards import NOW_MS, container, matching, read, shard_spec, write

from filoray.cluster.errors import Unavailable
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.store.store_errors import DamagedStore

UP = {"__name__": "up", "instance": "a"}
OTHER = {"__name__": "other", "instance": "b"}
FLUSHED = [(t, float(t % 7)) for t in range(0, 50_000, 500)]
LOGGED = [(t, float(t % 5)) for t in range(50_000, 60_000, 500)]


@pytest.fixture
def stored(tmp_path):
    """A shard's file with two flushed batches and a log, as a killed process leaves it."""
    shard = Shard.open(shard_spec(tmp_path))
    write(shard, UP, FLUSHED)
    shard.flush_all(NOW_MS)
    write(shard, OTHER, FLUSHED)
    shard.flush_all(NOW_MS)
    write(shard, UP, LOGGED[:10])
    write(shard, UP, LOGGED[10:])
    return tmp_path


def edit(directory, statement, *parameters):
    database = sqlite3.connect(directory / "shard-3.db")
    database.execute(statement, parameters).fetchall()
    database.commit()
    database.close()


def flip(directory, table, column, key, row, position):
    """One bit of one blob."""
    database = sqlite3.connect(directory / "shard-3.db")
    blob = bytearray(database.execute(f'SELECT {column} FROM {table} WHERE "{key}" = ?', (row,)).fetchone()[0])
    blob[position] ^= 0x10
    database.close()
    edit(directory, f'UPDATE {table} SET {column} = ? WHERE "{key}" = ?', bytes(blob), row)


def reopen(directory, epoch=2):
    return Shard.open(shard_spec(directory, epoch=epoch))


def test_a_torn_last_transaction_is_as_if_it_had_not_been(stored):
    wal = stored / "shard-3.db-wal"
    assert wal.stat().st_size > 0
    # Copied while the writer lives, as a crash of the machine would leave it; the last frame is incomplete.
    torn = stored / "torn"
    torn.mkdir()
    for file in stored.glob("shard-3.db*"):
        shutil.copy(file, torn / file.name)
    with open(torn / wal.name, "r+b") as file:
        file.truncate(wal.stat().st_size - 3)
    shard = reopen(torn)
    assert read(shard, UP) == [*FLUSHED, *LOGGED[:10]]
    assert shard.stats().damages == ()
    assert write(shard, UP, LOGGED[10:]).accepted == 10


@pytest.mark.parametrize("position", [3, 60, -1])
def test_a_flipped_bit_in_a_chunk_leaves_that_chunk_out_and_names_it(stored, position):
    flip(stored, "chunks", "data", "batch_id", 1, position)
    shard = reopen(stored)
    batch = shard.select(matching(name_="up"), 0, 60_000)
    assert list(zip(batch.timestamps.tolist(), batch.values.tolist(), strict=True)) == LOGGED
    (warning,) = batch.warnings
    assert "dataset prom shard 3: chunk batch 1" in warning
    other = shard.select(matching(name_="other"), 0, 60_000)
    assert (len(other.values), other.warnings) == (100, ())
    assert shard.select(matching(name_="up"), 50_000, 60_000).warnings == ()


@pytest.mark.parametrize("series_count", [1, 40])  # few pieces are read one by one, many as the whole batch
def test_a_chunk_batch_that_is_gone_from_the_file_is_named(tmp_path, series_count):
    shard = Shard.open(shard_spec(tmp_path))
    shard.append([container([({"i": str(i)}, [(0, 1.0), (1, i * 0.1)]) for i in range(series_count)])])
    shard.flush_all(NOW_MS)
    write(shard, {"i": "0"}, [(2, 2.0)])
    again = reopen(tmp_path)
    edit(tmp_path, "DELETE FROM chunks")
    batch = again.select([], 0, 10)
    assert batch.timestamps.tolist() == [2]
    assert batch.warnings == ("dataset prom shard 3: chunk batch 1 is not in its store any more and was left out",)
    assert again.select([], 2, 10).warnings == ()


def test_a_damaged_batch_meta_is_named_in_every_answer(stored):
    flip(stored, "chunks", "meta", "batch_id", 1, 20)
    shard = reopen(stored)
    assert read(shard, UP) == LOGGED
    assert read(shard, OTHER) == FLUSHED
    (damage,) = shard.stats().damages
    assert "chunk batch 1: checksum does not match" in damage
    assert shard.select(matching(name_="other"), 0, 1).warnings == (damage,)


def test_a_damaged_log_row_is_left_out_and_named(stored):
    flip(stored, "log", "data", "offset", 2, 50)
    shard = reopen(stored)
    assert read(shard, UP) == [*FLUSHED, *LOGGED[10:]]
    (damage,) = shard.stats().damages
    assert "log row 2: checksum does not match" in damage


def test_damaged_part_keys_hide_their_series_and_are_named(stored):
    flip(stored, "part_keys", "data", "row_id", 2, 30)
    shard = reopen(stored)
    assert read(shard, UP) == [*FLUSHED, *LOGGED]
    assert read(shard, OTHER) == []
    assert "part keys of row 2: checksum does not match" in shard.stats().damages[0]


def test_a_truncated_file_does_not_open_and_says_so(stored, tmp_path):
    edit(stored, "PRAGMA wal_checkpoint(TRUNCATE)")
    cut = tmp_path / "cut"
    cut.mkdir()
    whole = (stored / "shard-3.db").read_bytes()
    for part in (whole[: len(whole) // 2], whole[:-4096], whole[:50]):
        (cut / "shard-3.db").write_bytes(part)
        with pytest.raises(DamagedStore, match=r"shard-3\.db"):
            reopen(cut, epoch=3)


def test_a_file_that_is_something_else_does_not_open(tmp_path):
    (tmp_path / "shard-3.db").write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(DamagedStore, match="not a database"):
        reopen(tmp_path)


def test_a_missing_file_is_an_empty_shard_that_says_so(stored):
    for file in stored.glob("shard-3.db*"):
        file.unlink()
    shard = reopen(stored)
    assert shard.stats().series == 0
    assert write(shard, UP, LOGGED).accepted == 20
    batch = shard.select([], 0, 60_000)
    assert batch.warnings == shard.stats().damages
    assert "shard-3.db: the file is gone that was made before; its samples are missing" in batch.warnings[0]
    assert reopen(stored, epoch=3).stats().damages == (), "what is there since then is whole"
    assert Shard.open(shard_spec(stored / "elsewhere")).stats().damages == (), "a new shard misses nothing"


def test_a_place_that_cannot_be_written_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable, match="cannot open"):
        reopen(tmp_path / "file")


OPENER = """
import os
import sys
from pathlib import Path
from filoray.cluster.errors import FilorayError
from filoray.nodes.memstore.store.sqlite_column_store import SqliteColumnStore

if os.geteuid() == 0:  # root may write anywhere
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    SqliteColumnStore(Path(sys.argv[1]), 2, "process", 4)
except FilorayError as error:
    print(type(error).__name__, error.message)
"""


@pytest.mark.parametrize("is_there", [True, False])
def test_a_read_only_directory_is_unavailable(stored, is_there):
    edit(stored, "PRAGMA wal_checkpoint(TRUNCATE)")
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:  # pytest's own folders are not open to everybody
        path = Path(directory) / "shard-3.db"
        if is_there:
            shutil.copy(stored / path.name, path)
            path.chmod(0o444)
        path.parent.chmod(0o555)
        command = [sys.executable, "-c", OPENER, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
        path.parent.chmod(0o755)
    assert done.stdout.startswith(f"Unavailable {path}: cannot open: "), done


SYNC_CALLS = """
import sys
from pathlib import Path
from filoray.nodes.memstore.store.column_store import Commit, LogRow
from filoray.nodes.memstore.store.sqlite_column_store import SqliteColumnStore

store = SqliteColumnStore(Path(sys.argv[1]) / "new" / "shard-0.db", 1, sys.argv[2], 4)
print("opened", flush=True)
for offset in range(20):
    store.commit(Commit(None, LogRow(offset, b"x" * 10_000), 0, offset + 1))
"""


@pytest.mark.parametrize(("durability", "syncs"), [("power", 20), ("process", 0)])
def test_power_syncs_every_commit_and_the_folders_of_a_new_file(tmp_path, durability, syncs):
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-y", "-e", "trace=fsync,fdatasync,write", "-o", str(trace), sys.executable, "-c"]
    if shutil.which("strace") is None or subprocess.run(["strace", "-o", trace, "true"], check=False).returncode:
        pytest.skip("needs strace, and leave to trace")
    subprocess.run([*command, SYNC_CALLS, str(tmp_path), durability], check=True, stdout=subprocess.DEVNULL)
    opening, _, commits = trace.read_text().partition('"opened')
    assert commits.count("shard-0.db-wal>)") >= syncs
    assert (commits.count("sync(") > 0) == (syncs > 0)
    for folder in (tmp_path, tmp_path / "new"):
        assert ("fsync(" in opening and f"<{folder}>)" in opening) == (syncs > 0)


def test_a_full_disk_acknowledges_nothing_and_later_retries_work(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    write(shard, UP, LOGGED)
    database = shard._store._writer
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages + 2}")
    big = container([({"__name__": "n", "i": str(i)}, [(1, 1.0)]) for i in range(4000)])
    for _ in range(2):
        with pytest.raises(Unavailable, match="full"):
            shard.append([big])
        assert (shard.stats().series, read(shard)) == (1, LOGGED)
    unknown = container([({"__name__": "n", "i": "5"}, [(2, 1.0)])], with_keys=False)
    assert shard.append([unknown])[0].series.tolist() == [0]
    database.execute("PRAGMA max_page_count = 1000000")
    assert shard.append([big])[0].accepted == 4000
    assert reopen(tmp_path).stats().samples == 4020


def test_a_flush_that_fails_loses_nothing_and_is_tried_again(tmp_path):
    shard = Shard.open(shard_spec(tmp_path))
    values = np.random.default_rng(1).normal(size=(40, 200))
    shard.append([container([({"i": str(i)}, list(enumerate(values[i].tolist()))) for i in range(40)])])
    database = shard._store._writer
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages + 1}")
    for _ in range(2):
        with pytest.raises(Unavailable, match="full"):
            shard.flush_all(NOW_MS)
        assert read(shard, {"i": "7"}) == list(enumerate(values[7].tolist()))
    database.execute("PRAGMA max_page_count = 1000000")
    shard.flush_all(NOW_MS)
    assert shard.stats().log_bytes == 0
    assert read(reopen(tmp_path), {"i": "7"}) == list(enumerate(values[7].tolist()))


def test_while_flushes_fail_the_log_does_not_grow_without_end(tmp_path, monkeypatch):
    shard = Shard.open(shard_spec(tmp_path, log_size_bytes_max=100_000))

    def failing(change):
        raise Unavailable("no room for chunks")

    def fill() -> None:
        for step in range(1000):
            write(shard, UP, [(step * 100 + i, 1.0) for i in range(100)])

    with monkeypatch.context() as patch:
        patch.setattr(shard._store, "flush", failing)
        shard.upkeep(NOW_MS)
        with pytest.raises(Unavailable, match="no room"):
            shard.upkeep(NOW_MS + 3_600_000)
        with pytest.raises(Unavailable, match="max-log-size = 100000 allows; the last flush: no room for chunks"):
            fill()
    assert 5_000 < len(read(shard, UP)) < 10_000
    while shard.upkeep(NOW_MS + 7_200_000):
        pass
    assert write(shard, UP, [(1_000_000, 1.0)]).accepted == 1


@pytest.mark.parametrize("durability", ["process", "power"])
def test_files_copied_at_any_instant_recover_what_was_acknowledged_before(tmp_path, durability):
    shard = Shard.open(shard_spec(tmp_path / "live", durability=durability))
    write(shard, UP, [(0, 0.0)])
    for step in range(1, 30):
        write(shard, UP, [(step, float(step))])
        if step % 7 == 0:
            shard.flush_all(NOW_MS)
        if step % 5 == 0:
            copy = tmp_path / f"copy-{step}"
            shutil.copytree(tmp_path / "live", copy, ignore=shutil.ignore_patterns("*-shm"))
            assert read(reopen(copy)) == [(t, float(t)) for t in range(step + 1)]


WRITER = """
import sys
from pathlib import Path
from shards import NOW_MS, container, shard_spec
from filoray.nodes.memstore.shard import Shard

shard = Shard.open(shard_spec(Path(sys.argv[1]), max_chunks_size=20, durability=sys.argv[2]))
for step in range(1_000_000):
    series = [({"i": str(i)}, [(step, float(step * i))]) for i in range(step % 3, 50)]
    assert all(result.refused_count == 0 for result in shard.append([container(series[:20]), container(series[20:])]))
    print(step, flush=True)
    if step % 17 == 0:
        shard.flush_group(step % 4, NOW_MS)
"""


def start_writer(directory, durability):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    command = [sys.executable, "-c", WRITER, str(directory), durability]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)


def assert_has_every_step(directory, last, epoch):
    """Up to ``last``, which was acknowledged; the step after it may have been committed, and it may not."""
    shard = reopen(directory, epoch)
    assert shard.stats().damages == ()
    for i in range(50):
        samples = read(shard, {"i": str(i)})
        expected = [(step, float(step * i)) for step in range(last + 2) if step % 3 <= i]
        assert samples in (expected, [sample for sample in expected if sample[0] <= last])
    shard.close()


@pytest.mark.parametrize("acknowledged", [1, 55, 333])
def test_what_a_killed_process_acknowledged_is_answered_once(tmp_path, acknowledged):
    process = start_writer(tmp_path, "process")
    last = -1
    for line in process.stdout:
        last = int(line)
        if last >= acknowledged:
            process.kill()
            break
    rest = process.stdout.read().split()
    process.wait()
    assert_has_every_step(tmp_path, int(rest[-1]) if rest else last, epoch=2)


@pytest.mark.parametrize("durability", ["process", "power"])
def test_files_copied_in_the_middle_of_anything_recover(tmp_path, durability):
    """The writer is halted where it happens to be, inside a commit, a flush or SQLite's own checkpoint."""
    dice = random.Random(3)
    process = start_writer(tmp_path / "live", durability)
    out = process.stdout.fileno()
    try:
        first = process.stdout.readline()  # before that its file may not be there
        os.set_blocking(out, False)
        printed = first
        for copy_number in range(15):
            time.sleep(dice.uniform(0, 0.06))
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            copy = tmp_path / f"copy-{copy_number}"
            shutil.copytree(tmp_path / "live", copy)
            with contextlib.suppress(BlockingIOError):
                while more := os.read(out, 1 << 16):
                    printed += more
            process.send_signal(signal.SIGCONT)
            acknowledged = printed[: printed.rindex(b"\n")].split()
            assert_has_every_step(copy, int(acknowledged[-1]), epoch=2)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("shard_mem_bytes", [64 << 20, 1])  # chunks stay in memory, or are paged in each time
def test_queries_during_appends_flushes_and_retention_see_whole_samples_only(tmp_path, shard_mem_bytes):
    store = {"max_chunks_size": 20, "disk_time_to_live_ms": 40, "decoded_chunk_cache_bytes": 0}
    shard = Shard.open(shard_spec(tmp_path, shard_mem_bytes=shard_mem_bytes, **store))
    labels = [{"i": str(i)} for i in range(100)]
    failures: list[str] = []
    done = threading.Event()

    def query() -> None:
        while not done.is_set():
            batch = shard.select([], -1, 1 << 40)
            if (np.diff(batch.offsets) < 1).any() or batch.warnings:
                failures.append(f"empty series or {batch.warnings}")
            owners = np.repeat(np.arange(batch.labels.count), np.diff(batch.offsets))
            numbers = np.array([int(row["i"]) for row in batch.labels.label_sets()])
            if not np.array_equal(batch.values, batch.timestamps + numbers[owners] * 1e6):
                failures.append("a value of another series or time")
            same = np.diff(owners) == 0
            if (np.diff(batch.timestamps)[same] <= 0).any():
                failures.append("times do not rise")

    threads = [threading.Thread(target=query) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for step in range(400):
            alive = labels[(step // 4) % 60 : (step // 4) % 60 + 40]
            shard.append([container([(one, [(step, step + int(one["i"]) * 1e6)]) for one in alive])])
            while step % 3 == 0 and shard.upkeep(NOW_MS + step):
                pass
            if step % 25 == 0:
                shard.flush_all(NOW_MS + step)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
