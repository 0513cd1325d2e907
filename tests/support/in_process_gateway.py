"""A gateway over in-process services: what the edge is tested with, without nodes or a coordinator."""

import asyncio
import json
from dataclasses import replace

import numpy as np
from aiohttp import ClientSession, TCPConnector

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.cluster_view import ClusterView, DatasetView, NodeInfo
from filoray.cluster.config.dataset import LOG_STREAM_FACTORY, DatasetConfig
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.shard_map import ShardEntry, ShardMap
from filoray.cluster.control.shard_status import ShardStatus, StatusKind
from filoray.cluster.errors import (
    NotFound,
)
from filoray.http.access.web_config_file import WebConfigFile
from filoray.http.fanout.cluster_figures import ClusterFigures, GatewayReading, Presence, Standing
from filoray.http.fanout.requests import (
    Names,
    QueryOutcome,
    RawSeriesAnswer,
    RunningQuery,
    SeriesAnswer,
)
from filoray.http.remote.remote_write import RemoteWriteDecoder
from filoray.http.server.application import build_application
from filoray.http.server.gateway_services import GatewayServices
from filoray.http.server.http_server import HttpServer
from filoray.nodes.data.frame import Frame, ScalarSeries, TimeGrid
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.data.write_outcome import WriteOutcome
from filoray.nodes.engine.query_params import QueryResult
from filoray.nodes.promql.ast import ValueType
from filoray.nodes.promql.parser import parse

NODES = {f"node-{i}": NodeInfo(f"node-{i}", 1, NodeAddress("127.0.0.1", 2552 + i), f"node-{i}#1", 1) for i in range(2)}
GRID = TimeGrid(1000, 1, 1)
STATUSES = [
    (ShardStatus(StatusKind.ACTIVE), "node-0"),
    (ShardStatus(StatusKind.RECOVERY, 94), "node-1"),
    (ShardStatus(StatusKind.DOWN), None),
    (ShardStatus(StatusKind.ACTIVE), "node-0"),
]


def dataset(name):
    store = default_server_config().store
    config = DatasetConfig(name, "prom-counter", 4, 2, LOG_STREAM_FACTORY, 1, {}, store)
    entries = tuple(ShardEntry(shard, status, node, 1) for shard, (status, node) in enumerate(STATUSES))
    return DatasetView(config, ShardMap(name, 1, entries))


class Control:
    """A coordinator that remembers what it was told."""

    def __init__(self, *names):
        self.calls = []
        self.error = None
        self.newest = None
        self.current = ClusterView(7, NODES, {name: dataset(name) for name in names})

    def view(self):
        return self.current

    async def newest_view(self):
        if self.error:
            raise self.error
        return self.newest or self.current

    async def settle(self):
        pass

    async def members(self):
        return self._called([str(node.address) for node in reversed(NODES.values())], "members")

    async def setup_dataset(self, name, text):
        return self._called((), "setup", name, text)

    async def delete_dataset(self, name):
        self._called(None, "delete", name)

    async def stop_shards(self, dataset, shards):
        self._called(None, "stop", dataset, shards)

    async def start_shards(self, dataset, address, shards):
        self._called(None, "start", dataset, address, shards)

    async def move_shards(self, dataset, node, shards):
        self._called(None, "move", dataset, node, shards)

    async def drain_node(self, node):
        self._called(None, "drain", node)

    async def undrain_node(self, node):
        self._called(None, "undrain", node)

    async def restart_nodes(self):
        self._called(None, "restart")

    async def restart_state(self):
        return self._called((("node-1",), ""), "restart state")

    async def story(self, dataset, shard):
        return self._called(["assigned to node-0", "active"], "story", dataset, shard)

    async def actors(self):
        return self._called({"node-0": 12, "coordinator": 11}, "actors")

    def _called(self, answer, *call):
        self.calls.append(call)
        if self.error:
            raise self.error
        return answer


class Figures:
    """A cluster of this one gateway, or of ``others`` too."""

    def __init__(self):
        self.others = []
        self.error = None

    async def figures(self, own):
        if self.error:
            raise self.error
        up = Standing(Presence.UP)
        gateways = (GatewayReading("gateway-0", up, own), *self.others)
        return ClusterFigures("here", "gateway-0", 1_000, up, gateways, (), ())


class Queries:
    """Parses what it is asked, remembers it, and answers what the test says."""

    def __init__(self):
        self.requests = []
        self.outcome = QueryOutcome(
            QueryResult(ValueType.SCALAR, TimeGrid(1000, 1, 1), scalar=ScalarSeries(np.ones(1)))
        )
        self.error = None
        self.labels = LabelTable.from_label_sets([{"__name__": "up", "job": "b"}, {"__name__": "up", "job": "a"}])
        self.names = Names(["a", "b", "c"])
        self.hold = None
        self.canceled = []
        self.started = asyncio.Event()
        self.stopped = asyncio.Event()

    async def query(self, request):
        parse(request.query)
        await self._asked(request)
        return self.outcome

    async def explain(self, request):
        parse(request.query)
        await self._asked(request)
        return ["T~Plan", "-E~Leaf"]

    async def series(self, request):
        await self._asked(request)
        return SeriesAnswer(self.labels)

    async def label_names(self, request):
        await self._asked(request)
        return self.names

    async def label_values(self, name, request):
        await self._asked((name, request))
        return self.names

    async def local_label_values(self, name, request):
        if name == "nope":
            raise NotFound("label nope is not indexed")
        await self._asked(("local", name, request))
        return self.names

    async def read_raw(self, request):
        await self._asked(request)
        offsets = np.arange(self.labels.count + 1)
        times, values = np.full(self.labels.count, 1500), np.arange(self.labels.count, dtype=float)
        return RawSeriesAnswer(SeriesBatch(self.labels, offsets, times, values), ("a chunk was skipped",))

    async def metrics(self, dataset, metric, limit):
        await self._asked((dataset, metric, limit))
        return [MetricMetadata("up", "gauge", "Is it up?", ""), MetricMetadata("up", "counter", "Ups.", "s"),
                MetricMetadata("x", "gauge", "", "")]  # fmt: skip

    def running(self):
        return [RunningQuery("q1", "timeseries", "up", 1500, 250)]

    def cancel(self, query_id):
        self.canceled.append(query_id)
        return query_id == "q1"

    async def _asked(self, request):
        self.requests.append(request)
        self.started.set()
        try:
            if self.hold:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.stopped.set()
            raise
        if self.error:
            raise self.error


class Writes:
    def __init__(self):
        self.calls = []
        self.outcome = None
        self.error = None

    async def write(self, request):
        self.calls.append((request.dataset, request.containers, request.metadata, request.request_id))
        if self.error:
            raise self.error
        return self.outcome or WriteOutcome(sum(container.sample_count for container in request.containers.values()))


class Api:
    """A client of a server over those services."""

    def __init__(self, server, client, services):
        self.server, self.url = server, server.url
        self.services = services
        self.figures = services.figures
        self.client = client
        self.control, self.queries, self.writes = services.control, services.query, services.write

    async def get(self, path, **options):
        return await self.ask("GET", path, **options)

    async def post(self, path, **options):
        return await self.ask("POST", path, **options)

    async def ask(self, method, path, **options):
        """Status and JSON."""
        async with self.client.request(method, path, **options) as response:
            assert response.headers["X-Request-Id"]
            assert response.content_type == "application/json"
            return response.status, json.loads(await response.read())


class Gateways:
    """Starts gateways on free ports and stops them."""

    def __init__(self):
        self._started = []

    async def start(self, *names, query=None, write=None, http=None, default=None, access=None, trusted=None):
        """An Api over datasets of these names; the keyword arguments change the configuration.

        ``access``: the web configuration; ``trusted``: an SSL context that its client has.
        """
        config = default_server_config()
        config = replace(
            config,
            default_dataset=default,
            query=replace(config.query, **(query or {})),
            write=replace(config.write, **(write or {})),
            http=replace(config.http, **(http or {})),
        )
        control, queries, writes = Control(*names), Queries(), Writes()
        services = GatewayServices(
            queries, queries, writes, control, config, RemoteWriteDecoder(config.write), Figures(), version="1.2"
        )
        access = access or WebConfigFile(None)
        server = HttpServer(build_application(services, access), config.http, 0, tls=access.listening_context())
        client = ClientSession(await server.start(), connector=TCPConnector(ssl=trusted or True))
        self._started.append((client, server))
        return Api(server, client, services)

    async def stop(self):
        for client, server in self._started:
            await client.close()
            await server.stop()


def vector(*values):
    labels = LabelTable.from_label_sets([{"__name__": "up", "i": str(i)} for i in range(len(values))])
    matrix = np.array(values, np.float64).reshape(len(values), -1)
    frame = Frame(labels, matrix, np.ones(matrix.shape, np.bool_), np.zeros(len(values), np.bool_))
    return QueryResult(ValueType.VECTOR, TimeGrid(1435781451781, 1000, matrix.shape[1]), frame)


def error(kind, text):
    return {"status": "error", "errorType": kind, "error": text}


def success(data):
    return {"status": "success", "data": data}
