"""Coordinators on copies of shards whose store was lost, emptied or put back; and what adopt-copies makes of them."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from shard_copies import REPLICATED, CopiedShard, copy_path, put_copies
from shards import STORE

from filoray.cluster.config.dataset import LOG_STREAM_FACTORY, DatasetConfig
from filoray.cluster.config.dataset_file import DATASET_FILE, write_dataset_file
from filoray.cluster.config.server_config import load_server_config
from filoray.cluster.control.copy_set import CopySet
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.node_protocol import StoredCopies
from filoray.cluster.store.meta_store import SQLITE_FILE, MetaStore
from filoray.cluster.store.store_claim import StoreNotOurs, claim
from filoray.command.cli import main
from filoray.nodes.host.shard_files import ShardFiles

PLAIN = DatasetConfig("plain", "g", 1, 1, LOG_STREAM_FACTORY, 0, {}, STORE)
ALL = ("--nodes", "node-0,node-1")


def begin(data_dir: Path, **overrides: str) -> MetaStore:
    """As a coordinator does."""
    config = load_server_config(None, {"data-dir": str(data_dir), **overrides})
    store = MetaStore.open(config.meta_store_url, config.data_dir)
    try:
        claim(store, config)
    except BaseException:
        store.close()
        raise
    store.next_generation()
    return store


def copies_of(data_dir: Path, **overrides: str) -> list[CopySet]:
    """As a coordinator that begins there knows them."""
    with closing(begin(data_dir, **overrides)) as store:
        ((_, shard_map),) = [one for one in store.restored_state({}).shard_maps if one[0].has_copies]
        return [entry.copies for entry in shard_map.shards]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies on two nodes, without a coordinator's store. Of shard 0 node-1's is older, of shard 1 both are equal."""
    data_dir = tmp_path_factory.mktemp("copies")
    for shard in (0, 1):
        copied = CopiedShard(data_dir, shard, ["node-0", "node-1"], epoch=3)
        copied.write(2)
        if shard == 0:
            copied.away.add("node-1")
            copied.write(2)
        copied.close()
    return data_dir


@pytest.fixture
def data_dir(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "data"))


def adopt(data_dir: Path, *options: str) -> int:
    return main(["tsdb", "adopt-copies", str(data_dir), *options])


# ---- what a launch does


@pytest.mark.parametrize("recover", ["false", "true"])
def test_a_launch_never_begins_over_copies_that_its_store_does_not_know(data_dir: Path, recover: str) -> None:
    for _ in range(2):
        with pytest.raises(StoreNotOurs, match=r"copies of shards of prom \(node-0, node-1\), but coordinator.db"):
            begin(data_dir, **{"recover-datasets": recover})
    with pytest.raises(StoreNotOurs, match=f"filoray tsdb adopt-copies {data_dir}$"):
        begin(data_dir)


def test_nor_over_copies_in_an_emptied_store(data_dir: Path, tmp_path: Path) -> None:
    shutil.move(data_dir / "copies", tmp_path / "copies")
    begin(data_dir).close()
    shutil.move(tmp_path / "copies", data_dir / "copies")
    with pytest.raises(StoreNotOurs, match="nor which of them have all that was acknowledged"):
        begin(data_dir, **{"recover-datasets": "true"})
    assert adopt(data_dir, *ALL) == 0
    assert copies_of(data_dir)[0].in_sync[0] == "node-0"


def test_a_store_that_knows_them_goes_on_and_a_copy_of_all_of_it_too(data_dir: Path, tmp_path: Path) -> None:
    put_copies(data_dir, {0: ("node-0",), 1: ("node-1", "node-0")}, epoch=3)
    known = copies_of(data_dir)
    assert [copies.in_sync for copies in known] == [("node-0",), ("node-1", "node-0")]
    copy = shutil.copytree(data_dir, tmp_path / "copy")
    with pytest.raises(StoreNotOurs, match="which is still there"):
        begin(copy)
    assert copies_of(copy, **{"adopt-copy": "true"}) == known


def test_what_was_deleted_while_its_node_was_away_keeps_no_launch_back(data_dir: Path) -> None:
    put_copies(data_dir, {}, epoch=0, config=dataclasses.replace(REPLICATED, generation=1))
    with closing(begin(data_dir)) as store:
        ((config, shard_map),) = store.restored_state({}).shard_maps
    assert config.generation == 1
    assert adopt(data_dir, *ALL, "--accept-loss") == 1, "there is nothing to adopt"
    assert all(not entry.copies.in_sync for entry in shard_map.shards)


# ---- what is adopted


def test_the_newest_of_all_copies_leads_and_the_others_follow(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adopt(data_dir, *ALL) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "prom: copies of node-0, node-1"
    assert told[1] == "  shard 0: node-0 leads; sound: node-0 (epoch 3, next offset 4), node-1 (epoch 3, next offset 2)"
    first, second = copies_of(data_dir)
    assert (first.in_sync, first.followers) == (("node-0",), ("node-1",))
    assert {*second.in_sync, *second.followers} == {"node-0", "node-1"}
    assert len(second.in_sync) == 1
    with closing(MetaStore.open(None, data_dir)) as store:
        assert store.restored_state({}).epochs == {("prom", 0): 3, ("prom", 1): 3}
        assert set(store.opened_shards()) == {("prom", 0), ("prom", 1)}, "what they lead from must be there"


def test_a_later_epoch_is_newer_than_a_longer_log(data_dir: Path) -> None:
    copied = CopiedShard(data_dir, 0, ["node-1"], epoch=4, first_step=10)
    copied.write(1)
    copied.close()
    assert adopt(data_dir, *ALL) == 0
    assert copies_of(data_dir)[0].in_sync == ("node-1",)


def test_data_sets_with_one_copy_are_recovered_with_them(data_dir: Path) -> None:
    copied = CopiedShard(data_dir, 0, ["x"], config=PLAIN)
    copied.close()
    shutil.move(copy_path(data_dir, "x", 0, PLAIN).parent, data_dir / "plain")
    write_dataset_file(data_dir / "plain", PLAIN)
    (data_dir / "copies" / "x").rmdir()
    assert adopt(data_dir, *ALL) == 0
    with closing(begin(data_dir)) as store:
        assert {config.name for config, _ in store.restored_state({}).shard_maps} == {"plain", "prom"}


def test_a_store_elsewhere_is_told(data_dir: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/elsewhere.db"
    with pytest.raises(StoreNotOurs, match="--meta-store-url URL"):
        begin(data_dir, **{"meta-store-url": url})
    assert adopt(data_dir, *ALL, "--meta-store-url", url) == 0
    assert copies_of(data_dir, **{"meta-store-url": url})[0].in_sync == ("node-0",)


# ---- what is not, unless its loss is accepted


def lose_node(data_dir: Path) -> None:
    shutil.rmtree(data_dir / "copies" / "node-1")


def lose_file(data_dir: Path) -> None:
    copy_path(data_dir, "node-1", 1).unlink()


def lose_shard(data_dir: Path) -> None:
    for node in ("node-0", "node-1"):
        copy_path(data_dir, node, 1).unlink()


def spoil_newest(data_dir: Path) -> None:
    path = copy_path(data_dir, "node-0", 0)
    data = bytearray(path.read_bytes())
    place = data.index(b"SQLite format 3")
    data[place : place + 6] = b"spoilt"
    path.write_bytes(data)


def damage_newest(data_dir: Path) -> None:
    with closing(sqlite3.connect(copy_path(data_dir, "node-0", 0))) as database, database:
        database.execute("UPDATE chunks SET data = zeroblob(length(data))")


def in_sync_is_away(data_dir: Path) -> None:
    put_copies(data_dir, {0: ("node-2",), 1: ("node-0", "node-1")}, epoch=3)


def store_is_older(data_dir: Path) -> None:
    put_copies(data_dir, {0: ("node-1",), 1: ("node-0", "node-1")}, epoch=2)


def nothing(data_dir: Path) -> None:
    pass


Do = Callable[[Path], None]
DOUBTS: dict[str, tuple[Do, Sequence[str], str, tuple[str, ...]]] = {
    "nobody says which nodes there were": (nothing, (), "name all nodes that the cluster had", ("node-0",)),
    "a node is not there": (lose_node, ALL, "the copies of node-1 are not there", ("node-0",)),
    "a copy is not there": (lose_file, ALL, "prom shard 1: only 1 of 2 copies is there", ("node-0",)),
    "no copy of a shard is there": (lose_shard, ALL, "shard 1: there is no copy that can be read", ("node-0",)),
    "the newest cannot be read": (spoil_newest, ALL, "node-0's copy of shard 0 of prom cannot be read", ("node-1",)),
    "the newest is damaged": (damage_newest, ALL, "node-0's copy of shard 0 of prom is damaged", ("node-1",)),
    "who was in sync is not there": (in_sync_is_away, (), "in sync was node-2, of which no copy", ("node-0",)),
    "the store was put back": (store_is_older, (), "store is older than the copies: epoch 2, theirs is 3", ("node-0",)),
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_nothing_is_written_that_may_lack_what_was_acknowledged(
    data_dir: Path, doubt: str, capsys: pytest.CaptureFixture[str]
) -> None:
    do, options, expected, leader = DOUBTS[doubt]
    do(data_dir)
    with closing(MetaStore.open(None, data_dir)) as store:
        before, is_new = store.restored_state({}), store.is_new
    assert adopt(data_dir, *options) == 1
    told = capsys.readouterr().err
    assert expected in told
    assert "nothing was written" in told
    with closing(MetaStore.open(None, data_dir)) as store:
        assert (store.restored_state({}), store.is_new) == (before, is_new)
    assert adopt(data_dir, *options, "--accept-loss") == 0
    assert copies_of(data_dir)[0].in_sync == leader


def test_damage_of_one_of_two_equal_copies_is_no_loss(data_dir: Path) -> None:
    first = copy_path(data_dir, "node-0", 1)
    with closing(sqlite3.connect(first)) as database, database:
        database.execute("UPDATE chunks SET data = zeroblob(length(data))")
    assert adopt(data_dir, *ALL) == 0
    assert copies_of(data_dir)[1] == CopySet(1, (), ("node-1",))


def test_a_store_that_says_who_was_in_sync_is_enough(data_dir: Path) -> None:
    """No node has to be named: of those in sync one is there, and what is newest has all that it has."""
    put_copies(data_dir, {0: ("node-0", "node-2"), 1: ("node-1", "node-2")}, epoch=3)
    assert adopt(data_dir) == 0
    assert copies_of(data_dir)[0] == CopySet(8, ("node-1",), ("node-0",))


def test_who_was_in_sync_is_not_forgotten_for_one_that_is_not(data_dir: Path) -> None:
    """Of shard 0 node-0 is ahead, and damaged: node-1 has not what node-0 acknowledged alone."""
    put_copies(data_dir, {0: ("node-0",), 1: ("node-0", "node-1")}, epoch=3)
    damage_newest(data_dir)
    assert adopt(data_dir) == 1
    assert copies_of(data_dir)[0].in_sync == ("node-0",)


def test_copies_that_are_in_use_are_left_alone(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(CopiedShard(data_dir, 1, ["node-1"], epoch=5)):
        assert adopt(data_dir, *ALL, "--accept-loss") == 1
    assert "is in use: stop the cluster" in capsys.readouterr().err
    put_copies(data_dir, {}, epoch=0)
    with closing(begin(data_dir)):
        assert adopt(data_dir, *ALL, "--accept-loss") == 1
    assert "another coordinator uses" in capsys.readouterr().err


def test_every_node_that_has_copies_must_be_named(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adopt(data_dir, "--nodes", "node-0", "--accept-loss") == 1
    assert "node-1 has copies too: --nodes is to name all nodes" in capsys.readouterr().err


def test_directories_have_to_agree_on_their_data_set(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (copy_path(data_dir, node, 0).parent for node in ("node-0", "node-1"))
    write_dataset_file(second, dataclasses.replace(REPLICATED, spread=0))
    assert adopt(data_dir, *ALL) == 1
    assert "differ: remove the one that is wrong" in capsys.readouterr().err
    for directory in (first, second):
        (directory / DATASET_FILE).unlink()
    assert adopt(data_dir, *ALL) == 1
    assert f"has a {DATASET_FILE} that says how it was set up" in capsys.readouterr().err


def test_copies_of_a_lost_data_set_are_not_taken_for_those_of_one_that_was_set_up_after_it(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_copies(data_dir, {}, epoch=0, config=dataclasses.replace(REPLICATED, cluster_id="new"))
    assert adopt(data_dir, *ALL, "--accept-loss") == 1
    assert "is not of the dataset prom that the store knows" in capsys.readouterr().err


def test_adopted_copies_are_known_by_whose_they_were(data_dir: Path) -> None:
    config = dataclasses.replace(REPLICATED, cluster_id="lost")
    for node in ("node-0", "node-1"):
        write_dataset_file(copy_path(data_dir, node, 0).parent, config)
    assert adopt(data_dir, *ALL) == 0
    with closing(begin(data_dir)) as store:
        state = store.restored_state({})
    assert state.cluster_id != "lost"
    manager = ShardManager(1, state)
    assert manager.knew(*ShardFiles("node-1", data_dir, None).stored())
    assert not manager.knew(StoredCopies("prom", 0, (0,), state.cluster_id))


def test_without_copies_there_is_nothing_to_adopt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adopt(tmp_path, *ALL) == 1
    assert not (tmp_path / SQLITE_FILE).exists(), "nothing is made there"
    assert "holds no shard files" in capsys.readouterr().err
