"""PromQL, series and labels over HTTP: parameters in, envelopes out, limits, cancelling."""

import asyncio
import gzip
import json
import zlib

import numpy as np
import pytest
from aiohttp import ClientSession
from in_process_gateway import error, success, vector

from filoray.cluster.errors import BadData, ExecutionError, FilorayError, QueryTimeout, Unavailable
from filoray.http.fanout.requests import Names, QueryOutcome
from filoray.nodes.data.frame import ScalarSeries, TimeGrid
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.engine.query_params import QueryResult
from filoray.nodes.promql.ast import ValueType


@pytest.fixture
async def api(gateways):
    return await gateways.start("timeseries")


# ---- queries


async def test_an_instant_query(api):
    api.queries.outcome = QueryOutcome(vector(1, 2.5), ("PromQL warning: w",), ("PromQL info: i",))
    status, body = await api.get("/api/v1/query", params={"query": "up", "time": "1435781451.781", "timeout": "5s"})
    assert status == 200
    assert body == {
        "status": "success",
        "data": {
            "resultType": "vector",
            "result": [
                {"metric": {"__name__": "up", "i": "0"}, "value": [1435781451.781, "1"]},
                {"metric": {"__name__": "up", "i": "1"}, "value": [1435781451.781, "2.5"]},
            ],
        },
        "warnings": ["PromQL warning: w"],
        "infos": ["PromQL info: i"],
    }
    request = api.queries.requests[0]
    assert (request.query, request.start_ms, request.end_ms) == ("up", 1435781451781, 1435781451781)
    assert (request.is_range, request.lookback_ms, request.spread, request.wants_stats) == (False, None, None, False)
    assert 0 < request.timeout_ms <= 5000
    assert request.request_id


async def test_a_range_query_as_a_form(api):
    api.queries.outcome = QueryOutcome(vector([1, 2], [3, np.inf]))
    form = {"query": "up", "start": "10", "end": "2015-07-01T20:10:51.781Z", "step": "1w"}
    status, body = await api.post("/promql/timeseries/api/v1/query_range?query=ignored&spread=3", data=form)
    assert status == 200
    assert body["data"]["resultType"] == "matrix"
    assert body["data"]["result"][1]["values"] == [[1435781451.781, "3"], [1435781452.781, "+Inf"]]
    assert "warnings" not in body
    assert "partial" not in body
    request = api.queries.requests[0]
    assert (request.query, request.start_ms, request.end_ms) == ("up", 10_000, 1435781451781)
    assert (request.step_ms, request.is_range, request.spread) == (604_800_000, True, 3)


@pytest.mark.parametrize(
    ("limit", "shown"), [("1", ["0"]), ("2", ["0", "1"]), ("0", ["0", "1", "2"]), ("3", ["0", "1", "2"])]
)
async def test_series_beyond_the_limit_are_left_out(api, limit, shown):
    api.queries.outcome = QueryOutcome(vector([1, 2], [3, 4], [5, 6]), ("PromQL warning: w",))
    for path in ("query?time=1", "query_range?start=1&end=2&step=1"):
        _, body = await api.get(f"/api/v1/{path}", params={"query": "up", "limit": limit})
        assert [series["metric"]["i"] for series in body["data"]["result"]] == shown
        truncated = ["results truncated due to limit"] if len(shown) < 3 else []
        assert body["warnings"] == ["PromQL warning: w", *truncated]


async def test_the_limit_holds_for_range_vectors_and_not_for_scalars(api):
    labels = LabelTable.from_label_sets([{"i": "0"}, {"i": "1"}])
    batch = SeriesBatch(labels, np.array([0, 2, 3]), np.array([1000, 2000, 1000]), np.array([1.0, 2.0, 3.0]))
    grid = TimeGrid(5000, 1, 1)
    api.queries.outcome = QueryOutcome(QueryResult(ValueType.MATRIX, grid, matrix=batch))
    _, body = await api.get("/api/v1/query", params={"query": "up[1m]", "time": "5", "limit": "1"})
    assert body["data"]["result"] == [{"metric": {"i": "0"}, "values": [[1, "1"], [2, "2"]]}]
    assert body["warnings"] == ["results truncated due to limit"]
    api.queries.outcome = QueryOutcome(QueryResult(ValueType.SCALAR, grid, scalar=ScalarSeries(np.array([7.0]))))
    _, body = await api.get("/api/v1/query", params={"query": "7", "time": "5", "limit": "1"})
    assert body["data"]["result"] == [5, "7"]
    assert "warnings" not in body
    status, body = await api.get("/api/v1/query", params={"query": "7", "limit": "-1"})
    assert status == 400
    assert 'invalid parameter "limit"' in body["error"]


async def test_a_form_may_be_compressed(api):
    body = gzip.compress(b"query=up&time=5")
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/x-www-form-urlencoded"}
    assert (await api.post("/api/v1/query", data=body, headers=headers))[0] == 200
    assert api.queries.requests[0].start_ms == 5000


async def test_filodbs_parameters_reach_the_service(api):
    parameters = {"query": "up", "allowPartialResults": "true", "lookback_delta": "1m", "stats": "all", "spread": "2"}
    parameters |= {"verbose": "true", "histogramMap": "true"}
    api.queries.outcome = QueryOutcome(
        vector(1), ("shard 3 is missing",), (), True, {"totalQueryableSamples": 9, "nodes": []}
    )
    status, body = await api.get("/api/v1/query", params=parameters)
    assert (status, body["partial"], body["warnings"]) == (200, True, ["shard 3 is missing"])
    stats = body["data"]["stats"]
    assert stats["samples"]["totalQueryableSamples"] == 9
    assert stats["timings"]["execTotalTime"] >= stats["timings"]["evalTotalTime"] > 0
    assert stats["nodes"] == []
    request = api.queries.requests[0]
    assert (request.allow_partial, request.lookback_ms, request.wants_stats, request.spread) == (True, 60_000, True, 2)


async def test_explain_only_gives_the_plans_lines(api):
    assert await api.get("/api/v1/query?query=up&explainOnly=true") == (200, success(["T~Plan", "-E~Leaf"]))


BAD_TIME = "invalid time value for '{}': cannot parse \"x\" to a valid timestamp"
STEP_TOO_SMALL = "zero or negative query resolution step widths are not accepted. Try a positive integer"
TOO_MANY_POINTS = (
    "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX), "
    "or raise filoray.query.max-points-per-series"
)
NO_DURATION = 'cannot parse "{}" to a valid duration'


@pytest.mark.parametrize(
    ("path", "parameter", "text"),
    [
        ("query", "query", "unknown position: parse error: no expression found in input"),
        ("query?query=1%2B", "query", "1:3: parse error: unexpected end of input"),
        ("query?query=1&time=x", "time", BAD_TIME.format("time")),
        ("query?query=1&timeout=x", "timeout", NO_DURATION.format("x")),
        ("query?query=1&lookback_delta=x", "", f"error parsing lookback delta duration: {NO_DURATION.format('x')}"),
        ("query?query=1&spread=x", "spread", 'strconv.Atoi: parsing "x": invalid syntax'),
        ("query?query=1&explainOnly=x", "explainOnly", '"x" is not true or false'),
        ("query_range?query=1", "start", 'cannot parse "" to a valid timestamp'),
        ("query_range?query=1&start=x", "start", 'cannot parse "x" to a valid timestamp'),
        ("query_range?query=1&start=1&end=x", "end", 'cannot parse "x" to a valid timestamp'),
        ("query_range?query=1&start=10&end=5&step=1", "end", "end timestamp must not be before start time"),
        ("query_range?query=1&start=1&end=5", "step", NO_DURATION.format("")),
        ("query_range?query=1&start=0&end=5&step=1e30", "step", f"{NO_DURATION.format('1e30')}. It overflows int64"),
        ("query_range?query=1&start=1&end=5&step=-1", "step", STEP_TOO_SMALL),
        ("query_range?query=1&start=1&end=5&step=0.0001", "step", STEP_TOO_SMALL),
        ("query_range?query=1&start=0&end=11001&step=1", "", TOO_MANY_POINTS),
        ("query?query=1&time=1e30", "time", "times must be between -2305843009213694 and 2305843009213693 seconds"),
        ("format_query?query=1%2B", "query", "1:3: parse error: unexpected end of input"),
        ("series", "", "no match[] parameter provided"),
        ("series?match[]=%7B%7D", "match[]", "match[] must contain at least one non-empty matcher"),
        ("series?match[]=1", "match[]", '1:1: parse error: unexpected number "1"'),
        ("labels?start=x", "start", BAD_TIME.format("start")),
        ("labels?limit=-1", "limit", "limit must be non-negative"),
        ("metadata?limit=x", "", "limit must be a number"),
    ],
)
async def test_bad_requests_get_prometheuss_words(api, path, parameter, text):
    expected = f'invalid parameter "{parameter}": {text}' if parameter else text
    assert await api.get(f"/api/v1/{path}") == (400, error("bad_data", expected))
    assert api.queries.requests == []


async def test_eleven_thousand_points_and_one_are_allowed(api):
    assert (await api.get("/api/v1/query_range?query=1&start=0&end=11000&step=1"))[0] == 200


@pytest.mark.parametrize(
    ("raised", "status", "kind", "text"),
    [
        (ExecutionError("found duplicate series"), 422, "execution", "found duplicate series"),
        (QueryTimeout("query timed out after 5 ms"), 503, "timeout", "query timed out after 5 ms"),
        (Unavailable("shard 3 (ShardStatusDown)"), 503, "unavailable", "shard 3 (ShardStatusDown)"),
        (BadData("invalid expression type"), 400, "bad_data", 'invalid parameter "query": invalid expression type'),
        (FilorayError("odd \ud800"), 500, "internal", "odd \ufffd"),
    ],
)
async def test_errors_of_a_query_have_their_status(api, raised, status, kind, text):
    api.queries.error = raised
    assert await api.get("/api/v1/query?query=1") == (status, error(kind, text))


async def test_who_may_try_again_is_told_when(api):
    api.queries.error = Unavailable("shard 3 is moving")
    async with api.client.get("/api/v1/query?query=1") as response:
        assert response.headers["Retry-After"] == "1"


async def test_an_unexpected_error_is_logged_and_says_no_more_than_where(api, caplog):
    api.queries.error = ZeroDivisionError("secret")
    status, body = await api.get("/api/v1/query?query=1", headers={"X-Request-Id": "r9"})
    assert status == 500
    assert body == error("internal", "an unexpected error occurred; the log has it under request id r9")
    assert "ZeroDivisionError: secret" in caplog.text


async def test_texts_are_formatted_and_parsed(api):
    assert await api.get("/api/v1/format_query?query=1%2B1") == (200, success("1 + 1"))
    status, body = await api.post("/api/v1/parse_query", data={"query": "sum(up)"})
    assert (status, body["data"]["type"], body["data"]["op"]) == (200, "aggregation", "sum")


async def test_running_queries_are_listed_and_canceled(api):
    listed = {"id": "q1", "dataset": "timeseries", "query": "up", "startedAt": 1.5, "elapsedSeconds": 0.25}
    assert await api.get("/api/v1/queries") == (200, success([listed]))
    assert await api.ask("DELETE", "/api/v1/queries/q1") == (200, success([]))
    unknown = error("not_found", "no query q2 runs on this gateway")
    assert await api.ask("DELETE", "/api/v1/queries/q2") == (404, unknown)


async def test_a_running_querys_id_is_not_given_twice(api):
    await api.get("/api/v1/query?query=1", headers={"X-Request-Id": "q1"})
    assert api.queries.requests[0].request_id.startswith("q1-")


# ---- limits and cancelling


async def test_too_many_queries_at_once_are_503(gateways):
    api = await gateways.start("timeseries", query={"max_concurrent": 1, "max_waiting": 0})
    api.queries.hold = asyncio.Event()
    first = asyncio.create_task(api.get("/api/v1/query?query=1"))
    await api.queries.started.wait()
    status, body = await api.get("/api/v1/query?query=1")
    assert (status, body["errorType"]) == (503, "unavailable")
    assert body["error"].startswith("too many queries at once: 1 are running")
    api.queries.hold.set()
    assert (await first)[0] == 200


async def test_plans_wait_for_their_turn_and_keep_no_query_from_its_own(gateways):
    api = await gateways.start("timeseries", query={"max_concurrent_metadata": 1, "max_waiting": 1})
    api.queries.hold = asyncio.Event()
    plans = [asyncio.create_task(api.get("/api/v1/query?query=up&explainOnly=true")) for _ in range(8)]
    while sum(task.done() for task in plans) < 6:
        await asyncio.sleep(0.01)
    query = asyncio.create_task(api.get("/api/v1/query?query=up"))
    while len(api.queries.requests) < 2:
        await asyncio.sleep(0.01)
    api.queries.hold.set()
    assert (await query)[0] == 200
    assert sorted([(await task)[0] for task in plans]) == [200, 200] + [503] * 6


async def test_a_client_that_goes_away_cancels_its_query(api):
    api.queries.hold = asyncio.Event()
    asking = asyncio.create_task(api.get("/api/v1/query?query=1"))
    await api.queries.started.wait()
    asking.cancel()
    async with asyncio.timeout(10):
        await api.queries.stopped.wait()
        api.queries.hold = None
        while "filoray_queries_running 0.0" not in await (await api.client.get("/metrics")).text():
            await asyncio.sleep(0.01)


async def test_a_form_over_its_limit_is_413(gateways):
    api = await gateways.start("timeseries", query={"max_query_bytes": 10})
    status, body = await api.post("/api/v1/query", data={"query": "1" * 100_000})
    assert (status, body["errorType"]) == (413, "bad_data")
    assert "the body has 100006 bytes" in body["error"]
    assert "allows 65566" in body["error"]


async def test_thousands_of_pod_names_fit_into_a_form(api):
    pods = "|".join(f"checkout-service-deployment-{i:05d}-x7z" for i in range(4_000))
    assert (await api.post("/api/v1/query", data={"query": f'up{{pod=~"{pods}"}}'}))[0] == 200


@pytest.mark.parametrize(
    "query", ["abs(" * 126 + "x" + ")" * 126, " + ".join(["sum(x)"] * 300), "(" * 198 + "1" + ")" * 198]
)
async def test_deep_trees_are_shown_as_json(api, query):
    status, body = await api.post("/api/v1/parse_query", data={"query": query})
    assert (status, body["status"]) == (200, "success")
    status, body = await api.post("/api/v1/format_query", data={"query": query})
    assert (status, body["data"].count("1") + body["data"].count("x")) == (200, query.count("x") + query.count("1"))


# ---- compression and large answers


def many(count, steps):
    values = np.arange(count * steps, dtype=float).reshape(count, steps)
    return QueryOutcome(vector(*values))


@pytest.mark.parametrize(("count", "steps"), [(20, 10), (300, 100)])
async def test_answers_are_gzip_where_it_is_asked_for(api, count, steps):
    api.queries.outcome = many(count, steps)
    path = f"{api.url}/api/v1/query_range?query=up&start=0&end=100&step=1"
    async with ClientSession(auto_decompress=False) as raw:
        async with raw.get(path, headers={"Accept-Encoding": "deflate, gzip;q=0.5"}) as response:
            packed = await response.read()
            assert response.headers["Content-Encoding"] == "gzip"
            assert response.headers["Vary"] == "Accept-Encoding"
            assert response.headers["X-Request-Id"]
        for refused in ("identity", "gzip;q=0", "deflate"):
            async with raw.get(path, headers={"Accept-Encoding": refused}) as response:
                plain = await response.read()
                assert "Content-Encoding" not in response.headers
    assert zlib.decompress(packed, 31) == plain
    assert len(packed) < len(plain) / 2
    assert len(json.loads(plain)["data"]["result"]) == count


async def test_small_answers_stay_as_they_are(api):
    async with api.client.get("/api/v1/cluster", headers={"Accept-Encoding": "gzip"}) as response:
        assert "Content-Encoding" not in response.headers


# ---- series, labels, metadata


async def test_series_are_sorted(api):
    status, body = await api.get("/api/v1/series?match[]=up&match[]={job!%3D%22%22}&start=1&end=2")
    assert (status, body) == (200, success([{"__name__": "up", "job": "a"}, {"__name__": "up", "job": "b"}]))
    request = api.queries.requests[0]
    assert (request.start_ms, request.end_ms, request.limit) == (1000, 2000, 0)
    assert request.selectors == [
        (LabelMatcher("__name__", MatchOp.EQUAL, "up"),),
        (LabelMatcher("job", MatchOp.NOT_EQUAL, ""),),
    ]


async def test_series_as_a_form_with_a_limit(api):
    status, body = await api.post("/promql/timeseries/api/v1/series", data={"match[]": "up", "limit": "1"})
    assert (status, body["data"]) == (200, [{"__name__": "up", "job": "a"}])
    assert body["warnings"] == ["results truncated due to limit"]


async def test_many_series_are_streamed(api):
    count = 20_000
    api.queries.labels = LabelTable.from_label_sets([{"n": f"{n:05d}"} for n in range(count)])
    status, body = await api.get("/api/v1/series?match[]=up")
    assert (status, [labels["n"] for labels in body["data"]]) == (200, [f"{n:05d}" for n in range(count)])


async def test_label_names(api):
    api.queries.names = Names(["a", "b"], ("w",), True)
    status, body = await api.get("/api/v1/labels?match[]=up")
    assert (status, body) == (200, {**success(["a", "b"]), "partial": True, "warnings": ["w"]})


async def test_label_values_are_local_without_a_prefix_and_of_the_cluster_with_one(api):
    assert await api.get("/api/v1/label/job/values") == (200, success(["a", "b", "c"]))
    assert await api.get("/promql/timeseries/api/v1/label/job/values") == (200, success(["a", "b", "c"]))
    (where, name, request), (other, _) = api.queries.requests
    assert (where, name, other) == ("local", "job", "job")
    assert request.start_ms < -(10**17)
    assert request.end_ms > 10**17


async def test_a_label_that_the_node_does_not_index_is_404(api):
    assert await api.get("/api/v1/label/nope/values") == (404, error("not_found", "label nope is not indexed"))


async def test_label_values_up_to_the_smaller_limit(gateways):
    api = await gateways.start("timeseries", query={"label_values_limit": 2})
    truncated = {**success(["a", "b"]), "warnings": ["results truncated due to limit"]}
    assert await api.get("/api/v1/label/job/values") == (200, truncated)
    assert (await api.get("/api/v1/label/job/values?limit=1"))[1]["data"] == ["a"]
    assert (await api.get("/api/v1/label/job/values?limit=9"))[1]["data"] == ["a", "b"]


async def test_escaped_label_names(api):
    await api.get("/promql/timeseries/api/v1/label/U__a_2e_b__c/values")
    assert api.queries.requests[0][0] == "a.b_c"


@pytest.mark.parametrize("name", ["U__a_d800_", "U__a_110000_", "U__"])
async def test_label_names_that_are_no_text(api, name):
    status, body = await api.get(f"/promql/timeseries/api/v1/label/{name}/values")
    assert (status, body["errorType"]) == (400, "bad_data")
    assert body["error"].startswith("invalid label name: ")


async def test_metadata_by_metric(api):
    up = [{"type": "gauge", "help": "Is it up?", "unit": ""}, {"type": "counter", "help": "Ups.", "unit": "s"}]
    x = [{"type": "gauge", "help": "", "unit": ""}]
    assert await api.get("/api/v1/metadata") == (200, success({"up": up, "x": x}))
    assert await api.get("/api/v1/metadata?limit=1&limit_per_metric=1&metric=up") == (200, success({"up": up[:1]}))
    assert await api.get("/api/v1/metadata?limit=0") == (200, success({}))
    assert [call[1:] for call in api.queries.requests] == [("", 0), ("up", 1)]
