"""Which stores a coordinator may go by: copies, lost ones, and those that another uses."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import PostgresServer, running_postgres

from filoray.cluster.config.dataset import LOG_STREAM_FACTORY, DatasetConfig
from filoray.cluster.config.dataset_file import DATASET_FILE, read_dataset_file, write_dataset_file
from filoray.cluster.config.server_config import ServerConfig, default_server_config, load_server_config
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_messages import DatasetSetUp
from filoray.cluster.errors import Unavailable
from filoray.cluster.node_protocol import StoredCopies
from filoray.cluster.store.meta_store import MetaStore, StoreIdentity, StoreInUse
from filoray.cluster.store.store_claim import Relation, StoreNotOurs, StorePlace, claim, relation
from filoray.command.tsdb.snapshot import create_snapshot, restore_snapshot
from filoray.nodes.host.shard_files import ShardFiles

DATASET = DatasetConfig("d", "g", 4, 2, LOG_STREAM_FACTORY, 1, {"password": "x"}, default_server_config().store)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


def config(data_dir: Path, **overrides: str) -> ServerConfig:
    return load_server_config(None, {"data-dir": str(data_dir), **overrides})


def begin(data_dir: Path, **overrides: str) -> MetaStore:
    """As a coordinator does."""
    settings = config(data_dir, **overrides)
    store = MetaStore.open(settings.meta_store_url, settings.data_dir)
    try:
        claim(store, settings)
    except BaseException:
        store.close()
        raise
    store.next_generation()
    return store


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A cluster with a node's process and a dataset, stopped without a word."""
    data_dir = tmp_path / "original"
    store = begin(data_dir)
    store.put_incarnation("node-0", 3)
    store.put_process("node-0", 1234, 5.5)
    store.put_dataset(DATASET, is_deleting=False)
    store.close()
    return data_dir


@pytest.mark.parametrize(
    ("path", "inode", "expected"),
    [
        ("/a/coordinator.db", 7, Relation.SAME),
        ("/b/coordinator.db", 7, Relation.MOVED),
        ("/a/coordinator.db", 8, Relation.MOVED),
        ("/b/coordinator.db", 8, Relation.COPY),
    ],
)
def test_a_file_is_known_by_path_and_inode(path: str, inode: int, expected: Relation) -> None:
    assert relation(StoreIdentity("x", "/a/coordinator.db", 7), StorePlace(Path(path), inode)) is expected


def pid(store: MetaStore) -> int | None:
    return store.nodes()["node-0"].pid


def test_the_same_directory_goes_on_and_a_moved_one_too(original: Path, tmp_path: Path) -> None:
    store = begin(original)
    first = store.identity()
    assert pid(store) == 1234
    store.close()
    moved = original.rename(tmp_path / "moved")
    store = begin(moved)
    assert pid(store) == 1234
    assert store.identity() == dataclasses.replace(first, path=str(moved / "coordinator.db"))
    store.close()


def test_a_copy_beside_its_original_is_refused_until_an_operator_says_so(original: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    with pytest.raises(
        StoreNotOurs, match=r"copy/coordinator.db is a copy of .*original/coordinator.db, which is still "
    ):
        begin(copy)
    with pytest.raises(StoreNotOurs, match=r"--data-dir .*/original\), or .* set filoray.adopt-copy = true"):
        begin(copy)
    adopted = begin(copy, **{"adopt-copy": "true"})
    assert pid(adopted) is None, "they are the original's processes"
    assert list(adopted.restored_state({}).generations) == ["d"]
    first = begin(original)
    assert pid(first) == 1234
    assert first.identity().cluster_id != adopted.identity().cluster_id
    first.close()
    adopted.close()
    begin(copy).close()


def test_a_copy_without_its_original_goes_on_without_the_processes(original: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    shutil.rmtree(original)
    shared = {"column-store-url": "postgresql+psycopg://u@h/d"}
    with pytest.raises(StoreNotOurs, match="which cannot be seen from here; both would use the same column store"):
        begin(copy, **shared)
    store = begin(copy)
    assert pid(store) is None
    store.close()


def test_a_restored_snapshot_is_a_cluster_of_its_own(original: Path, tmp_path: Path) -> None:
    (original / "d").mkdir()
    from filoray.nodes.memstore.shard import Shard
    from filoray.nodes.memstore.shard_spec import ShardSpec

    Shard.open(ShardSpec("d", 0, 1, original / "d" / "shard-0.db", DATASET.store)).close()
    create_snapshot(original, tmp_path / "snapshot")
    restore_snapshot(tmp_path / "snapshot", tmp_path / "restored")
    store = begin(tmp_path / "restored")
    assert [one.name for one, _ in store.restored_state({}).shard_maps] == ["d"]
    store.close()


# ---- one coordinator at a time


@pytest.mark.parametrize("backend", ["file", "database"])
def test_two_coordinators_never_use_one_store(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = (
        f"sqlite:///{tmp_path}/elsewhere.db" if backend == "file" else request.getfixturevalue("server").new_database()
    )
    first = begin(tmp_path / "one", **{"meta-store-url": url})
    with pytest.raises(StoreInUse, match=r"another coordinator uses .*; stop it, or give this one a"):
        begin(tmp_path / "two", **{"meta-store-url": url})
    first.put_dataset(DATASET, is_deleting=False)
    first.close()
    begin(tmp_path / "two", **{"meta-store-url": url}).close()


def test_a_coordinator_whose_place_was_taken_writes_no_more(tmp_path: Path) -> None:
    """Its hold on the store got lost, with a database's connection, say."""
    former = begin(tmp_path)
    later = MetaStore.open(None, tmp_path)
    later.next_generation()
    with pytest.raises(StoreInUse, match="coordinator 2 has taken the place of this, 1"):
        former.put_dataset(DATASET, is_deleting=False)
    later.put_dataset(DATASET, is_deleting=True)
    later.close()
    former.close()


def test_one_that_hangs_in_the_middle_of_a_write_keeps_no_other_from_its_place(server: PostgresServer) -> None:
    """Its machine was cut off, say: the database sees nothing of that."""
    url = server.new_database()
    former, later = MetaStore(url), MetaStore(url)
    former.next_generation()
    with pytest.raises(Unavailable, match="idle-in-transaction"), former._writing():
        assert later.next_generation() == 2
    later.put_dataset(DATASET, is_deleting=False)
    later.close()
    former.close()


# ---- a store that was lost


def test_a_cluster_whose_nodes_have_machines_of_their_own_is_launched_so_and_no_other(tmp_path: Path) -> None:
    apart = {"node.host": "0.0.0.0", "node.spread-over-machines": "true"}
    store = begin(tmp_path, **apart)
    store.put_machine("node-1", "10.0.0.2")
    store.close()
    with pytest.raises(StoreNotOurs, match=r"machines of their own \(node-1 on 10\.0\.0\.2\): launch it with filoray"):
        begin(tmp_path)
    begin(tmp_path, **apart).close()


def test_shards_of_one_file_are_on_one_machine(original: Path) -> None:
    with pytest.raises(StoreNotOurs, match=r"dataset d: each shard is one file"):
        begin(original, **{"node.host": "0.0.0.0", "node.spread-over-machines": "true"})
    begin(original).close()


def shards_of(data_dir: Path, dataset: DatasetConfig, *, is_described: bool = True) -> Path:
    directory = data_dir / dataset.storage_name
    directory.mkdir(parents=True)
    for shard in range(dataset.num_shards):
        (directory / f"shard-{shard}.db").touch()
    if is_described:
        write_dataset_file(directory, dataset)
    return directory


def test_shards_that_the_store_does_not_know_are_not_begun_over(tmp_path: Path) -> None:
    again = dataclasses.replace(DATASET, generation=3)
    shards_of(tmp_path, DATASET)
    shards_of(tmp_path, again)
    with pytest.raises(StoreNotOurs, match=r"holds shards of d, but coordinator.db knows of none: it was lost"):
        begin(tmp_path)
    with pytest.raises(StoreNotOurs, match=r"set filoray\.recover-datasets = true"):
        begin(tmp_path)
    store = begin(tmp_path, **{"recover-datasets": "true"})
    state = store.restored_state({})
    assert [one for one, _ in state.shard_maps] == [again], "the former generation was being deleted"
    assert state.generations == {"d": 3}
    store.close()
    begin(tmp_path).close()


def test_shards_that_say_nothing_of_themselves_are_those_of_who_is_set_up_next(tmp_path: Path) -> None:
    shards_of(tmp_path, dataclasses.replace(DATASET, generation=2), is_described=False)
    store = begin(tmp_path, **{"recover-datasets": "true"})
    manager = ShardManager(1, store.restored_state({}))
    manager.handle(DatasetSetUp(DATASET), 0)
    assert manager.datasets["d"][0].storage_name == "d@2"
    store.close()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"store": {}}', "null", '{"name": "d", "store": null}'])
def test_a_description_that_is_none_is_passed_over(text: str, tmp_path: Path) -> None:
    (tmp_path / DATASET_FILE).write_text(text)
    assert read_dataset_file(tmp_path) is None


def test_a_description_is_its_owners_alone(tmp_path: Path) -> None:
    write_dataset_file(tmp_path, DATASET)
    assert (tmp_path / DATASET_FILE).stat().st_mode & 0o077 == 0
    assert read_dataset_file(tmp_path) == DATASET
    assert [path.name for path in tmp_path.iterdir()] == [DATASET_FILE]


@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_what_is_stored_says_whose_it_is(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The generations of a store that was lost begin anew, and so do not tell its data sets' files from its own."""
    overrides = {}
    if backend == "postgres":
        overrides["meta-store-url"] = request.getfixturevalue("server").new_database()
    ids = []
    for _ in range(2):
        store = begin(tmp_path / "here", **overrides)
        ids.append(store.restored_state({}).cluster_id)
        store.close()
    assert len(ids[0]) == 16
    assert ids[0] == ids[1]

    store = begin(tmp_path / "here", **overrides)
    manager = ShardManager(1, store.restored_state({}))
    manager.handle(DatasetSetUp(dataclasses.replace(DATASET, num_replicas=2)), 0)
    present = manager.datasets["d"][0]
    store.put_dataset(present, is_deleting=False)
    files = ShardFiles("node-0", tmp_path / "here", None)
    path = files.path(present, 3)
    path.parent.mkdir(parents=True)
    path.touch()
    files.describe(present)
    assert files.stored() == (StoredCopies("d", 0, (3,), ids[0]),)
    assert manager.knew(*files.stored())
    store.close()
    begin(tmp_path / "here", **overrides).close()

    files.describe(dataclasses.replace(present, cluster_id="another"))
    assert not manager.knew(*files.stored())
    with pytest.raises(StoreNotOurs, match=r"holds copies of shards of d \(node-0\), but .* does not know them"):
        begin(tmp_path / "here", **overrides)
