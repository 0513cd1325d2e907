"""The coordinator over nodes in the same event loop: what operators are told, and what goes on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fake_actors import FakeActors

from filoray.cluster.actors.coordinator import Coordinator
from filoray.cluster.config.server_config import load_server_config
from filoray.cluster.control import operator_requests
from filoray.cluster.control.patience import Patience
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.errors import DatasetUnknown, FilorayError, Unavailable
from filoray.cluster.store.meta_store import MetaStore

SOURCE = """
dataset = "d", num-shards = 4, min-num-nodes = 2
sourcefactory = "filoray.nodes.streams.LogStreamFactory", sourceconfig {}
"""


@asynccontextmanager
async def running(
    data_dir: Path, actors: FakeActors, patience: Patience | None = None, **overrides: str
) -> AsyncIterator[Coordinator]:
    config = load_server_config(None, {"data-dir": str(data_dir), "node-count": "3", **overrides})
    store = MetaStore.open(None, data_dir)
    coordinator = Coordinator(config, store, actors, lambda: pytest.fail("it ended"), patience)
    actors.coordinator = coordinator
    coordinator.start()
    await coordinator.ready()
    try:
        yield coordinator
    finally:
        await coordinator.shutdown()
        store.close()


def play(
    tmp_path: Path, story: Callable[[Coordinator, FakeActors], Awaitable[None]], patience: Patience | None = None
) -> None:
    async def run() -> None:
        actors = FakeActors()
        async with running(tmp_path, actors, patience) as coordinator:
            await story(coordinator, actors)

    asyncio.run(run())


def test_a_deletion_is_done_or_says_what_is_left(tmp_path: Path) -> None:
    async def story(coordinator: Coordinator, actors: FakeActors) -> None:
        await coordinator.setup_dataset("d", SOURCE)
        gate = actors.nodes["node-1", 1].blocked["delete"] = asyncio.Event()
        for _ in range(2):  # asked again it waits for the same deletion
            with pytest.raises(Unavailable, match=r"d is served no more, but not all .* yet: shards 1 on node-1; that"):
                await coordinator.delete_dataset("d")
        assert "d" not in actors.views[-1].datasets
        with pytest.raises(Unavailable, match="not all its data are deleted yet: shards 1 on node-1"):
            await coordinator.setup_dataset("d", SOURCE)
        gate.set()
        await coordinator.delete_dataset("d")
        assert [order[0] for order in actors.nodes["node-1", 1].orders].count("delete") == 1
        with pytest.raises(DatasetUnknown):
            await coordinator.delete_dataset("d")
        await coordinator.setup_dataset("d", SOURCE)
        assert actors.views[-1].datasets["d"].config.generation == 1

    play(tmp_path, story, Patience(deletion_ms=50))


def test_a_stopped_shard_moves_only_when_its_owner_has_closed_it(tmp_path: Path) -> None:
    async def story(coordinator: Coordinator, actors: FakeActors) -> None:
        await coordinator.setup_dataset("d", SOURCE)
        first = actors.nodes["node-1", 1]
        gate = first.blocked["stop"] = asyncio.Event()
        with pytest.raises(Unavailable, match="shards of dataset d are stopped, but node-1 has not closed all yet"):
            await coordinator.stop_shards("d", [1])
        address = "akka://filo-server@127.0.0.1:2554"
        with pytest.raises(Unavailable, match="cannot move before node-1, which had it, has closed it or is gone"):
            await coordinator.start_shards("d", address, [1])
        assert ("d", 1) not in actors.nodes["node-2", 1].held
        gate.set()
        await asyncio.sleep(0.01)
        await coordinator.start_shards("d", address, [1])
        assert ("d", 1) not in first.held
        assert actors.nodes["node-2", 1].held["d", 1] == 2

    play(tmp_path, story, Patience(stop_ms=50))


def test_an_order_says_which_shards_were_open_before_in_this_generation(tmp_path: Path) -> None:
    actors = FakeActors()

    async def first() -> None:
        async with running(tmp_path, actors) as coordinator:
            await coordinator.setup_dataset("d", SOURCE)
            await coordinator.stop_shards("d", [1])
            await coordinator.start_shards("d", "akka://filo-server@127.0.0.1:2554", [1])

    async def later() -> None:
        async with running(tmp_path, actors) as coordinator:
            await coordinator.delete_dataset("d")
            await coordinator.setup_dataset("d", SOURCE)

    asyncio.run(first())
    assert [actors.was_open["d", 1, epoch] for epoch in (1, 2)] == [False, True]
    assert [actors.was_open["d", shard, 1] for shard in range(4)] == [False] * 4
    asyncio.run(later())  # another coordinator, which has it from its store
    assert all(actors.was_open["d", shard, 3 if shard == 1 else 2] for shard in range(4))
    of_the_next = [was_open for (name, _, _), was_open in actors.was_open.items() if name == "d@1"]
    assert of_the_next == [False] * 4, "a dataset made anew has nothing yet"


@pytest.mark.parametrize("is_carried_out", [False, True], ids=["lost", "its answer lost"])
def test_an_order_to_start_is_given_again_until_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_carried_out: bool
) -> None:
    async def story(coordinator: Coordinator, actors: FakeActors) -> None:
        start, lost = actors.start_shards, []

        async def loses_the_first(node: str, *order: object) -> None:
            if is_carried_out or node in lost:
                await start(node, *order)  # type: ignore[arg-type]
            if node not in lost:
                lost.append(node)
                raise ConnectionResetError("the connection was lost")

        monkeypatch.setattr(actors, "start_shards", loses_the_first)
        await coordinator.setup_dataset("d", SOURCE)
        assert len(lost) == 3
        for _ in range(300):
            await asyncio.sleep(0.01)
            shards = actors.views[-1].datasets["d"].shard_map.shards
            if all(entry.status.kind is StatusKind.ACTIVE for entry in shards):
                break
        assert [str(entry.status) for entry in shards] == ["ShardStatusActive"] * 4
        assert "did not take it: the connection was lost" in "".join(coordinator.story("d", 0))

    play(tmp_path, story, Patience(retry_ms=10))


@pytest.mark.parametrize("method", ["kill", "wait_until_death"])
def test_what_fails_once_leaves_no_place_empty_and_ends_no_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    actors = FakeActors()
    works, failed = getattr(actors, method), []

    async def fails_once(node: str, *more: object) -> object:
        if node == "node-1" and not failed:
            failed.append(node)
            raise ConnectionResetError("the connection was lost")
        return await works(node, *more)

    monkeypatch.setattr(actors, method, fails_once)

    async def run() -> None:
        async with running(tmp_path, actors, Patience(retry_ms=10)) as coordinator:
            await coordinator.setup_dataset("d", SOURCE)
            await asyncio.sleep(0.05)
            assert ("node-1", 1) in actors.nodes, "nobody takes a failed watch for a death"
            actors.nodes["node-1", 1].death.set()
            for _ in range(300):
                await asyncio.sleep(0.01)
                if ("node-1", 2) in actors.nodes and coordinator_owns_all(coordinator):
                    break
            assert ("node-1", 2) in actors.nodes
            assert coordinator_owns_all(coordinator)

    asyncio.run(run())


def test_each_heartbeat_grants_a_lease_from_what_the_node_last_said(tmp_path: Path) -> None:
    async def run() -> None:
        actors = FakeActors()
        shared = {"column-store-url": "postgresql+psycopg://u@h/d", "node.host": "0.0.0.0"}
        async with running(tmp_path, actors, **shared, **{"node.heartbeat-interval": "10ms"}) as coordinator:
            for _ in range(200):
                await asyncio.sleep(0.01)
                if len(actors.grants["node-1", 1]) >= 3:
                    break
            first, second, third = actors.grants["node-1", 1][:3]
            assert [grant.from_ms for grant in (first, second, third)] == [1000, 1001, 1002]
            assert {grant.duration_ms for grant in (first, second, third)} == {5_000}
            assert coordinator.members()

    asyncio.run(run())


@pytest.mark.parametrize(("is_seen", "is_waited_for"), [(True, False), (False, True)])
def test_shards_of_a_process_that_was_not_seen_to_end_wait_for_the_end_of_its_lease(
    is_seen: bool, is_waited_for: bool, tmp_path: Path
) -> None:
    async def run() -> None:
        actors = FakeActors()
        actors.sees_the_end = is_seen
        shared = {"column-store-url": "postgresql+psycopg://u@h/d", "node.host": "0.0.0.0"}
        async with running(tmp_path, actors, **shared) as coordinator:
            await coordinator.setup_dataset("d", SOURCE)
            actors.nodes["node-1", 1].death.set()
            for _ in range(300):
                await asyncio.sleep(0.01)
                if actors.killed and not is_waited_for and coordinator_owns_all(coordinator):
                    break
            assert actors.killed[0][:2] == ("node-1", 1)
            assert coordinator_owns_all(coordinator) is not is_waited_for

    asyncio.run(run())


def test_a_coordinator_that_has_shut_down_answers_so(tmp_path: Path) -> None:
    async def run() -> None:
        async with running(tmp_path, FakeActors()) as coordinator:
            await coordinator.setup_dataset("d", SOURCE)
        for ask in (coordinator.view, lambda: coordinator.delete_dataset("d")):
            with pytest.raises(Unavailable, match="the cluster is shut down"):
                await asyncio.wait_for(ask(), 1)

    asyncio.run(run())


def test_all_who_shut_down_are_answered_when_that_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(coordinator: Coordinator, actors: FakeActors) -> None:
        gate = asyncio.Event()

        async def close_slowly(*_: object) -> None:
            await gate.wait()

        monkeypatch.setattr(actors, "shutdown", close_slowly)
        impatient, *patient = [asyncio.create_task(coordinator.shutdown()) for _ in range(3)]
        await asyncio.sleep(0)
        impatient.cancel()
        _, waiting = await asyncio.wait(patient, timeout=0.05)
        assert waiting == set(patient), "no node has closed"
        gate.set()
        await asyncio.wait_for(asyncio.gather(*patient), 1)
        await asyncio.wait_for(coordinator.shutdown(), 1)

    play(tmp_path, story)


def test_an_error_that_nobody_expects_is_told_to_who_asked_and_to_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(coordinator: Coordinator, actors: FakeActors) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError("a bug")

        with monkeypatch.context() as patch:
            patch.setattr(operator_requests, "check_room_for", fail)
            with pytest.raises(FilorayError, match="ZeroDivisionError: a bug"):
                await asyncio.wait_for(coordinator.setup_dataset("d", SOURCE), 1)
        await coordinator.setup_dataset("d", SOURCE)

    play(tmp_path, story)


def coordinator_owns_all(coordinator: Coordinator) -> bool:
    return all("node" in line for line in (coordinator.story("d", shard)[-1] for shard in range(4))) and not any(
        "Down:" in coordinator.story("d", shard)[-1] for shard in range(4)
    )


def test_keys_without_an_effect_are_logged_once_when_a_dataset_is_set_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def story(coordinator: Coordinator, actors: FakeActors) -> None:
        await coordinator.setup_dataset("d", SOURCE.replace("{}", "{ downsample.enabled = true }"))

    play(tmp_path, story)
    lines = [record.getMessage() for record in caplog.records if "no effect" in record.getMessage()]
    assert lines == [
        "keys of a data set's configuration have no effect here dataset=d keys=sourceconfig.downsample.enabled"
    ]
