"""What tests put in the place of a service is like the service: the same calls, and the same kinds of answers.

First every protocol's implementations by their signatures, ours and the tests'; then queries and writes as routes see
them, over the real services and over those that the edge is tested with.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from fake_actors import FakeActors
from in_process_gateway import Control, Figures, Queries, Writes
from in_process_node import InProcessNode
from shards import container

from filoray.cluster.actors.ray_actors import ActorPort, RayActors
from filoray.cluster.addresses import NodeAddress
from filoray.cluster.chaos.driver import ScenarioDriver
from filoray.cluster.cluster_view import ClusterView, DatasetView, NodeInfo
from filoray.cluster.config.dataset import parse_dataset_config
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.shard_map import ShardEntry, ShardMap
from filoray.cluster.control.shard_status import IngestionStarted, ShardStatus, StatusKind
from filoray.cluster.errors import BadData, NotFound
from filoray.cluster.simulation.scenario_driver import SimulatedScenarioDriver
from filoray.command.chaos.real_driver import RealScenarioDriver
from filoray.http.fanout.figures_service import FanOutFiguresService, FiguresOfCluster, Peers
from filoray.http.fanout.metadata_service import FanOutMetadataService
from filoray.http.fanout.query_service import FanOutQueryService
from filoray.http.fanout.requests import (
    ClusterControl,
    MetadataRequest,
    MetadataService,
    QueryRequest,
    QueryService,
    WriteRequest,
    WriteService,
)
from filoray.http.fanout.view_holder import ViewHolder
from filoray.http.fanout.write_service import FanOutWriteService
from filoray.http.server.services import RayClusterControl
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.host.request_handler import RequestHandler
from filoray.nodes.host.shard_host import ShardHost
from filoray.nodes.memstore.store.column_store import ColumnStore
from filoray.nodes.memstore.store.sql_column_store import SqlColumnStore
from filoray.nodes.memstore.store.sqlite_column_store import SqliteColumnStore
from filoray.nodes.streams.csv_stream import CsvStream
from filoray.nodes.streams.kafka_stream import KafkaStream
from filoray.nodes.streams.log_stream import LogStream
from filoray.nodes.streams.stream import IngestionStream
from filoray.nodes.wire.node_client import NodeClient, ZmqNodeClient

IMPLEMENTATIONS = [
    (ScenarioDriver, SimulatedScenarioDriver),
    (ScenarioDriver, RealScenarioDriver),
    (QueryService, FanOutQueryService),
    (QueryService, Queries),
    (MetadataService, FanOutMetadataService),
    (MetadataService, Queries),
    (WriteService, FanOutWriteService),
    (WriteService, Writes),
    (ClusterControl, RayClusterControl),
    (ClusterControl, Control),
    (FiguresOfCluster, FanOutFiguresService),
    (FiguresOfCluster, Figures),
    (Peers, RayClusterControl),
    (ActorPort, RayActors),
    (ActorPort, FakeActors),
    (NodeClient, ZmqNodeClient),
    (NodeClient, InProcessNode),
    (IngestionStream, KafkaStream),
    (IngestionStream, CsvStream),
    (IngestionStream, LogStream),
    (ColumnStore, SqliteColumnStore),
    (ColumnStore, SqlColumnStore),
]


def calls(protocol: type) -> dict[str, Callable[..., object]]:
    return {name: value for name, value in vars(protocol).items() if inspect.isfunction(value) and name[0] != "_"}


@pytest.mark.parametrize(
    ("protocol", "implementation"), IMPLEMENTATIONS, ids=[f"{of.__name__} {by.__name__}" for of, by in IMPLEMENTATIONS]
)
def test_a_protocol_is_implemented_call_by_call(protocol: type, implementation: type) -> None:
    assert calls(protocol)
    for name, wanted in calls(protocol).items():
        given = getattr(implementation, name, None)
        assert given is not None, f"{implementation.__name__} has no {name}"
        assert inspect.iscoroutinefunction(given) == inspect.iscoroutinefunction(wanted), name
        by_protocol, by_implementation = (list(inspect.signature(call).parameters.values()) for call in (wanted, given))
        more = by_implementation[len(by_protocol) :]
        assert [(each.name, each.kind) for each in by_implementation[: len(by_protocol)]] == [
            (each.name, each.kind) for each in by_protocol
        ], name
        assert all(each.default is not each.empty for each in more), f"{name} needs more than the protocol gives"
        for one, other in zip(by_protocol, by_implementation, strict=False):
            assert one.default is one.empty or other.default is not other.empty, f"{name} needs {one.name}"


@dataclass(frozen=True)
class Services:
    query: QueryService
    metadata: MetadataService
    write: WriteService


SERIES = [({"__name__": "up", "job": "a"}, [(1_000, 1.0)]), ({"__name__": "up", "job": "b"}, [(1_000, 2.0)])]
CONTAINER = RecordContainer.decode(container(SERIES))
CONFIG = parse_dataset_config(
    orjson.dumps({
        "dataset": "d", "num-shards": 1, "min-num-nodes": 1, "sourceconfig": {},
        "sourcefactory": "filoray.nodes.streams.LogStreamFactory",
    }).decode(),
    "d",
)  # fmt: skip
ASKED = MetadataRequest("d", [], 0, 10_000)


def one_node(directory: Path) -> Iterator[Services]:
    """The real services over a node with one shard."""
    is_open = threading.Event()

    def report(dataset: str, number: int, epoch: int, event: object) -> None:
        if isinstance(event, IngestionStarted):
            is_open.set()

    host = ShardHost("node-0", directory, report)
    host.start_shards(CONFIG, [(0, 2)])
    assert is_open.wait(20)
    config = default_server_config()
    handler = RequestHandler(host, config, incarnation=1)
    client = InProcessNode(handler)
    views = ViewHolder(ClusterView(0), lambda info: client)
    entries = (ShardEntry(0, ShardStatus(StatusKind.ACTIVE), "node-0", 2),)
    node = NodeInfo("node-0", 1, NodeAddress("127.0.0.1", 1), "node-0#1", 1)
    views.update(ClusterView(1, {"node-0": node}, {"d": DatasetView(CONFIG, ShardMap("d", 1, entries))}))
    yield Services(
        FanOutQueryService(views, config.query),
        FanOutMetadataService(views, config.query, "node-0"),
        FanOutWriteService(views, 10_000),
    )
    handler.close()
    host.close()


@pytest.fixture(params=["real", "stand-in"])
def services(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Services]:
    if request.param == "real":
        yield from one_node(tmp_path)
    else:
        queries = Queries()
        yield Services(queries, queries, Writes())


def ask(services: Services, act: Callable[[Services], Awaitable[None]]) -> None:
    """After two series of ``up`` were written."""

    async def run() -> None:
        outcome = await services.write.write(WriteRequest("d", 0, {0: CONTAINER}, lambda shard, series: CONTAINER))
        assert (outcome.accepted, dict(outcome.refused), outcome.example) == (2, {}, "")
        await act(services)

    asyncio.run(run())


def query(text: str) -> QueryRequest:
    return QueryRequest("d", text, 1_000, 1_000, 0, is_range=False)


def test_a_query_is_answered_by_what_it_is_of(services: Services) -> None:
    async def act(services: Services) -> None:
        answer = await services.query.query(query("scalar(sum(up)) * 0 + 1"))
        assert answer.result.scalar is not None
        assert (answer.result.scalar.values.tolist(), answer.warnings, answer.partial) == ([1.0], (), False)

    ask(services, act)


def test_a_query_that_is_none_is_refused_as_such(services: Services) -> None:
    async def act(services: Services) -> None:
        for call in (services.query.query, services.query.explain):
            with pytest.raises(BadData, match="parse error"):
                await call(query("sum("))

    ask(services, act)


def test_a_plan_is_told_line_by_line(services: Services) -> None:
    async def act(services: Services) -> None:
        lines = await services.query.explain(query("sum(up)"))
        assert len(lines) > 1
        assert all("~" in line for line in lines)

    ask(services, act)


def test_series_names_and_values_are_sorted(services: Services) -> None:
    async def act(services: Services) -> None:
        series = await services.metadata.series(ASKED)
        assert sorted(series.labels.label_set(row)["job"] for row in range(series.labels.count)) == ["a", "b"]
        for names in (
            await services.metadata.label_names(ASKED),
            await services.metadata.label_values("job", ASKED),
            await services.metadata.local_label_values("job", ASKED),
        ):
            assert list(names.values) == sorted(names.values)
            assert (bool(names.values), names.warnings, names.partial) == (True, (), False)

    ask(services, act)


def test_a_label_that_the_node_beside_has_not_is_not_found(services: Services) -> None:
    async def act(services: Services) -> None:
        with pytest.raises(NotFound, match="nope"):
            await services.metadata.local_label_values("nope", ASKED)

    ask(services, act)


def test_raw_samples_come_with_where_each_series_ends(services: Services) -> None:
    async def act(services: Services) -> None:
        batch = (await services.metadata.read_raw(MetadataRequest("d", [()], 0, 10_000))).batch
        assert batch.labels.count == 2
        assert batch.offsets.tolist() == [0, 1, 2]
        assert len(batch.timestamps) == len(batch.values) == 2

    ask(services, act)


def test_what_is_told_of_a_metric_is_given_back(services: Services) -> None:
    async def act(services: Services) -> None:
        for entry in await services.metadata.metrics("d", "", 0):
            assert all(isinstance(text, str) for text in (entry.metric, entry.type, entry.help, entry.unit))

    ask(services, act)


def test_a_query_that_does_not_run_cannot_be_ended(services: Services) -> None:
    assert all(running.id != "none" for running in services.query.running())
    assert services.query.cancel("none") is False
