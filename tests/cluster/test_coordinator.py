"""The coordinator, the seed discovery and small nodes as real Ray actors: set-up, deaths, hangs, restarts."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

ray = pytest.importorskip("ray")

from filoray.cluster.actors.coordinator_actor import start_coordinators  # noqa: E402
from filoray.cluster.actors.seed_discovery import start_seed_discovery  # noqa: E402
from filoray.cluster.cluster_view import ClusterView  # noqa: E402
from filoray.cluster.config.server_config import load_server_config  # noqa: E402
from filoray.cluster.control.shard_status import StatusKind  # noqa: E402
from filoray.cluster.errors import BadData, DatasetExists, DatasetUnknown, FilorayError  # noqa: E402
from filoray.cluster.node_protocol import NodeSpec  # noqa: E402

SPEC = NodeSpec("ledger_node.LedgerNode")
SOURCE = """
dataset = "%s", num-shards = %d, min-num-nodes = 2
sourcefactory = "filoray.nodes.streams.LogStreamFactory", sourceconfig {}
"""


@pytest.fixture(scope="module")
def ray_head() -> Iterator[None]:
    environment = {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="fr-", dir="/tmp") as temp_dir:
        for key, value in environment.items():
            patch.setenv(key, value)
        ray.init(
            num_cpus=2, include_dashboard=False, _temp_dir=temp_dir, log_to_driver=False, logging_level="ERROR",
            object_store_memory=80 * 1024 * 1024,
        )  # fmt: skip
        yield
        ray.shutdown()


class Cluster:
    """A coordinator with ``LedgerNode``s in a namespace and directory of its own."""

    def __init__(self, data_dir: Path, name: str, **overrides: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port_base = min(probe.getsockname()[1], 65_000)
        values = {"cluster-name": name, "data-dir": str(data_dir), "node.port-base": str(port_base), "node-count": "3"}
        values |= {"node.heartbeat-interval": "100ms", "node.heartbeat-timeout": "8s", "seed.timeout": "90s"}
        self.config = load_server_config(None, values | overrides)
        self.seed_discovery = start_seed_discovery(self.config)
        (self.coordinator,) = start_coordinators(self.config, SPEC)

    def call(self, method: str, *args: object) -> object:
        try:
            return ray.get(getattr(self.coordinator, method).remote(*args), timeout=120)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None

    def view(self) -> ClusterView:
        view = self.call("view")
        assert isinstance(view, ClusterView)
        return view

    def set_up(self, dataset: str, num_shards: int = 4) -> None:
        self.call("setup_dataset", dataset, SOURCE % (dataset, num_shards))

    def incarnation(self, node: str) -> int:
        """0 while it is no member."""
        member = self.view().nodes.get(node)
        return 0 if member is None else member.incarnation

    def owners(self, dataset: str) -> dict[int, tuple[str | None, int, StatusKind]]:
        entries = self.view().datasets[dataset].shard_map.shards
        return {entry.shard: (entry.node, entry.epoch, entry.status.kind) for entry in entries}

    def all_active(self, dataset: str) -> bool:
        return all(kind is StatusKind.ACTIVE for _, _, kind in self.owners(dataset).values())

    def close(self) -> None:
        self.call("shutdown")
        ray.kill(self.coordinator)
        ray.kill(self.seed_discovery)


@pytest.fixture
def cluster(ray_head: None, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, request.node.name.replace("_", "-")[:60])
    cluster.call("ready")
    yield cluster
    cluster.close()


def eventually(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come about in time"
        time.sleep(0.05)


def test_datasets_come_active_and_go_with_their_files(cluster: Cluster, tmp_path: Path) -> None:
    cluster.set_up("timeseries")
    assert cluster.all_active("timeseries")
    assert sorted(node for node, _, _ in cluster.owners("timeseries").values()) == [
        "node-0",
        "node-0",
        "node-1",
        "node-2",
    ]
    with pytest.raises(DatasetExists, match="The dataset timeseries has already been setup for ingestion"):
        cluster.set_up("timeseries")
    with pytest.raises(BadData, match="num-shards"):
        cluster.set_up("odd", num_shards=3)

    cluster.call("delete_dataset", "timeseries")
    assert list((tmp_path / "timeseries").iterdir()) == []
    with pytest.raises(DatasetUnknown, match=r"^Dataset timeseries is not registered$"):
        cluster.call("delete_dataset", "timeseries")

    cluster.set_up("timeseries")
    assert {epoch for _, epoch, _ in cluster.owners("timeseries").values()} == {2}, "an epoch is used once"


def test_a_node_that_says_it_is_unfit_is_replaced(cluster: Cluster, tmp_path: Path) -> None:
    cluster.set_up("timeseries")
    (tmp_path / "unfit-node-1#1").write_text("thread ingest has ended")
    eventually(lambda: cluster.incarnation("node-1") == 2)
    eventually(lambda: cluster.all_active("timeseries"))
    stories = [cluster.call("story", "timeseries", shard) for shard in cluster.owners("timeseries")]
    assert any("it says of itself: thread ingest has ended" in str(story) for story in stories)


def test_a_killed_nodes_shards_move_and_it_returns_as_a_new_incarnation(cluster: Cluster) -> None:
    cluster.set_up("timeseries")
    before = cluster.view().nodes["node-0"]
    os.kill(before.pid, signal.SIGKILL)
    eventually(lambda: cluster.incarnation("node-0") == 2 and cluster.all_active("timeseries"))

    owners = cluster.owners("timeseries")
    assert owners[0][:2] != ("node-0", 1)
    assert cluster.view().nodes["node-0"].address == before.address
    story = cluster.call("story", "timeseries", 0)
    assert isinstance(story, tuple)
    assert any("ShardStatusDown" in line and "node-0 lost" in line for line in story)


def test_a_hung_node_is_killed_before_its_shards_move(cluster: Cluster, tmp_path: Path) -> None:
    cluster.set_up("timeseries")
    hung = psutil.Process(cluster.view().nodes["node-1"].pid)
    hung.suspend()
    eventually(lambda: "node-1#1" not in (tmp_path / "timeseries" / "shard-1.owners").read_text().splitlines()[-1])
    assert not hung.is_running() or hung.status() == psutil.STATUS_ZOMBIE
    eventually(lambda: cluster.all_active("timeseries"))


def test_a_killed_coordinator_returns_without_disturbing_shards(cluster: Cluster, tmp_path: Path) -> None:
    cluster.set_up("timeseries")
    before, owners, version = cluster.view().nodes, cluster.owners("timeseries"), cluster.view().version
    pid = cluster.call("ping")
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)

    def is_back() -> bool:
        try:
            return cluster.call("ping") != pid
        except ray.exceptions.RayActorError:
            return False

    eventually(is_back)
    assert cluster.view().nodes == before
    assert cluster.owners("timeseries") == owners
    assert cluster.view().version > version
    assert len((tmp_path / "timeseries" / "shard-0.owners").read_text().splitlines()) == 1
    os.kill(cluster.view().nodes["node-2"].pid, signal.SIGKILL)
    eventually(lambda: cluster.incarnation("node-2") == 2)
    eventually(lambda: cluster.all_active("timeseries"))


def test_shards_are_moved_by_hand_within_the_rules(cluster: Cluster) -> None:
    cluster.set_up("timeseries")
    node, _, _ = cluster.owners("timeseries")[0]
    cluster.call("stop_shards", "timeseries", (0,))
    assert cluster.owners("timeseries")[0] == (None, 1, StatusKind.STOPPED)
    address = str(cluster.view().nodes["node-2"].address)
    for problem, dataset, target, shards in (
        ("not registered", "other", address, (0,)),
        ("there is no node", "timeseries", "akka://filo-server@127.0.0.1:1", (0,)),
        ("not a node address", "timeseries", "node-2", (0,)),
        ("has no shard 9", "timeseries", address, (9,)),
        ("is assigned to", "timeseries", address, (1,)),
    ):
        with pytest.raises(FilorayError, match=problem):
            cluster.call("start_shards", dataset, target, shards)
    with pytest.raises(BadData, match="not assigned"):
        cluster.call("stop_shards", "timeseries", (0,))
    cluster.call("start_shards", "timeseries", address, (0,))
    eventually(lambda: cluster.owners("timeseries")[0] == ("node-2", 2, StatusKind.ACTIVE))
    assert node != "node-2"


def test_the_seed_discovery_knows_the_members_after_its_own_death(cluster: Cluster) -> None:
    expected = [f"akka://filo-server@127.0.0.1:{cluster.config.node.port_base + index}" for index in range(3)]
    eventually(lambda: list(ray.get(cluster.seed_discovery.members.remote())) == expected)
    os.kill(ray.get(cluster.seed_discovery.ping.remote()), signal.SIGKILL)

    def is_back() -> bool:
        try:
            return list(ray.get(cluster.seed_discovery.members.remote())) == expected
        except ray.exceptions.RayActorError:
            return False

    eventually(is_back)


def test_a_second_launch_brings_everything_back(ray_head: None, tmp_path: Path) -> None:
    first = Cluster(tmp_path, "first-launch")
    first.call("ready")
    first.set_up("timeseries")
    first.close()
    assert len(list(tmp_path.glob("closed-node-*"))) == 3

    second = Cluster(tmp_path, "second-launch")
    report = second.call("ready")
    assert dataclasses.asdict(report)["datasets"] == ("timeseries",)  # type: ignore[call-overload]
    assert second.all_active("timeseries")
    assert {epoch for _, epoch, _ in second.owners("timeseries").values()} == {2}
    assert {node for node, _, _ in second.owners("timeseries").values()} == {"node-0", "node-1", "node-2"}
    second.close()


def test_a_node_that_cannot_start_is_named_to_the_launcher(ray_head: None, tmp_path: Path) -> None:
    (tmp_path / "refuse-node-1").touch()
    cluster = Cluster(tmp_path, "refusal")
    with pytest.raises(FilorayError, match=r"node-1 does not come up: .*port \d+ is taken"):
        cluster.call("ready")
    cluster.close()
