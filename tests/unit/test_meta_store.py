"""What the coordinator's store keeps, in its SQLite file and in a real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from postgres_server import PostgresServer, running_postgres

from filoray.cluster.config.dataset import LOG_STREAM_FACTORY, DatasetConfig
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.copy_set import CopySet
from filoray.cluster.control.shard_map import ShardEntry, ShardMap
from filoray.cluster.control.shard_status import ShardStatus, StatusKind
from filoray.cluster.errors import Unavailable
from filoray.cluster.store.meta_store import MetaStore, NodeRow

OpenStore = Callable[[], MetaStore]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    url = request.getfixturevalue("server").new_database() if request.param == "postgres" else None
    opened: list[MetaStore] = []

    def open_one() -> MetaStore:
        opened.append(MetaStore.open(url, tmp_path))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def _config(name: str) -> DatasetConfig:
    store = default_server_config().store
    return DatasetConfig(name, "gauge", 2, 1, LOG_STREAM_FACTORY, 1, {"topic": "x", "n": [1]}, store)


def _entry(shard: int, kind: StatusKind, node: str | None, epoch: int) -> ShardEntry:
    return ShardEntry(shard, ShardStatus(kind), node, epoch)


def test_everything_is_there_after_a_restart(open_store: OpenStore) -> None:
    store = open_store()
    assert store.next_generation() == 1
    store.put_dataset(_config("a"), is_deleting=False)
    shards = (_entry(0, StatusKind.ACTIVE, "node-0", 3), _entry(1, StatusKind.STOPPED, None, 2))
    store.put_shard_map(ShardMap("a", 9, shards))
    store.put_incarnation("node-0", 4)
    store.put_process("node-0", 17, 1.5)
    store.close()

    again = open_store()
    assert again.next_generation() == 2
    assert again.nodes() == {"node-0": NodeRow("node-0", 4, 17, 1.5)}
    ((config, shard_map),) = again.restored_state({"node-0": 4}).shard_maps
    assert config == _config("a")
    assert shard_map.shards == shards


def test_shards_of_a_node_that_is_no_more_are_down(open_store: OpenStore) -> None:
    store = open_store()
    store.put_dataset(_config("a"), is_deleting=False)
    shards = (_entry(0, StatusKind.ACTIVE, "node-0", 3), _entry(1, StatusKind.ACTIVE, "node-1", 2))
    store.put_shard_map(ShardMap("a", 9, shards))
    ((_, shard_map),) = store.restored_state({"node-1": 1}).shard_maps
    assert [entry.status.kind for entry in shard_map.shards] == [StatusKind.DOWN, StatusKind.ACTIVE]
    assert [entry.epoch for entry in shard_map.shards] == [3, 2]


def test_only_what_changed_is_written_and_all_is_there(open_store: OpenStore) -> None:
    store = open_store()
    store.next_generation()
    store.put_dataset(_config("a"), is_deleting=False)
    first = ShardMap("a", 9, (_entry(0, StatusKind.ACTIVE, "node-0", 3), _entry(1, StatusKind.ACTIVE, "node-1", 2)))
    store.put_shard_map(first)
    statements: list[object] = []
    sa.event.listen(store._engine, "before_cursor_execute", lambda *seen: statements.append(seen[3]))
    copies = CopySet(4, ("node-2",), ("node-1", "node-2"))
    second = first.with_entries([replace(first[1], epoch=5, copies=copies)])
    store.put_shard_map(second)
    written = [shown for shown in statements if "a" in _values(shown)]
    assert written
    assert not any(0 in _values(shown) for shown in written), "shard 0 is as it was"
    ((_, shard_map),) = open_store().restored_state({"node-0": 1, "node-1": 1}).shard_maps
    assert shard_map.shards == second.shards
    assert store.restored_state({}).epochs == {("a", 0): 3, ("a", 1): 5}


def _values(parameters: object) -> list[object]:
    """Of one statement, or of many at once."""
    if isinstance(parameters, dict):
        return list(parameters.values())
    assert isinstance(parameters, list | tuple)
    return [value for one in parameters for value in (_values(one) if isinstance(one, dict | tuple | list) else [one])]


def test_a_map_whose_writing_failed_is_written_whole_the_next_time(open_store: OpenStore) -> None:
    store = open_store()
    store.next_generation()
    store.put_dataset(_config("a"), is_deleting=False)
    first = ShardMap("a", 9, (_entry(0, StatusKind.ACTIVE, "node-0", 3), _entry(1, StatusKind.ACTIVE, "node-1", 2)))
    store.put_shard_map(first)
    second = first.with_entries([replace(first[0], epoch=4)])

    def refuse(*_: object) -> None:
        raise Unavailable("the disk is full")

    sa.event.listen(store._engine, "commit", refuse)
    with pytest.raises(Unavailable):
        store.put_shard_map(second)
    sa.event.remove(store._engine, "commit", refuse)
    third = second.with_entries([replace(second[1], epoch=6)])
    store.put_shard_map(third)
    ((_, shard_map),) = store.restored_state({"node-0": 1, "node-1": 1}).shard_maps
    assert shard_map.shards == third.shards


def test_nothing_is_left_of_the_map_of_a_dataset_that_is_set_up_anew(open_store: OpenStore) -> None:
    store = open_store()
    store.next_generation()
    for _ in range(2):
        store.put_dataset(_config("a"), is_deleting=False)
        ((_, fresh),) = store.restored_state({}).shard_maps
        assert {entry.node for entry in fresh.shards} == {None}
        entries = (_entry(0, StatusKind.ACTIVE, "node-0", 3), _entry(1, StatusKind.ACTIVE, "node-1", 2))
        store.put_shard_map(ShardMap("a", 9, entries))
        ((_, shard_map),) = store.restored_state({"node-0": 1, "node-1": 1}).shard_maps
        assert shard_map.shards == entries


def test_a_map_that_an_earlier_release_wrote_whole_is_read(open_store: OpenStore) -> None:
    store = open_store()
    store.put_dataset(_config("a"), is_deleting=False)
    whole = '[["ShardStatusActive", "", "node-0", 3, [7, ["node-1"], ["node-0"]]], ["ShardStatusStopped", "", null, 2]]'
    with store._engine.begin() as connection:
        connection.execute(sa.text("UPDATE datasets SET shard_map = :whole"), {"whole": whole})
    ((_, shard_map),) = store.restored_state({"node-0": 4}).shard_maps
    expected = (
        replace(_entry(0, StatusKind.ACTIVE, "node-0", 3), copies=CopySet(7, ("node-1",), ("node-0",))),
        _entry(1, StatusKind.STOPPED, None, 2),
    )
    assert shard_map.shards == expected
    moved = shard_map.with_entries([replace(shard_map[1], epoch=9)])
    store.put_shard_map(moved)
    ((_, shard_map),) = store.restored_state({"node-0": 4}).shard_maps
    assert shard_map.shards == moved.shards
    with store._engine.begin() as connection:
        kept = connection.execute(sa.text("SELECT shard_map FROM datasets")).scalar()
    with pytest.raises(ValueError, match="Expecting value"):  # that release would stop, rather than begin with no map
        json.loads(kept)
    with store._engine.begin() as connection:
        connection.execute(sa.text("UPDATE datasets SET shard_map = :whole"), {"whole": whole})
    ((_, shard_map),) = open_store().restored_state({"node-0": 4}).shard_maps
    expected = (expected[0], replace(expected[1], epoch=9))
    assert shard_map.shards == expected, "if it came back all the same, what it wrote is the newer"


def test_epochs_outlive_their_dataset(open_store: OpenStore) -> None:
    store = open_store()
    store.put_dataset(_config("a"), is_deleting=False)
    store.put_shard_map(
        ShardMap("a", 9, (_entry(0, StatusKind.ACTIVE, "node-0", 3), _entry(1, StatusKind.DOWN, None, 5)))
    )
    store.put_dataset(_config("a"), is_deleting=True)
    assert [config.name for config in store.restored_state({}).deleting] == ["a"]
    store.forget_dataset("a")
    state = store.restored_state({})
    assert (state.shard_maps, state.deleting) == ((), ())
    assert state.epochs == {("a", 0): 3, ("a", 1): 5}


def test_which_shards_were_open_is_remembered(open_store: OpenStore) -> None:
    store = open_store()
    assert store.opened_shards() == {}
    store.put_opened({("a", 0): 0, ("a", 1): 0})
    store.put_opened({("a", 1): 3, ("b", 7): 1})
    store.close()
    assert open_store().opened_shards() == {("a", 0): 0, ("a", 1): 3, ("b", 7): 1}


def test_a_dataset_that_was_never_assigned_is_unassigned(open_store: OpenStore) -> None:
    store = open_store()
    store.put_dataset(_config("a"), is_deleting=False)
    ((_, shard_map),) = store.restored_state({}).shard_maps
    assert {entry.status.kind for entry in shard_map.shards} == {StatusKind.UNASSIGNED}


def test_stores_that_open_at_once_get_different_generations(open_store: OpenStore) -> None:
    with ThreadPoolExecutor(6) as openers:
        futures = [openers.submit(lambda: open_store().next_generation()) for _ in range(6)]
        assert sorted(future.result() for future in futures) == [1, 2, 3, 4, 5, 6]


def test_a_server_that_was_restarted_is_no_failure(server: PostgresServer, tmp_path: Path) -> None:
    store = MetaStore.open(server.new_database(), tmp_path)
    store.put_incarnation("node-0", 1)
    server.stop()
    with pytest.raises(Unavailable, match=f"PostgreSQL at 127.0.0.1:{server.port}.*cannot write"):
        store.put_incarnation("node-0", 2)
    server.start()
    store.put_incarnation("node-0", 3)
    server.stop()
    server.start()
    assert store.nodes()["node-0"].incarnation == 3
    store.close()


def test_the_gateways_keys_are_made_once(open_store: OpenStore) -> None:
    keys = open_store().gateway_keys()
    assert (len(keys.public), len(keys.secret)) == (40, 40)
    assert open_store().gateway_keys() == keys


def test_what_operators_want_of_nodes_is_remembered(open_store: OpenStore) -> None:
    store = open_store()
    assert (store.node_count(), store.restart_left()) == (None, ())
    store.put_node_count(2)
    store.put_drained("node-1", is_drained=True)
    store.put_drained("node-1", is_drained=True)
    store.put_drained("node-0", is_drained=True)
    store.put_drained("node-0", is_drained=False)
    store.put_restart((("node-1", 4), ("node-0", 2)))
    again = open_store()
    assert again.node_count() == 2
    assert again.restored_state({}).drained == {"node-1"}
    assert again.restart_left() == (("node-1", 4), ("node-0", 2))
    again.put_restart(())
    again.put_node_count(3)
    assert (store.node_count(), store.restart_left()) == (3, ())


def test_a_launch_that_says_how_many_nodes_there_are_drains_none_for_being_too_many(open_store: OpenStore) -> None:
    store = open_store()
    for node in ("node-0", "node-2", "node-10"):
        store.put_drained(node, is_drained=True)
    store.forget_node_count()
    assert store.restored_state({}).drained == {"node-0", "node-2", "node-10"}, "nobody has scaled"
    store.put_node_count(2)
    store.forget_node_count()
    assert store.node_count() is None
    assert store.restored_state({}).drained == {"node-0"}, "that one an operator drained"


def test_a_store_from_before_nodes_could_be_drained_is_opened(open_store: OpenStore) -> None:
    store = open_store()
    store.next_generation()
    store.put_incarnation("node-0", 3)
    with store._engine.begin() as connection:
        for table in ("drained_nodes", "node_count", "restart_left"):
            connection.execute(sa.text(f"DROP TABLE {table}"))
    later = open_store()
    assert later.restored_state({"node-0": 3}).drained == frozenset()
    assert (later.node_count(), later.restart_left(), later.next_generation()) == (None, (), 2)
    later.put_drained("node-0", is_drained=True)
    assert later.restored_state({}).drained == {"node-0"}
