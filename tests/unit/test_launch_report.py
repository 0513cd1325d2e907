"""A launch serves what it can and names the rest: over the real coordinator, with nodes in this process."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from filoray.cluster.actors.coordinator import Coordinator
from filoray.cluster.addresses import NodeAddress
from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.config.server_config import InlineDataset, default_server_config
from filoray.cluster.control.launch_report import ReadyReport
from filoray.cluster.control.shard_status import IngestionError, IngestionStarted, RecoveryInProgress, RecoveryStarted
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.errors import FilorayError, Unavailable
from filoray.cluster.node_protocol import HeartbeatAnswer, LeaseGrant, NodeAnnouncement, ShardEpoch, ShardReport
from filoray.cluster.store.meta_store import MetaStore


class FakeActors:
    """``ActorPort``: nodes that take shards as their dataset's name says; ``dead_nodes`` do not come up."""

    def __init__(self, dead_nodes: frozenset[str]) -> None:
        self._dead_nodes = dead_nodes
        self.coordinator: Coordinator | None = None

    async def launch(
        self, node: str, incarnation: int, port: int, gateway_keys: KeyPair, machine: str, timeout_s: float
    ) -> NodeAnnouncement:
        if node in self._dead_nodes:
            raise TimeoutError("no answer within 60 s")
        return NodeAnnouncement(node, incarnation, NodeAddress("127.0.0.1", port), 1, "here")

    async def adopt(self, node: str, incarnation: int, timeout_s: float) -> NodeAnnouncement:
        raise ValueError("there is no such actor")

    async def heartbeat(self, node: str, incarnation: int, grant: LeaseGrant, timeout_s: float) -> HeartbeatAnswer:
        return HeartbeatAnswer()

    async def wait_until_death(self, node: str, incarnation: int) -> str:
        await asyncio.Event().wait()
        return ""

    async def start_shards(
        self,
        node: str,
        incarnation: int,
        config: DatasetConfig,
        shards: Sequence[ShardEpoch],
        opened: Sequence[int],
    ) -> None:
        events: list = {"silent": [], "broken": [IngestionError("no such topic")]}.get(
            config.name, [IngestionStarted()]
        )
        if config.name == "slow":
            events = [RecoveryStarted(), *(RecoveryInProgress(percent) for percent in range(0, 100, 5)), *events]
        for event in events:
            await asyncio.sleep(0.05 if config.name == "slow" else 0)
            reports = [ShardReport(config.name, shard, epoch, event) for shard, epoch in shards]
            assert self.coordinator is not None
            self.coordinator.shard_events(node, incarnation, reports)

    async def stop_shards(self, node: str, incarnation: int, dataset: str, shards: Sequence[ShardEpoch]) -> None:
        return None

    async def delete_shards(
        self, node: str, incarnation: int, dataset: str, generation: int, shards: Sequence[int]
    ) -> None:
        return None

    async def shutdown(self, node: str, incarnation: int, timeout_s: float) -> None:
        return None

    async def kill(self, node: str, incarnation: int, pid: int | None, pid_started_s: float | None) -> bool:
        return True

    def process_started_s(self, announcement: NodeAnnouncement) -> float | None:
        return None

    async def push_view(self, gateway: str, view: ClusterView, timeout_s: float) -> None:
        return None

    async def push_members(self, addresses: Sequence[str], timeout_s: float) -> None:
        return None


def source_config(name: str, num_shards: int = 2, min_num_nodes: int = 1) -> str:
    return orjson.dumps(
        {"dataset": name, "num-shards": num_shards, "min-num-nodes": min_num_nodes,
         "sourcefactory": "filoray.nodes.streams.LogStreamFactory", "sourceconfig": {"store": {}}}
    ).decode()  # fmt: skip


async def launch(
    data_dir: Path, *accepted: str, configured: Sequence[InlineDataset] = (), dead_nodes: Sequence[str] = ()
) -> ReadyReport:
    """A launch of two nodes on a directory; then data sets are accepted. What ``ready`` says."""
    default = default_server_config()
    config = dataclasses.replace(
        default, data_dir=data_dir, node_count=2, datasets=tuple(configured),
        seed=dataclasses.replace(default.seed, timeout_ms=4000, stall_timeout_ms=400),
        node=dataclasses.replace(default.node, restart_backoff_ms=1, heartbeat_interval_ms=20),
    )  # fmt: skip
    actors = FakeActors(frozenset(dead_nodes))
    store = MetaStore.open(None, data_dir)
    coordinator = actors.coordinator = Coordinator(config, store, actors)
    coordinator.start()
    try:
        report = await coordinator.ready()
        for text in accepted:
            with contextlib.suppress(TimeoutError):  # it waits for shards that do not answer
                await asyncio.wait_for(coordinator.setup_dataset(orjson.loads(text)["dataset"], text), 0.5)
        return report
    finally:
        await coordinator.shutdown()
        store.close()


@pytest.mark.parametrize(
    ("name", "num_shards", "min_num_nodes", "problems"),
    [
        ("other", 2, 1, ()),
        ("slow", 2, 1, ()),
        ("broken", 2, 1, ("dataset broken, shard 0, 1: no such topic",)),
        (
            "silent", 2, 1,
            tuple(
                f"dataset silent, shard {shard}: still ShardStatusAssigned on node-{shard} and nothing is heard of it: "
                "its source does not answer, or its files are slow; it is served as soon as it is open"
                for shard in (0, 1)
            ),
        ),
        (
            "wide", 8, 5,
            ("dataset wide needs 4 nodes and this launch has 2: a node may hold 2 of its 8 shards (min-num-nodes = 5), "
             "which leaves none for shards 4, 5, 6, 7; start it with --nodes 4 or more",),
        ),
    ],
    ids=["other", "slow", "broken", "silent", "wide"],
)  # fmt: skip
async def test_the_next_launch_serves_what_it_can_and_names_the_rest(
    tmp_path: Path, name: str, num_shards: int, min_num_nodes: int, problems: tuple[str, ...]
) -> None:
    first = await launch(tmp_path, source_config("good"), source_config(name, num_shards, min_num_nodes))
    assert first.problems == ()
    again = await launch(tmp_path)
    assert again.datasets == tuple(sorted({"good", name}))
    assert again.problems == problems
    assert len(again.addresses) == 2


async def test_what_a_drained_node_leaves_without_room_is_named_with_that_node(tmp_path: Path) -> None:
    await launch(tmp_path, source_config("tight", 4, 2))
    store = MetaStore.open(None, tmp_path)
    store.put_drained("node-1", is_drained=True)
    store.close()
    assert (await launch(tmp_path)).problems == (
        "dataset tight has no room for shards 2, 3 while node-1 may have none: a node may hold 2 of its 4 shards; "
        "filoray undrain lets it have some",
    )


async def test_a_dataset_of_the_configuration_that_is_wrong_fails_the_launch(tmp_path: Path) -> None:
    odd = InlineDataset("odd", source_config("odd", num_shards=3), "server.conf")
    with pytest.raises(FilorayError, match=r"dataset odd of server.conf cannot be set up.*not a power of two"):
        await launch(tmp_path, configured=[odd])


async def test_a_dataset_of_the_configuration_whose_source_is_silent_is_named(tmp_path: Path) -> None:
    names = ("good", "silent")
    report = await launch(tmp_path, configured=[InlineDataset(n, source_config(n), "server.conf") for n in names])
    assert report.datasets == names
    assert [problem.partition(":")[0] for problem in report.problems] == [
        "dataset silent, shard 0", "dataset silent, shard 1"
    ]  # fmt: skip


async def test_a_key_of_the_configuration_that_nobody_knows_is_said_at_the_launch_that_sets_it_up(
    tmp_path: Path,
) -> None:
    text = source_config("good").replace('"num-shards"', '"num-copies":2,"num-shards"')
    report = await launch(tmp_path, configured=[InlineDataset("good", text, "server.conf")])
    assert report.problems == ("dataset good of server.conf: num-copies has no effect here",)


async def test_a_node_that_does_not_come_up_fails_the_launch(tmp_path: Path) -> None:
    with pytest.raises((FilorayError, Unavailable), match="node-1 does not come up: it did not start: no answer"):
        await launch(tmp_path, dead_nodes=["node-1"])
