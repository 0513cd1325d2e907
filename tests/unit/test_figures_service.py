"""What a gateway tells of a whole cluster: who ought to be there is named, with what is wrong and since when."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import orjson
import pytest
from in_process_gateway import NODES, dataset

from filoray.cluster.cluster_view import ClusterView, NodeInfo
from filoray.cluster.errors import AnswerOverdue, BadData, ConnectionLost, FilorayError, QueryTimeout, Unavailable
from filoray.cluster.process.process_figures import ProcessFigures
from filoray.http.fanout.cluster_figures import (
    GatewayFigures,
    NodeReading,
    Presence,
    ShardReading,
    Standing,
    read_cluster_figures,
)
from filoray.http.fanout.figures_service import FanOutFiguresService, ProblemTimes
from filoray.http.fanout.view_holder import ViewHolder
from filoray.nodes.data.node_figures import CopyFigures, FollowerFigures, NodeFigures, RequestFigures, ShardFigures
from filoray.nodes.wire.figures_reply import encode_node_figures
from filoray.nodes.wire.node_client import Reply
from filoray.nodes.wire.protocol import Kind

PROCESS = ProcessFigures(pid=7, uptime_ms=60_000, cpu_ms=1_500, resident_bytes=200 << 20)
FOLLOWERS = (
    FollowerFigures("node-1", True, 3, 30, 99, ""),
    FollowerFigures("node-2", False, None, None, None, "it has no copy yet"),
)
SHARD = ShardFigures("shop", 0, 1, 10, 1, 2, 300, 5, 4, 99, 1_000, 4096, 2048, None, FOLLOWERS)
COPY = CopyFigures("shop", 1, 4, True, 17, 5, 4096, 2048)
FIGURES = NodeFigures(1, PROCESS, RequestFigures(1, 2, 3, 4, 5, 6), 7, (SHARD,), (COPY,))
OWN = GatewayFigures("http://127.0.0.1:8080", PROCESS, 10, 1, 0)
UP = Standing(Presence.UP)
VIEW = ClusterView(7, NODES, {"shop": dataset("shop")})


class Client:
    """A node that answers, or fails, as it is told."""

    def __init__(self, error: FilorayError | None = None) -> None:
        self.error = error
        self.asked = 0

    async def request(
        self, kind: Kind, dataset: str, shards: Any, timeout_ms: int, body: Any = None, frames: Any = None
    ) -> Reply:
        assert (kind, dataset, shards, body) == (Kind.FIGURES, "", (), None)
        self.asked += 1
        await asyncio.sleep(0.01)
        if self.error is not None:
            raise self.error
        return Reply(encode_node_figures(FIGURES), [])

    def close(self) -> None:
        pass


class Peers:
    def __init__(self) -> None:
        self.errors: dict[str, FilorayError] = {}

    async def ping_coordinator(self, timeout_ms: int) -> None:
        self._fail("coordinator")

    async def gateway_figures(self, gateway: str, timeout_ms: int) -> GatewayFigures:
        self._fail(gateway)
        return dataclasses.replace(OWN, url=f"http://{gateway}")

    def _fail(self, name: str) -> None:
        if name in self.errors:
            raise self.errors[name]


class Cluster:
    """Two nodes that are there, of as many as ``node_count`` says."""

    def __init__(self, node_count: int = 2) -> None:
        self.clients = {name: Client() for name in NODES}
        self.peers = Peers()

        def client(info: NodeInfo) -> Client:
            return self.clients[info.name]

        self.views = ViewHolder(VIEW, client)
        self.service = FanOutFiguresService(self.views, self.peers, "here", "gateway-0", node_count)


async def test_all_is_told_of_a_cluster_in_which_all_is_well() -> None:
    told = await Cluster().service.figures(OWN)
    assert (told.cluster, told.gateway) == ("here", "gateway-0")
    assert told.coordinator == UP
    assert [(reading.gateway, reading.standing, reading.figures) for reading in told.gateways] == [
        ("gateway-0", UP, OWN),
        ("gateway-1", UP, dataclasses.replace(OWN, url="http://gateway-1")),
    ]
    assert told.nodes == tuple(
        NodeReading(name, UP, f"akka://filo-server@127.0.0.1:{port}", 1, figures=FIGURES)
        for name, port in (("node-0", 2552), ("node-1", 2553))
    )
    (shop,) = told.datasets
    assert shop.shards[1:3] == (
        ShardReading(1, "ShardStatusRecovery(94)", "", "node-1", 1),
        ShardReading(2, "ShardStatusDown", "", None, 1),
    )
    assert read_cluster_figures(orjson.loads(orjson.dumps(told))) == told


@pytest.mark.parametrize(
    ("error", "presence"),
    [
        (QueryTimeout("node-1 gave no answer within 700 ms"), Presence.SILENT),
        (ConnectionLost("the connection to node-1 was lost"), Presence.AWAY),
        (BadData("another version's words"), Presence.AWAY),
    ],
)
async def test_a_node_that_does_not_answer_is_named_with_the_reason(error: FilorayError, presence: Presence) -> None:
    cluster = Cluster()
    cluster.clients["node-1"].error = error
    well, ill = (await cluster.service.figures(OWN)).nodes
    assert (well.standing, well.figures) == (UP, FIGURES)
    assert (ill.standing.presence, ill.standing.problem, ill.figures) == (presence, error.message, None)
    assert (ill.address, ill.incarnation) == ("akka://filo-server@127.0.0.1:2553", 1)


async def test_a_node_that_is_no_member_is_named_and_read_back() -> None:
    cluster = Cluster(node_count=11)
    cluster.views.update(dataclasses.replace(VIEW, version=8, nodes={"node-1": NODES["node-1"]}))
    told = await cluster.service.figures(OWN)
    assert [reading.node for reading in told.nodes] == [f"node-{index}" for index in range(11)]
    first = told.nodes[0]
    assert (first.standing.presence, first.address, first.incarnation) == (Presence.AWAY, "", 0)
    assert "is no member" in first.standing.problem
    assert told.nodes[1].standing == UP
    assert read_cluster_figures(orjson.loads(orjson.dumps(told))) == told


async def test_who_ought_to_be_there_is_the_views_word() -> None:
    cluster = Cluster(node_count=1)
    cluster.views.update(dataclasses.replace(VIEW, version=8, gateways=("gateway-0", "gateway-1", "gateway-2")))
    told = await cluster.service.figures(OWN)
    assert [reading.gateway for reading in told.gateways] == ["gateway-0", "gateway-1", "gateway-2"]
    assert [(reading.node, reading.standing.presence) for reading in told.nodes] == [
        ("node-0", Presence.UP), ("node-1", Presence.UP), ("node-2", Presence.AWAY),
    ]  # fmt: skip
    cluster.views.update(dataclasses.replace(VIEW, version=9, gateways=("gateway-0", "gateway-1")))
    assert [reading.node for reading in (await cluster.service.figures(OWN)).nodes] == ["node-0", "node-1"]


async def test_coordinator_and_gateways_that_do_not_answer_are_named() -> None:
    cluster = Cluster()
    cluster.peers.errors = {"coordinator": Unavailable("it is not there"), "gateway-1": AnswerOverdue("no answer")}
    told = await cluster.service.figures(OWN)
    assert (told.coordinator.presence, told.coordinator.problem) == (Presence.AWAY, "it is not there")
    assert told.gateways[1].standing.presence is Presence.SILENT
    assert told.gateways[1].figures is None


async def test_however_many_look_on_nodes_are_asked_once_at_a_time() -> None:
    cluster = Cluster()
    await asyncio.gather(*(cluster.service.figures(OWN) for _ in range(50)))
    assert cluster.clients["node-0"].asked == 2, "once for the first, and once for all who came meanwhile"


def standing(times: ProblemTimes, presence: Presence, now_ms: int) -> int:
    return times.standing("a", presence, "", now_ms).problem_ms


def test_since_when_a_member_has_been_absent_counts_from_when_it_left() -> None:
    times = ProblemTimes()
    times.see_members(["a", "b"], ["b"], 1_000)
    times.see_members(["a", "b"], ["b"], 1_500)
    assert standing(times, Presence.AWAY, 4_000) == 3_000
    times.see_members(["a", "b"], ["a", "b"], 5_000)
    assert standing(times, Presence.SILENT, 6_000) == 0, "it is there again, and this is another problem"


def test_one_that_was_not_expected_meanwhile_is_absent_since_it_is_expected_again() -> None:
    times = ProblemTimes()
    times.see_members(["a"], [], 1_000)
    times.see_members([], [], 2_000)
    times.see_members(["a"], [], 5_000)
    assert standing(times, Presence.AWAY, 6_000) == 1_000


def test_since_when_one_has_been_silent_counts_from_the_first_round_without_its_answer() -> None:
    times = ProblemTimes()
    for now_ms, presence, lasts_ms in [
        (1_000, Presence.UP, 0),
        (2_000, Presence.SILENT, 0),
        (3_000, Presence.SILENT, 1_000),
        (4_000, Presence.AWAY, 2_000),
        (5_000, Presence.UP, 0),
        (6_000, Presence.SILENT, 0),
        (60_000, Presence.SILENT, 0),  # nobody knows what was in between
        (61_000, Presence.SILENT, 1_000),
    ]:
        times.begin_round(now_ms)
        assert standing(times, presence, now_ms) == lasts_ms, now_ms


def test_one_that_was_silent_and_then_left_is_absent_since_it_left() -> None:
    times = ProblemTimes()
    standing(times, Presence.SILENT, 1_000)
    times.see_members(["a"], [], 3_000)
    times.begin_round(60_000)
    assert standing(times, Presence.AWAY, 60_000) == 57_000


@pytest.mark.parametrize(
    "plain", [None, [], {}, {"cluster": "c", "gateway": "g", "time_ms": 1, "coordinator": {"presence": "odd"}}]
)
def test_what_are_no_figures_is_said_so(plain: Any) -> None:
    with pytest.raises(BadData, match="no figures that this version reads"):
        read_cluster_figures(plain)
