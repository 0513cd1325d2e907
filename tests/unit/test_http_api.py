"""One gateway and the cluster API over HTTP: envelopes, status codes, what reaches the services."""

import asyncio
import dataclasses
import gzip
import logging

import pytest
from aiohttp import ClientConnectionError, ClientSession, web
from in_process_gateway import error, success

from filoray.cluster.cluster_view import DatasetView
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.copy_set import CopySet
from filoray.cluster.errors import DatasetExists, FilorayError, Unavailable
from filoray.http.remote.remote_write_client import WRITE_HEADERS
from filoray.http.server.http_server import HttpServer


@pytest.fixture
async def api(gateways):
    return await gateways.start("timeseries")


# ---- one gateway


@pytest.mark.parametrize("path", ["/__health", "/admin/health"])
async def test_health_asks_nobody(api, path):
    api.control.error = Unavailable("no coordinator")
    async with api.client.get(path) as response:
        assert (response.status, response.content_type, await response.text()) == (200, "text/plain", "All good")
    async with api.client.head(path) as response:
        assert response.status == 200
    assert api.control.calls == []


@pytest.mark.parametrize("path", ["/__members", "/__seeds"])
async def test_members_are_sorted(api, path):
    members = ["akka://filo-server@127.0.0.1:2552", "akka://filo-server@127.0.0.1:2553"]
    assert await api.get(path) == (200, {"members": members})


async def test_actors_and_their_processes(api):
    assert await api.get("/admin/actors") == (200, success({"coordinator": 11, "node-0": 12}))


@pytest.mark.parametrize("allowed", [False, True])
async def test_chaos_is_allowed_by_configuration(gateways, allowed):
    api = await gateways.start("timeseries", http={"allow_chaos": allowed})
    assert await api.get("/admin/chaos") == (200, success({"allowed": allowed}))


async def test_log_levels_change_and_say_so(api):
    logger = logging.getLogger("filoray.test.levels")
    async with api.client.post("/admin/loglevel/filoray.test.levels", data=b"debug") as response:
        assert response.content_type == "text/plain"
        assert (await response.text()).endswith("to DEBUG")
    assert logger.level == logging.DEBUG
    assert await api.post("/admin/loglevel/filoray.test.levels", data=b"loud") == (
        400,
        error("bad_data", "there is no log level 'loud'; the levels are trace, debug, info, warn, warning, error, off"),
    )


@pytest.mark.parametrize(
    "name", ["a." * 30_000, "filoray.nope", "filoray." + "x" * 60_000, "nope", "logging", "filoray%0A2026 INFO forged"]
)
async def test_no_logger_is_made_for_a_name_that_somebody_sends(api, name):
    before = set(logging.root.manager.loggerDict)
    status, body = await api.post(f"/admin/loglevel/{name}", data=b"debug")
    assert (status, body["errorType"]) == (404, "not_found")
    assert body["error"].startswith(
        f"there is no logger {name.replace('%0A', chr(10))[:200]} in this gateway; there are"
    )
    assert set(logging.root.manager.loggerDict) == before


@pytest.mark.parametrize(("name", "found"), [("ROOT", None), ("root", None), ("filoray", "filoray")])
async def test_parents_of_loggers_have_levels_too(api, name, found):
    logger = logging.getLogger(found)
    before = logger.level
    try:
        async with api.client.post(f"/admin/loglevel/{name}", data=b"error") as response:
            assert response.status == 200
        assert logger.level == logging.ERROR
    finally:
        logger.setLevel(before)


async def test_what_is_not_served_is_a_json_404(api):
    for method in ("GET", "POST", "DELETE"):
        for path in ("/api/v1/targets", "/api/v1/alertmanagers", "/promql/timeseries/api/v1/rules", "/nope"):
            assert await api.ask(method, path) == (404, error("not_found", f"there is no endpoint {path} here"))


async def test_a_wrong_method_is_a_json_405_that_names_the_right_ones(api):
    async with api.client.put("/api/v1/query") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
        assert (await response.json())["errorType"] == "bad_data"


async def test_request_ids_are_taken_or_made(api):
    async with api.client.get("/__health", headers={"X-Request-Id": "mine-1"}) as response:
        assert response.headers["X-Request-Id"] == "mine-1"
    async with api.client.get("/__health", headers={"X-Request-Id": "<script>"}) as response:
        assert len(response.headers["X-Request-Id"]) == 16


async def test_every_request_is_a_line_in_the_log(api, caplog):
    with caplog.at_level(logging.INFO, "filoray.http.access"):
        await api.get("/api/v1/cluster", headers={"X-Request-Id": "r7"})
    assert "request_id=r7 method=GET path=/api/v1/cluster status=200" in caplog.text


async def test_own_metrics_count_requests_by_route(api):
    await api.get("/api/v1/query?query=1")
    await api.get("/api/v1/nope")
    async with api.client.get("/metrics") as response:
        text = await response.text()
    assert 'filoray_http_requests_total{code="200",method="GET",route="/api/v1/query"} 1.0' in text
    assert 'filoray_http_requests_total{code="404",method="GET",route="unknown"} 1.0' in text
    assert 'filoray_shards{dataset="timeseries",status="ShardStatusRecovery"} 1.0' in text


async def test_metrics_forget_data_sets_that_are_gone_and_methods_that_are_none(gateways):
    api = await gateways.start("timeseries", "gone")
    for name in ("timeseries", "gone"):
        async with api.client.post(f"/promql/{name}/api/v1/write", data=b"", headers=WRITE_HEADERS) as response:
            assert response.status == 204
    async with api.client.request("MKCALENDAR", "/nope") as response:
        assert response.status in (403, 404)
    text = await (await api.client.get("/metrics")).text()
    assert 'filoray_write_body_bytes_total{dataset="gone"}' in text
    assert 'method="other"' in text
    assert "MKCALENDAR" not in text
    del api.control.current.datasets["gone"]
    text = await (await api.client.get("/metrics")).text()
    assert '"gone"' not in text
    assert 'filoray_write_body_bytes_total{dataset="timeseries"}' in text


async def test_the_web_page_needs_nothing_from_elsewhere(api):
    async with api.client.get("/") as response:
        text = await response.text()
    assert response.content_type == "text/html"
    assert "<title>filoray</title>" in text
    assert "https://" not in text


async def test_build_info_says_what_grafana_asks(api):
    status, body = await api.get("/promql/timeseries/api/v1/status/buildinfo")
    assert status == 200
    assert body["data"]["version"].startswith("3.")


async def test_a_port_that_is_taken_is_a_clear_error(gateways):
    api = await gateways.start("timeseries")
    port = int(api.url.rpartition(":")[2])
    server = HttpServer(web.Application(), default_server_config().http, port)
    with pytest.raises(FilorayError, match=f"HTTP port {port} on 127.0.0.1 is taken by another program"):
        await server.start()


async def answers(client, url):
    try:
        await client.get(url)
    except ClientConnectionError:
        return False
    return True


async def test_stopping_lets_requests_finish(gateways):
    api = await gateways.start("timeseries")
    api.queries.hold = asyncio.Event()
    asking = asyncio.create_task(api.get("/api/v1/query?query=1"))
    await api.queries.started.wait()
    stopping = asyncio.create_task(api.server.stop())
    async with asyncio.timeout(10), ClientSession() as other:
        while await answers(other, f"{api.url}/__health"):
            await asyncio.sleep(0)
    api.queries.hold.set()
    assert (await asking)[0] == 200
    await stopping


# ---- cluster


async def test_datasets_and_their_shards(api):
    assert await api.get("/api/v1/cluster") == (200, success(["timeseries"]))
    one, two = "akka://filo-server@127.0.0.1:2552", "akka://filo-server@127.0.0.1:2553"
    active, recovery, down = "ShardStatusActive", "ShardStatusRecovery(94)", "ShardStatusDown"
    assert await api.get("/api/v1/cluster/timeseries/status") == (
        200,
        success([
            {"shard": 0, "status": active, "address": one},
            {"shard": 1, "status": recovery, "address": two},
            {"shard": 2, "status": down, "address": ""},
            {"shard": 3, "status": active, "address": one},
        ]),
    )  # fmt: skip
    assert await api.get("/api/v1/cluster/timeseries/statusByAddress") == (
        200,
        success([
            {"address": "", "shardList": [{"shard": 2, "status": down}]},
            {"address": one, "shardList": [{"shard": 0, "status": active}, {"shard": 3, "status": active}]},
            {"address": two, "shardList": [{"shard": 1, "status": recovery}]},
        ]),
    )  # fmt: skip


async def test_a_verbose_status_has_leader_followers_and_who_is_in_sync(api):
    code, body = await api.get("/api/v1/cluster/timeseries/status?verbose=true")
    assert code == 200
    active = {"shard": 0, "status": "ShardStatusActive", "address": "akka://filo-server@127.0.0.1:2552", "epoch": 1}
    copies = {"reason": "", "leader": "node-0", "movesTo": "", "replicas": 1, "inSync": ["node-0"], "followers": []}
    assert body["data"][0] == active | copies
    assert (body["data"][2]["leader"], body["data"][2]["inSync"]) == ("", [])
    view = api.control.current
    copied = view.datasets["timeseries"]
    ownerless = dataclasses.replace(copied.shard_map[2], copies=CopySet(3, ("node-1",), ("node-0", "node-1")))
    shard_map = copied.shard_map.with_entries([ownerless])
    api.control.current = dataclasses.replace(view, datasets={"timeseries": DatasetView(copied.config, shard_map)})
    code, body = await api.get("/api/v1/cluster/timeseries/status?verbose=true")
    assert [follower["problem"] for follower in body["data"][2]["followers"]] == ["the shard has no leader"]
    code, body = await api.get("/api/v1/cluster/timeseries/status?verbose=perhaps")
    assert (code, body["errorType"]) == (400, "bad_data")


@pytest.mark.parametrize("path", ["status", "statusByAddress", "shards/0/story"])
async def test_an_unknown_dataset_is_404(api, path):
    unknown = error("DatasetUnknown", "Dataset other is not registered")
    assert await api.get(f"/api/v1/cluster/other/{path}") == (404, unknown)


async def test_a_dataset_is_set_up_from_the_body_whatever_its_type(api):
    text = 'dataset = "new"\nnum-shards = 4'
    for content_type in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
        headers = {"Content-Type": content_type}
        assert await api.post("/api/v1/cluster/new", data=text.encode(), headers=headers) == (200, success([]))
    packed = gzip.compress(text.encode())
    assert await api.post("/api/v1/cluster/new", data=packed, headers={"Content-Encoding": "gzip"}) == (
        200,
        success([]),
    )
    assert api.control.calls == [("setup", "new", text)] * 4


async def test_a_dataset_that_exists_is_409_with_three_fields(api):
    api.control.error = DatasetExists("timeseries")
    text = "The dataset timeseries has already been setup for ingestion"
    assert await api.post("/api/v1/cluster/timeseries", data=b"{}") == (409, error("DatasetExists", text))


async def test_bodies_that_cannot_be_read(api):
    status, body = await api.post("/api/v1/cluster/new", data=b"\xff\xfe\x00")
    assert (status, body["errorType"]) == (400, "bad_data")
    status, body = await api.post("/api/v1/cluster/new", data=b"x" * (1024 * 1024 + 1))
    assert (status, body["errorType"]) == (413, "bad_data")
    status, body = await api.post("/api/v1/cluster/new", data=b"no gzip", headers={"Content-Encoding": "gzip"})
    assert (status, body["errorType"]) == (400, "bad_data")


async def test_a_dataset_is_deleted(api):
    assert await api.ask("DELETE", "/api/v1/cluster/timeseries") == (200, success([]))
    assert api.control.calls == [("delete", "timeseries")]


async def test_shards_are_stopped_and_started_by_hand(api):
    assert await api.post("/api/v1/cluster/timeseries/stopshards", json={"shardList": [3, 2]}) == (200, success([]))
    order = {"address": "akka.tcp://filo-standalone@127.0.0.1:2552", "shardList": [2]}
    assert await api.post("/api/v1/cluster/timeseries/startshards", json=order) == (200, success([]))
    assert api.control.calls == [
        ("stop", "timeseries", [2, 3]),
        ("start", "timeseries", "akka://filo-server@127.0.0.1:2552", [2]),
    ]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("timeseries/stopshards", b"not json"),
        ("timeseries/stopshards", b"[1]"),
        ("timeseries/stopshards", b'{"shardList": [true]}'),
        ("timeseries/stopshards", b'{"shardList": []}'),
        ("timeseries/startshards", b'{"shardList": [1]}'),
        ("timeseries/startshards", b'{"address": "somewhere", "shardList": [1]}'),
        ("other/stopshards", b'{"shardList": [1]}'),
    ],
)
async def test_orders_that_make_no_sense_are_400(api, path, body):
    status, answer = await api.post(f"/api/v1/cluster/{path}", data=body)
    assert (status, answer["errorType"]) == (400, "bad_data")
    assert api.control.calls == []


async def test_a_shards_story(api):
    story = ["assigned to node-0", "active"]
    assert await api.get("/api/v1/cluster/timeseries/shards/3/story") == (200, success(story))
    text = "dataset timeseries has no shard 4; it has 0 to 3"
    assert await api.get("/api/v1/cluster/timeseries/shards/4/story") == (404, error("not_found", text))


# ---- which dataset


async def test_the_only_dataset_is_chosen(api):
    await api.get("/api/v1/query?query=1")
    assert api.queries.requests[0].dataset == "timeseries"


async def test_several_datasets_need_a_choice(gateways):
    api = await gateways.start("one", "two")
    status, body = await api.get("/api/v1/query?query=1")
    assert (status, body["errorType"]) == (400, "bad_data")
    assert body["error"].endswith(": one, two")
    await api.get("/api/v1/query?query=1&dataset=two")
    await api.post("/api/v1/query", data={"query": "1", "dataset": "two"})
    await api.get("/promql/one/api/v1/query?query=1&dataset=two")
    assert [request.dataset for request in api.queries.requests] == ["two", "two", "one"]


async def test_the_configured_dataset_is_the_default(gateways):
    api = await gateways.start("one", "two", default="two")
    await api.get("/api/v1/query?query=1")
    assert api.queries.requests[0].dataset == "two"


async def test_no_dataset_and_unknown_ones_are_404(gateways):
    api = await gateways.start()
    assert (await api.get("/api/v1/query?query=1"))[0] == 404
    unknown = (404, error("DatasetUnknown", "Dataset x is not registered"))
    assert await api.get("/api/v1/query?query=1&dataset=x") == unknown
    assert await api.get("/promql/x/api/v1/query?query=1") == unknown
