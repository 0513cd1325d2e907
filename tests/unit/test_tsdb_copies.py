"""The tsdb tools on data sets with several copies of each shard, written by leaders and followers."""

from __future__ import annotations

import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from shard_copies import REPLICATED, SERIES, CopiedShard, copy_path, put_copies
from shards import NOW_MS, STORE, container

from filoray.cluster.config.dataset_file import write_dataset_file
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_messages import MemberJoined, MembersJoined, StartShards
from filoray.cluster.errors import Unavailable
from filoray.cluster.store.meta_store import SQLITE_FILE, MetaStore
from filoray.command.cli import main
from filoray.command.tsdb.compare_copies import compare_copies
from filoray.command.tsdb.shard_copies import newest_copies
from filoray.command.tsdb.shard_files import find_shard_files
from filoray.command.tsdb.snapshot import create_snapshot, restore_snapshot
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.shard_spec import ShardSpec

LEADERS = {0: ("node-0", "node-1"), 1: ("node-1", "node-0")}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards, each led by another of two nodes, whose copies are equal: two chunk batches each, and a log."""
    data_dir = tmp_path_factory.mktemp("copies")
    for shard, nodes in LEADERS.items():
        copied = CopiedShard(data_dir, shard, nodes)
        copied.write(2)
        copied.write(1, is_flushed=False)
        copied.close()
    put_copies(data_dir, LEADERS, epoch=1)
    return data_dir


@pytest.fixture
def data_dir(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "data"))


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)


def spoil(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def test_of_copies_that_a_stream_feeds_the_one_that_has_flushed_most_is_the_newest(tmp_path: Path) -> None:
    for node, flushed in (("node-0", 1), ("node-1", 3), ("node-2", 2)):
        path = copy_path(tmp_path, node, 0)
        path.parent.mkdir(parents=True)
        shard = Shard.open(ShardSpec("prom", 0, 1, path, STORE))
        for offset in range(4):
            shard.append([container([({"__name__": "m"}, [(NOW_MS + offset, 1.0)])])], [offset])
            if offset < flushed:
                shard.flush_all(NOW_MS)
        shard.close()
    ((chosen, _),) = [(one.file.node, one.doubts) for one in newest_copies(tmp_path, find_shard_files(tmp_path))]
    assert chosen == "node-1"


def fall_behind(data_dir: Path, shard: int, nodes: Sequence[str] = ("node-0", "node-1")) -> None:
    """The first leads at the next epoch and is alone in sync: it writes what no other gets."""
    copied = CopiedShard(data_dir, shard, nodes[:1], epoch=2, first_step=10)
    copied.write(3)
    copied.close()


# ---- verify


def test_verify_looks_at_every_copy_and_names_its_node(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tsdb", "verify", str(data_dir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"{copy_path(data_dir, node, shard)} ({node}'s copy)" for shard in (0, 1) for node in ("node-0", "node-1")
    ]
    change(copy_path(data_dir, "node-1", 0), "UPDATE chunks SET data = zeroblob(length(data)) WHERE batch_id = 1")
    copy_path(data_dir, "node-0", 1).unlink()
    assert main(["tsdb", "verify", str(data_dir)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "damaged" in line or "missing" in line] == [
        f"{copy_path(data_dir, 'node-1', 0)} (node-1's copy): damaged, 5 series, 10 chunks, 1 log rows",
        f"{copy_path(data_dir, 'node-0', 1)} (node-0's copy): missing",
    ]


def test_equal_copies_are_equal(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tsdb", "verify", "--replicas", str(data_dir)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"prom shard {shard}: the copies of node-0, node-1 are equal, 2 chunk batches" for shard in (0, 1)
    ]


Harm = Callable[[Path], None]
HARMS: dict[str, tuple[Harm, list[str]]] = {
    "a byte of a follower's chunk batch": (
        lambda path: change(path, "UPDATE chunks SET data = CAST(substr(data, 2) || x'07' AS BLOB) WHERE batch_id = 2"),
        [r"chunk batch 2: node-0 has it with checksum [0-9a-f]{16}; node-1 has it with checksum [0-9a-f]{16}"],
    ),
    "a follower's chunk batch is gone": (
        lambda path: change(path, "DELETE FROM chunks WHERE batch_id = 1"),
        [r"chunk batch 1: node-0 has it with checksum [0-9a-f]{16}; missing at node-1"],
    ),
    "a follower has one too many": (
        lambda path: change(path, "INSERT INTO chunks SELECT 9, written_ms, meta, data FROM chunks WHERE batch_id = 1"),
        [
            r"chunk batch 9: node-1 has it with checksum [0-9a-f]{16}; extra, for the newest copy \(node-0\) has it "
            "not; missing at node-0"
        ],
    ),
    "a follower's file is no database": (
        spoil,
        [r"node-1's copy cannot be read: .*"],
    ),
    "a follower's file is gone": (Path.unlink, ["node-0 has the only copy"]),
}


@pytest.mark.parametrize("harm", HARMS)
def test_differences_are_told_by_shard_node_and_batch(
    data_dir: Path, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    do, expected = HARMS[harm]
    do(copy_path(data_dir, "node-1", 0))
    assert main(["tsdb", "verify", "--replicas", str(data_dir)]) == 1
    first, *told, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"prom shard 0: the copies of node-0(, node-1)? differ", first)
    assert last == "prom shard 1: the copies of node-0, node-1 are equal, 2 chunk batches"
    assert len(told) == len(expected)
    for line, pattern in zip(told, expected, strict=True):
        assert re.fullmatch(f"  {pattern}", line)


def test_what_is_on_its_way_to_a_follower_is_no_difference(tmp_path: Path) -> None:
    copied = CopiedShard(tmp_path, 0, ["node-0", "node-1"])
    copied.write(2)
    copied.late["node-1"] = []
    copied.write(2)
    looked = threading.Event()
    copies_left = iter((1, 0))

    def on_copy() -> None:
        if next(copies_left) == 0:
            looked.set()

    results = []
    comparing = threading.Thread(target=lambda: results.extend(compare_copies(find_shard_files(tmp_path), on_copy)))
    comparing.start()
    assert looked.wait(30)
    copied.deliver("node-1")  # after both copies were read
    comparing.join(60)
    copied.close()
    assert [(one.batches, one.differences) for one in results] == [(4, ())]


def test_without_copies_there_is_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prom").mkdir()
    shutil.copy(_one_file(tmp_path / "x"), tmp_path / "prom" / "shard-0.db")
    shutil.rmtree(tmp_path / "x")
    assert main(["tsdb", "verify", "--replicas", str(tmp_path)]) == 1
    assert "no data set there has several copies" in capsys.readouterr().err


def _one_file(data_dir: Path) -> Path:
    CopiedShard(data_dir, 0, ["node-0"]).close()
    return copy_path(data_dir, "node-0", 0)


# ---- which copy is read


def test_dump_and_analyze_take_each_shard_once_from_its_newest_copy(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fall_behind(data_dir, 0)
    fall_behind(data_dir, 1, ("node-1", "node-0"))
    assert main(["tsdb", "dump", str(data_dir)]) == 0
    told = capsys.readouterr()
    assert "prom: node-0's copies of shards 0\nprom: node-1's copies of shards 1\n" in told.err
    assert f"{2 * SERIES * 6} samples written" in told.err, "of each series three that all copies have, and three more"
    assert main(["tsdb", "analyze", str(data_dir)]) == 0
    assert capsys.readouterr().out.startswith(f"2 shards, {2 * SERIES} series, ")


def test_a_copy_that_may_not_be_the_newest_is_told(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_copies(data_dir, {0: ("node-2",), 1: ("node-0", "node-1")}, epoch=1)
    spoil(copy_path(data_dir, "node-1", 1))
    expected = "dataset prom shard 0: in sync was node-2, of which no copy can be read"
    assert [one.doubts for one in newest_copies(data_dir, find_shard_files(data_dir))] == [(expected,), ()]
    assert main(["tsdb", "dump", str(data_dir)]) == 1
    assert f"there may be more: {expected}" in capsys.readouterr().err


# ---- snapshot and restore


def started_on(data_dir: Path, nodes: Sequence[str]) -> Iterator[tuple[str, int]]:
    """By a coordinator that begins there, to lead."""
    with closing(MetaStore.open(None, data_dir)) as store:
        manager = ShardManager(9, store.restored_state({}))
    for command in manager.handle(MembersJoined(tuple(MemberJoined(node, 1, ()) for node in nodes)), 0):
        if isinstance(command, StartShards):
            yield from ((command.node, shard) for shard, _ in command.shards)


def test_a_snapshot_has_the_newest_copy_of_each_shard_and_that_leads_where_it_is_restored(
    data_dir: Path, tmp_path: Path
) -> None:
    fall_behind(data_dir, 0)
    put_copies(data_dir, {0: ("node-0",), 1: ("node-0", "node-1")}, epoch=2)
    manifest = create_snapshot(data_dir, tmp_path / "snapshot")
    shards = {file.shard: file.path for file in manifest.files if file.shard is not None}
    assert shards[0] == "copies/node-0/prom/shard-0.db"
    restore_snapshot(tmp_path / "snapshot", tmp_path / "restored")
    assert len(find_shard_files(tmp_path / "restored")) == 2, "each shard once"
    assert manifest.nodes == sorted({path.split("/")[1] for path in shards.values()})
    kept = [(shards[shard].split("/")[1], shard) for shard in (0, 1)]
    assert sorted(started_on(tmp_path / "restored", ["node-0", "node-1", "node-2"])) == sorted(kept)


def test_a_snapshot_that_may_lack_what_was_acknowledged_is_none(data_dir: Path, tmp_path: Path) -> None:
    shutil.rmtree(data_dir / "copies" / "node-1")
    create_snapshot(data_dir, tmp_path / "sound")
    put_copies(data_dir, {0: ("node-0",), 1: ("node-1",)}, epoch=2)
    with pytest.raises(Unavailable, match=r"shard 1: in sync was node-1, of which no copy can be read"):
        create_snapshot(data_dir, tmp_path / "lacking")
    assert not (tmp_path / "lacking").exists()


@pytest.mark.parametrize("has_store", [True, False], ids=["with the store", "whose store is elsewhere"])
def test_shards_whose_copies_are_all_on_other_machines_are_missed(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], has_store: bool
) -> None:
    for node in LEADERS[1]:
        copy_path(data_dir, node, 1).unlink()
        write_dataset_file(copy_path(data_dir, node, 0).parent, REPLICATED)
    if not has_store:
        (data_dir / SQLITE_FILE).unlink()
    wanted = r"shard 1(, 2, 3|-3)?: no copy is here; where nodes have machines of their own"
    with pytest.raises(Unavailable, match=wanted):
        create_snapshot(data_dir, tmp_path / "snapshot")
    assert main(["tsdb", "analyze", str(data_dir)]) == 1
    assert re.search(wanted, capsys.readouterr().err)


def test_a_snapshot_knows_no_machines(data_dir: Path, tmp_path: Path) -> None:
    with closing(MetaStore(f"sqlite:///{data_dir / SQLITE_FILE}")) as store:
        store.put_machine("node-0", "10.0.0.1")
    create_snapshot(data_dir, tmp_path / "snapshot")
    with closing(MetaStore(f"sqlite:///{tmp_path / 'snapshot' / SQLITE_FILE}")) as store:
        assert store.restored_state({}).machines == {}


def test_a_snapshots_store_is_one_plain_file(data_dir: Path, tmp_path: Path) -> None:
    create_snapshot(data_dir, tmp_path / "snapshot")
    assert [path.name for path in (tmp_path / "snapshot").glob(f"{SQLITE_FILE}*")] == [SQLITE_FILE]


# ---- import


def test_an_import_into_copies_is_refused(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.om").write_text("m 1 1\n# EOF\n")
    assert main(["tsdb", "import", str(tmp_path / "in.om"), "--into", str(data_dir)]) == 1
    assert "copies on 2 nodes, which only their leaders keep equal" in capsys.readouterr().err
    assert main(["tsdb", "verify", "--replicas", str(data_dir)]) == 0
