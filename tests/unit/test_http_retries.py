"""What a sender hears that should send again, and what it hears that should not.

Prometheus's remote write sends again on 5xx and drops what it holds on 4xx, 429 among them.
"""

import asyncio
from collections import Counter

import pytest
from aiohttp import ClientSession, TCPConnector
from in_process_gateway import dataset, error

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.cluster_view import ClusterView, DatasetView, NodeInfo
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.shard_map import ShardEntry, ShardMap
from filoray.cluster.control.shard_status import OWNED, ShardStatus, StatusKind
from filoray.cluster.errors import (
    BadData,
    ConfigError,
    DatasetUnknown,
    PayloadTooLarge,
    QueryTimeout,
    StaleRoute,
    TooManyRequests,
    Unavailable,
)
from filoray.http.access.access_policy import Identity
from filoray.http.access.request_access import set_identity
from filoray.http.fanout.metadata_service import FanOutMetadataService
from filoray.http.fanout.view_holder import ViewHolder
from filoray.http.fanout.write_service import FanOutWriteService
from filoray.http.remote.protobuf_writer import bytes_field, varint_field
from filoray.http.remote.remote_write_client import WRITE_HEADERS, encode_write_request
from filoray.http.remote.snappy_block import compress
from filoray.http.server.request_context import client_of
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.data.write_outcome import RefusalReason, WriteOutcome
from filoray.nodes.engine.fragments import FragmentAnswers
from filoray.nodes.host.request_handler import labels_only
from filoray.nodes.streams.stream import StreamFailed
from filoray.nodes.wire import fragment_codec as wire
from filoray.nodes.wire.node_client import Reply
from filoray.nodes.wire.protocol import Kind
from filoray.nodes.wire.write_reply import Refused, encode_write_reply

BODY = encode_write_request(
    [({"__name__": "up", "i": str(i)}, [1000], [1.0]) for i in range(20)], [MetricMetadata("up", "gauge", "", "")]
)
AWAY = Unavailable("the coordinator did not answer within 2 s")
UNKNOWN = error("DatasetUnknown", "Dataset timeseries is not registered")


async def write(api, path="/promql/timeseries/api/v1/write"):
    """Status, Retry-After and the error's text."""
    async with api.client.post(path, data=BODY, headers=WRITE_HEADERS) as response:
        text = "" if response.status == 204 else (await response.json())["error"]
        return response.status, response.headers.get("Retry-After"), text


class Node:
    """Answers each container with ``said``: a write's reply, or an error."""

    def __init__(self, said):
        self.said = said

    async def request(self, kind, dataset, shards, timeout_ms, body=None, frames=None):
        if isinstance(self.said, Exception):
            raise self.said
        return Reply(encode_write_reply([self.said] * len(shards)), [])

    def close(self):
        pass


def cluster(status=StatusKind.ACTIVE):
    config = dataset("timeseries").config
    owner = "node-0" if status in OWNED else None
    entries = tuple(ShardEntry(shard, ShardStatus(status), owner, 1) for shard in range(config.num_shards))
    node = NodeInfo("node-0", 1, NodeAddress("127.0.0.1", 2552), "node-0#1", 1)
    return ClusterView(3, {"node-0": node}, {"timeseries": DatasetView(config, ShardMap("timeseries", 1, entries))})


@pytest.mark.parametrize(
    ("said", "status", "text"),
    [
        (WriteOutcome(1), 204, ""),
        (TooManyRequests("this node has 1024 writes"), 503, "1024 writes"),
        (Refused("TooManyRequests", "the queue is full"), 503, "the queue is full"),
        (Refused("Unavailable", "disk full"), 503, "disk full"),
        (Refused("StaleRoute", "shard 1 has epoch 4 here"), 503, "stored within 50 ms: shard 1 has epoch 4"),
        (StaleRoute("the connection to the node was lost"), 503, "stored within 50 ms: the connection"),
        (Unavailable("the node is stopping"), 503, "the node is stopping"),
        (QueryTimeout("node akka://x gave no answer within 50 ms"), 503, "gave no answer"),
        (Refused("BadData", "a container is malformed"), 400, "malformed"),
        (WriteOutcome(1, Counter({RefusalReason.TOO_OLD: 1}), "up at 1"), 400, "samples were refused (too old"),
    ],
)
async def test_what_a_node_says_to_a_write(gateways, said, status, text):
    api = await gateways.start("timeseries")
    service = FanOutWriteService(ViewHolder(cluster(), lambda info: Node(said)), 50)
    api.writes.write = service.write
    answered, retry_after, problem = await write(api)
    assert (answered, retry_after) == (status, "1" if status == 503 else None)
    assert text in problem


@pytest.mark.parametrize("kind", [kind for kind in StatusKind if kind is not StatusKind.ACTIVE])
async def test_shards_without_an_owner(gateways, kind):
    api = await gateways.start("timeseries")
    service = FanOutWriteService(ViewHolder(cluster(kind), lambda info: Node(WriteOutcome(1))), 50)
    api.writes.write = service.write
    answered, retry_after, problem = await write(api)
    assert (answered, retry_after) == (503, "1")
    assert "not available" in problem


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (StreamFailed("Kafka at localhost:9092 does not answer"), 503),
        (ConfigError("sourceconfig.acks: there is no such setting"), 503),  # the dataset's, not the samples'
        (QueryTimeout("timed out"), 503),
        (PayloadTooLarge("over message.max.bytes"), 413),
        (BadData("dataset x takes no remote writes"), 400),
        (DatasetUnknown("timeseries"), 404),  # deleted while the write was under way
    ],
)
async def test_what_the_write_service_says(gateways, raised, status):
    api = await gateways.start("timeseries")
    api.writes.error = raised
    answered, retry_after, _ = await write(api)
    assert (answered, retry_after) == (status, "1" if status == 503 else None)


async def test_writes_that_wait_too_long_for_their_turn(gateways):
    api = await gateways.start("timeseries", write={"max_concurrent": 1, "timeout_ms": 50})
    began, release = asyncio.Event(), asyncio.Event()
    stored = api.writes.write

    async def slow(*call):
        began.set()
        await release.wait()
        return await stored(*call)

    api.writes.write = slow
    first = asyncio.create_task(write(api))
    await began.wait()
    answered, retry_after, problem = await write(api)
    assert (answered, retry_after) == (503, "1")
    assert "in the queue" in problem
    release.set()
    assert (await first)[0] == 204


ENDPOINTS = [
    ("POST", "write"),
    ("POST", "read"),
    ("GET", "query?query=up"),
    ("GET", "query_range?query=up&start=0&end=1&step=1"),
    ("GET", "series?match[]=up"),
    ("GET", "labels"),
    ("GET", "label/job/values"),
    ("GET", "metadata"),
]
PREFIXES = ["/promql/timeseries/api/v1", "/api/v1"]
READ = compress(bytes_field(1, varint_field(1, 0) + varint_field(2, 1)))


async def ask(api, method, path):
    data = {"data": READ if path.endswith("read") else BODY} if method == "POST" else {}
    async with api.client.request(method, path, headers=WRITE_HEADERS if data else {}, **data) as response:
        return response.status, response.headers.get("Retry-After"), await response.read()


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
async def test_a_dataset_that_this_gateway_has_not_heard_of(gateways, method, path, prefix):
    """It may be there all the same: the view is behind, or never came."""
    api = await gateways.start()
    api.control.error = AWAY
    for view in (ClusterView(0), ClusterView(5, api.control.current.nodes)):
        api.control.current = view
        assert (await ask(api, method, f"{prefix}/{path}"))[:2] == (503, "1")
    api.control.error = None
    assert (await ask(api, method, f"{prefix}/{path}"))[0] == 404  # the coordinator knows none either
    api.control.newest = ClusterView(6, api.control.current.nodes, {"timeseries": dataset("timeseries")})
    assert (await ask(api, method, f"{prefix}/{path}"))[0] in (200, 204)


async def test_a_dataset_that_nobody_has_heard_of(gateways):
    api = await gateways.start("other")
    assert await api.get("/promql/timeseries/api/v1/query?query=1") == (404, UNKNOWN)
    assert await api.get("/api/v1/cluster/timeseries/status") == (404, UNKNOWN)
    assert await write(api) == (404, None, UNKNOWN["error"])


@pytest.mark.parametrize("path", ["/api/v1/cluster", "/api/v1/cluster/timeseries/status"])
async def test_a_gateway_without_a_view_does_not_say_that_there_is_nothing(gateways, path):
    api = await gateways.start()
    api.control.current = ClusterView(0)
    api.control.error = AWAY
    assert await api.get(path) == (503, error("unavailable", AWAY.message))


@pytest.mark.parametrize(("method", "path"), ENDPOINTS[1:])
@pytest.mark.parametrize("raised", [Unavailable("shard 3 is moving"), TooManyRequests("this node has 1024 queries")])
async def test_questions_that_may_be_asked_again(gateways, raised, method, path):
    api = await gateways.start("timeseries")
    api.queries.error = raised
    assert (await ask(api, method, f"/promql/timeseries/api/v1/{path}"))[:2] == (503, "1")


async def test_a_flood_of_one_kind_refuses_nobody_the_other(gateways):
    api = await gateways.start("timeseries", query={"max_concurrent_metadata": 1, "max_waiting": 1})
    api.queries.hold = asyncio.Event()
    flood = [asyncio.create_task(ask(api, "GET", "/promql/timeseries/api/v1/label/job/values")) for _ in range(8)]
    while sum(task.done() for task in flood) < 6:
        await asyncio.sleep(0.01)
    query = asyncio.create_task(ask(api, "GET", "/api/v1/query?query=up"))
    while len(api.queries.requests) < 2:
        await asyncio.sleep(0.01)
    api.queries.hold.set()
    assert (await query)[0] == 200
    assert sorted([(await task)[0] for task in flood]) == [200, 200] + [503] * 6


async def test_a_flood_from_one_address_lets_another_in(gateways):
    api = await gateways.start("timeseries", query={"max_concurrent": 5, "max_waiting": 3})
    api.queries.hold = asyncio.Event()
    flood = [asyncio.create_task(ask(api, "GET", "/api/v1/query?query=up")) for _ in range(20)]
    while sum(task.done() for task in flood) < 13:  # four run, of five; three wait
        await asyncio.sleep(0.01)
    async with ClientSession(api.url, connector=TCPConnector(local_addr=("127.0.0.2", 0))) as other:
        asking = [asyncio.create_task(other.get("/api/v1/query?query=up")) for _ in range(2)]
        while len(api.queries.requests) < 5 or sum(task.done() for task in flood) < 14:
            await asyncio.sleep(0.01)
        api.queries.hold.set()
        assert [(await task).status for task in asking] == [200, 200]
    statuses = sorted([(await task)[0] for task in flood])
    assert statuses == [200] * 6 + [503] * 14


class Asking:
    """What ``client_of`` looks at of a request."""

    def __init__(self, remote, user=None):
        self.remote = remote
        self.kept = {}
        if user is not None:
            set_identity(self, Identity(user, {}))

    def __setitem__(self, key, value):
        self.kept[key] = value

    def get(self, key, default=None):
        return self.kept.get(key, default)


@pytest.mark.parametrize(
    ("asking", "client"),
    [
        (Asking("10.0.0.7"), "10.0.0.7"),
        (Asking("::ffff:10.0.0.7"), "10.0.0.7"),
        (Asking("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64"),
        (Asking("fe80::1%eth0"), "fe80::/64"),
        (Asking(None), ""),
        (Asking("10.0.0.7", "grafana"), "user grafana"),
    ],
)
def test_who_is_one_client(asking, client):
    assert client_of(asking) == client


class Remembering(Node):
    def __init__(self):
        super().__init__(None)
        self.bodies = []

    async def request(self, kind, dataset, shards, timeout_ms, body=None, frames=None):
        self.bodies.append((kind, body))
        answer = labels_only(LabelTable.empty_sets(0))
        return Reply(None, wire.encode_answers(FragmentAnswers((answer,))))


async def test_a_remote_read_without_matchers_asks_for_all_series(gateways):
    api, node = await gateways.start("timeseries"), Remembering()
    views = ViewHolder(cluster(), lambda info: node)
    service = FanOutMetadataService(views, default_server_config().query, "node-0")
    api.queries.read_raw = service.read_raw
    assert (await ask(api, "POST", "/api/v1/read"))[0] == 200
    assert node.bodies == [(Kind.RAW, [[[]], 0, 1, 0, None])]
