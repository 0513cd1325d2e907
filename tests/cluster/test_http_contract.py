"""The HTTP contract against a real cluster: every endpoint, its exact envelope and its status codes."""

from __future__ import annotations

import gzip
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests
from running_cluster import WRITE_HEADERS, RunningCluster, wait_until

START_MS = 1_700_000_000_000
END_S = START_MS // 1000 + 600
KAFKA_SOURCE = Path(__file__).parents[1] / "unit" / "data" / "kafka-source.conf"
METRICS = [f"metric_{i}" for i in range(24)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with RunningCluster(tmp_path_factory.mktemp("contract")) as running:
        running.setup()
        times = [START_MS + step * 15_000 for step in range(41)]
        written = running.write(
            [
                ({"__name__": name, "_ws_": "w", "_ns_": f"n{i % 4}", "i": str(i), f"only_{i}": "x"}, times, range(41))
                for i, name in enumerate(METRICS)
            ]
        )
        assert (written.status_code, written.content) == (204, b"")
        yield running


@pytest.fixture
def other(cluster):
    """A second dataset, for one test."""
    cluster.setup("other", num_shards=2, min_num_nodes=1)
    yield "other"
    requests.delete(f"{cluster.url}/api/v1/cluster/other", timeout=30)


def post(cluster: RunningCluster, path: str, body: Any = b"", **options: Any) -> requests.Response:
    data = body if isinstance(body, (bytes, str)) else orjson.dumps(body)
    return requests.post(cluster.url + path, data=data, timeout=60, **options)


def error_of(answer: requests.Response) -> tuple[int, str, str]:
    """(status, errorType, text) of an error; checks that there are exactly the envelope's three fields."""
    assert answer.headers["Content-Type"].startswith("application/json"), answer.text
    body = answer.json()
    assert set(body) == {"status", "errorType", "error"}, body
    assert body["status"] == "error"
    return answer.status_code, body["errorType"], body["error"]


# ---- liveness and members


@pytest.mark.parametrize("path", ["/__health", "/admin/health"])
def test_health(cluster, path):
    for gateway in range(3):
        answer = cluster.get(path, gateway)
        assert (answer.status_code, answer.text) == (200, "All good")
        assert answer.headers["Content-Type"].startswith("text/plain")


def test_members_under_both_names_from_every_gateway(cluster):
    answers = [cluster.get(path, gateway).json() for path in ("/__members", "/__seeds") for gateway in range(3)]
    assert all(answer == answers[0] for answer in answers)
    assert list(answers[0]) == ["members"]
    members = answers[0]["members"]
    assert members == sorted(members)
    assert len(members) == 3
    assert all(re.fullmatch(r"akka://filo-server@127\.0\.0\.1:\d+", member) for member in members)


def test_a_log_level_is_set_and_a_wrong_one_refused(cluster):
    answer = post(cluster, "/admin/loglevel/filoray.http", "info")
    assert answer.status_code == 200
    assert "filoray.http" in answer.text
    status, kind, text = error_of(post(cluster, "/admin/loglevel/filoray.http", "loud"))
    assert (status, kind) == (400, "bad_data")
    assert "loud" in text


def test_own_metrics_are_in_prometheus_text_form(cluster):
    answer = cluster.get("/metrics")
    assert answer.status_code == 200
    assert re.search(r"^filoray_\w+(\{.*\})? [0-9.e+]+$", answer.text, re.MULTILINE)


def test_every_gateway_tells_the_figures_of_all(cluster, other):
    series = [({"__name__": f"figures_{i}"}, [START_MS, START_MS + 1], [1.0, 2.0]) for i in range(6)]
    assert cluster.write(series, dataset=other).status_code == 204
    assert cluster.write([({"__name__": "figures_0"}, [START_MS], [7.0])], dataset=other).status_code == 400
    for gateway in range(3):
        told = cluster.get("/admin/figures", gateway).json()["data"]
        assert (told["cluster"], told["gateway"]) == ("filoray", f"gateway-{gateway}")
        standings = [told["coordinator"], *(entry["standing"] for entry in told["gateways"] + told["nodes"])]
        assert [standing["presence"] for standing in standings] == ["up"] * 7
        assert [entry["figures"]["url"] for entry in told["gateways"]] == [cluster.gateway(i) for i in range(3)]
        shards = [shard for entry in told["nodes"] for shard in entry["figures"]["shards"] if shard["dataset"] == other]
        counted = ("series", "samples_accepted", "samples_refused", "unflushed_samples")
        assert [sum(shard[name] for shard in shards) for name in counted] == [6, 12, 1, 12]
        (owned,) = [entry["shards"] for entry in told["datasets"] if entry["dataset"] == other]
        assert {(shard["shard"], shard["epoch"]) for shard in owned} == {(s["shard"], s["epoch"]) for s in shards}


# ---- datasets


def test_the_list_of_datasets(cluster, other):
    assert cluster.get("/api/v1/cluster").json() == {"status": "success", "data": ["other", "timeseries"]}


def test_the_status_of_every_shard_is_the_same_on_every_gateway(cluster):
    members = cluster.get("/__members").json()["members"]
    for gateway in range(3):
        answer = cluster.get("/api/v1/cluster/timeseries/status", gateway)
        assert answer.status_code == 200
        assert set(answer.json()) == {"status", "data"}
        shards = answer.json()["data"]
        assert [entry["shard"] for entry in shards] == [0, 1, 2, 3]
        for entry in shards:
            assert set(entry) == {"shard", "status", "address"}
            assert entry["status"] == "ShardStatusActive"
            assert entry["address"] in members


def test_status_by_address_has_the_same_shards(cluster):
    by_shard = {
        (entry["address"], entry["shard"], entry["status"])
        for entry in cluster.get("/api/v1/cluster/timeseries/status").json()["data"]
    }
    groups = cluster.get("/api/v1/cluster/timeseries/statusByAddress").json()["data"]
    assert all(set(group) == {"address", "shardList"} for group in groups)
    assert {(g["address"], e["shard"], e["status"]) for g in groups for e in g["shardList"]} == by_shard


@pytest.mark.parametrize("path", ["status", "statusByAddress", "shards/0/story"])
def test_an_unknown_dataset_is_404_by_its_exact_text(cluster, path):
    answer = cluster.get(f"/api/v1/cluster/nope/{path}")
    assert error_of(answer) == (404, "DatasetUnknown", "Dataset nope is not registered")


def test_deleting_an_unknown_dataset_is_404(cluster):
    answer = requests.delete(f"{cluster.url}/api/v1/cluster/nope", timeout=30)
    assert error_of(answer) == (404, "DatasetUnknown", "Dataset nope is not registered")


def test_a_second_setup_is_409_with_exactly_the_contracts_body(cluster):
    answer = post(cluster, "/api/v1/cluster/timeseries", source("timeseries"))
    assert answer.status_code == 409
    assert answer.json() == {
        "status": "error",
        "errorType": "DatasetExists",
        "error": "The dataset timeseries has already been setup for ingestion",
    }


def source(name: str, **changes: Any) -> dict[str, Any]:
    given = {
        "dataset": name,
        "num-shards": 4,
        "min-num-nodes": 2,
        "sourcefactory": "filoray.nodes.streams.LogStreamFactory",
        "sourceconfig": {},
        **{key.replace("_", "-"): value for key, value in changes.items()},
    }
    return {key: value for key, value in given.items() if value is not None}


@pytest.mark.parametrize("key", ["dataset", "num-shards", "min-num-nodes", "sourcefactory", "sourceconfig"])
def test_setup_without_a_needed_key_is_400_naming_it(cluster, key):
    body = source("fresh")
    del body[key]
    status, kind, text = error_of(post(cluster, "/api/v1/cluster/fresh", body))
    assert (status, kind) == (400, "bad_data")
    assert key in text


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dataset": "different"}, "dataset"),
        ({"num_shards": 3}, "num-shards"),
        ({"num_shards": 0}, "num-shards"),
        ({"num_shards": "many"}, "num-shards"),
        ({"min_num_nodes": 0}, "min-num-nodes"),
        ({"sourcefactory": "a.b.C"}, "LogStreamFactory"),
        ({"sourceconfig": 3}, "sourceconfig"),
        ({"sourceconfig": {"store": {"flush-interval": "soon"}}}, "flush-interval"),
        ({"sourceconfig": {"store": {"shard-mem-size": "big"}}}, "shard-mem-size"),
        ({"sourceconfig": {"store": {"shard_mem_size": "1GB"}}}, "did you mean sourceconfig.store.shard-mem-size?"),
    ],
)
def test_setup_with_a_wrong_value_is_400_naming_its_key(cluster, changes, named):
    status, kind, text = error_of(post(cluster, "/api/v1/cluster/fresh", source("fresh", **changes)))
    assert (status, kind) == (400, "bad_data")
    assert named in text


@pytest.mark.parametrize("body", ["dataset = {", '{"dataset": ', "\x00", "[1, 2]", ""])
def test_setup_with_a_body_that_does_not_parse_is_400(cluster, body):
    status, kind, text = error_of(post(cluster, "/api/v1/cluster/fresh", body))
    assert (status, kind) == (400, "bad_data")
    assert text
    assert cluster.get("/api/v1/cluster").json()["data"] == ["timeseries"]


def test_json_and_hocon_whatever_the_content_type_says_then_deleted(cluster):
    hocon = """
        dataset = fresh, num-shards = 2, min-num-nodes = 1
        sourcefactory = "filoray.nodes.streams.LogStreamFactory"
        sourceconfig { store { flush-interval = 2 minutes, shard-mem-size = 512MB, unknown-key = 1 } }  // a comment
    """
    plain = {"status": "success", "data": []}
    for body, content_type, said in [
        (hocon, "application/json", plain | {"warnings": ["sourceconfig.store.unknown-key has no effect here"]}),
        (orjson.dumps(source("fresh")), "text/plain", plain),
        (orjson.dumps(source("fresh")), "application/x-www-form-urlencoded", plain),
    ]:
        answer = post(cluster, "/api/v1/cluster/fresh", body, headers={"Content-Type": content_type})
        assert (answer.status_code, answer.json()) == (200, said)
        deleted = requests.delete(f"{cluster.url}/api/v1/cluster/fresh", timeout=30)
        assert (deleted.status_code, deleted.json()) == (200, {"status": "success", "data": []})
        assert error_of(cluster.get("/api/v1/cluster/fresh/status"))[0] == 404


def lines(*extra: str) -> str:
    head = "dataset = fresh, num-shards = 1, min-num-nodes = 1"
    return "\n".join([head, f'sourcefactory = "{source("x")["sourcefactory"]}"', "sourceconfig {}", *extra])


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("fresh", lines("dataset = ${PATH}"), "${PATH} cannot be resolved: there is no such key, and posted text"),
        ("fresh", lines('include "/etc/passwd"'), "include is not allowed here"),
        ("fresh", lines("k0 = x", *(f"k{i + 1} = ${{k{i}}}${{k{i}}}" for i in range(50))), "max-config-size"),
        ("fresh", lines("a {" * 1000), "max-config-depth"),
        ("coordinator.db-journal", lines("dataset = coordinator.db-journal"), "is not a dataset name"),
        ("fresh", lines("sourcefactory = filodb.coordinator.sources.CsvStreamFactory",
                        "sourceconfig.file = /etc/passwd"), "filoray.datasets.csv-directory, which is not set"),
        ("fresh", lines("sourcefactory = filodb.kafka.KafkaIngestionStreamFactory",
                        "sourceconfig { filo-topic-name = t, consumer.plugin.library.paths = /tmp/x }"),
         "sourceconfig.consumer.plugin.library.paths: a dataset may not set this"),
    ],
)  # fmt: skip
def test_a_posted_text_has_no_power_over_the_machine(cluster, name, text, named):
    answer = post(cluster, f"/api/v1/cluster/{name}", text)
    status, kind, said = error_of(answer)
    assert (status, kind) == (400, "bad_data")
    assert named in said
    assert os.environ["PATH"] not in said
    assert "root:" not in said


def test_a_large_posted_text_leaves_the_others_their_turn(cluster):
    text = lines(*(f"key{i} = value {i}" for i in range(9_000)))
    assert len(text) > 150_000
    with ThreadPoolExecutor(1) as pool:
        posted = pool.submit(post, cluster, "/api/v1/cluster/fresh", text)
        answered = 0
        while not posted.done():
            assert cluster.get("/__health").text == "All good"
            answered += 1
    assert posted.result().status_code == 200
    assert answered > 1
    assert requests.delete(f"{cluster.url}/api/v1/cluster/fresh", timeout=60).status_code == 200


def test_a_deleted_dataset_set_up_again_is_empty(cluster):
    for expected in (True, False):
        cluster.setup("fresh", num_shards=2, min_num_nodes=1)
        assert cluster.query("brief", END_S, "fresh") == []
        if expected:
            assert cluster.write([({"__name__": "brief"}, [END_S * 1000], [1.0])], "fresh").status_code == 204
            assert cluster.number("brief", END_S, "fresh") == 1
        assert requests.delete(f"{cluster.url}/api/v1/cluster/fresh", timeout=30).status_code == 200


def test_filodbs_kafka_source_is_accepted_and_can_be_deleted_without_a_broker(cluster):
    requests.delete(f"{cluster.url}/api/v1/cluster/kafka", timeout=30)
    text = KAFKA_SOURCE.read_text().replace('dataset = "timeseries"', 'dataset = "kafka"')
    # A port that nobody listens on, whatever runs on this machine.
    text = text.replace("kafka-port = 9092", "kafka-port = 1")
    answer = post(cluster, "/api/v1/cluster/kafka", text)
    assert (answer.status_code, answer.json()) == (200, {"status": "success", "data": []})
    assert len(cluster.statuses("kafka")) == 4
    assert cluster.number("count({__name__=~'metric_.*'})", END_S) == len(METRICS)  # the neighbour is not disturbed
    assert requests.delete(f"{cluster.url}/api/v1/cluster/kafka", timeout=60).status_code == 200
    assert cluster.get("/api/v1/cluster").json()["data"] == ["timeseries"]


# ---- moving shards by hand


def entry_of(cluster: RunningCluster, shard: int, dataset: str = "timeseries") -> dict[str, Any]:
    return cluster.get(f"/api/v1/cluster/{dataset}/status").json()["data"][shard]


def test_a_shard_is_stopped_and_started_on_another_node_with_its_data(cluster):
    before = {name: cluster.number(name, END_S) for name in METRICS}
    owner = entry_of(cluster, 2)["address"]
    answer = post(cluster, "/api/v1/cluster/timeseries/stopshards", {"shardList": [2]})
    assert (answer.status_code, answer.json()) == (200, {"status": "success", "data": []})
    assert entry_of(cluster, 2) == {"shard": 2, "status": "ShardStatusStopped", "address": ""}
    held = {group["address"]: len(group["shardList"]) for group in by_address(cluster) if group["address"]}
    target = next(m for m in cluster.get("/__members").json()["members"] if m != owner and held.get(m, 0) < 2)
    answer = post(cluster, "/api/v1/cluster/timeseries/startshards", {"address": target, "shardList": [2]})
    assert (answer.status_code, answer.json()) == (200, {"status": "success", "data": []})
    cluster.wait_active()
    assert entry_of(cluster, 2)["address"] == target
    assert {name: cluster.number(name, END_S) for name in METRICS} == before
    move_shard_2(cluster, owner)
    story = cluster.get("/api/v1/cluster/timeseries/shards/2/story").json()["data"]
    assert any("ShardStatusStopped" in line for line in story)


def move_shard_2(cluster: RunningCluster, address: str) -> None:
    assert post(cluster, "/api/v1/cluster/timeseries/stopshards", {"shardList": [2]}).status_code == 200
    order = {"address": address, "shardList": [2]}
    assert post(cluster, "/api/v1/cluster/timeseries/startshards", order).status_code == 200
    cluster.wait_active()


def by_address(cluster: RunningCluster) -> list[dict[str, Any]]:
    return cluster.get("/api/v1/cluster/timeseries/statusByAddress").json()["data"]


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b"{}", b'{"shardList": []}', b'{"shardList": ["1"]}', b'{"shardList": 1}']
)
@pytest.mark.parametrize("order", ["stopshards", "startshards"])
def test_orders_that_are_no_orders_are_400(cluster, order, body):
    status, kind, _ = error_of(post(cluster, f"/api/v1/cluster/timeseries/{order}", body))
    assert (status, kind) == (400, "bad_data")


def test_every_wrong_order_is_400_and_changes_nothing(cluster):
    members = cluster.get("/__members").json()["members"]
    before = cluster.get("/api/v1/cluster/timeseries/status").json()
    wrong = [
        ("nope", "stopshards", {"shardList": [0]}, "nope"),
        ("nope", "startshards", {"address": members[0], "shardList": [0]}, "nope"),
        ("timeseries", "stopshards", {"shardList": [4]}, "no shard 4"),
        ("timeseries", "stopshards", {"shardList": [0, -1]}, "no shard -1"),
        ("timeseries", "startshards", {"address": members[0], "shardList": [9]}, "no shard 9"),
        ("timeseries", "startshards", {"address": members[0], "shardList": [0]}, "assigned"),
        ("timeseries", "startshards", {"shardList": [0]}, "address"),
        ("timeseries", "startshards", {"address": "somewhere", "shardList": [0]}, "somewhere"),
        ("timeseries", "startshards", {"address": "akka://filo-server@127.0.0.1:1", "shardList": [0]}, "127.0.0.1:1"),
    ]
    for dataset, order, body, named in wrong:
        status, kind, text = error_of(post(cluster, f"/api/v1/cluster/{dataset}/{order}", body))
        assert (status, kind) == (400, "bad_data"), text
        assert named in text
    assert cluster.get("/api/v1/cluster/timeseries/status").json() == before


def test_a_stopped_shard_is_not_stopped_twice_nor_started_where_there_is_no_room(cluster):
    full = next(group for group in by_address(cluster) if len(group["shardList"]) == 2)
    free = next(group for group in by_address(cluster) if len(group["shardList"]) == 1)
    shard = free["shardList"][0]["shard"]
    assert post(cluster, "/api/v1/cluster/timeseries/stopshards", {"shardList": [shard]}).status_code == 200
    status, _, text = error_of(post(cluster, "/api/v1/cluster/timeseries/stopshards", {"shardList": [shard]}))
    assert status == 400
    assert "not assigned" in text
    order = {"address": full["address"], "shardList": [shard]}
    status, _, text = error_of(post(cluster, "/api/v1/cluster/timeseries/startshards", order))
    assert status == 400
    assert "room" in text
    older_scheme = free["address"].replace("akka://filo-server@", "akka.tcp://filo-server@")
    order = {"address": older_scheme, "shardList": [shard]}
    assert post(cluster, "/api/v1/cluster/timeseries/startshards", order).status_code == 200
    cluster.wait_active()


# ---- which dataset


def test_without_a_prefix_the_only_dataset_answers(cluster):
    assert cluster.get("/api/v1/query", query="metric_1", time=END_S).json()["data"]["result"]


def test_without_a_prefix_and_with_several_datasets_the_choice_is_needed(cluster, other):
    status, kind, text = error_of(cluster.get("/api/v1/query", query="metric_1", time=END_S))
    assert (status, kind) == (400, "bad_data")
    assert "other, timeseries" in text
    chosen = cluster.get("/api/v1/query", query="metric_1", time=END_S, dataset="timeseries")
    assert len(chosen.json()["data"]["result"]) == 1
    assert cluster.get("/api/v1/query", query="metric_1", time=END_S, dataset="other").json()["data"]["result"] == []


@pytest.mark.parametrize("path", ["query?query=up", "series?match[]=up", "labels", "label/job/values", "metadata"])
def test_a_prefix_of_an_unknown_dataset_is_404(cluster, path):
    answer = cluster.get(f"/promql/nope/api/v1/{path}")
    assert error_of(answer) == (404, "DatasetUnknown", "Dataset nope is not registered")


# ---- PromQL


@pytest.mark.parametrize("prefix", ["/api/v1", "/promql/timeseries/api/v1"])
@pytest.mark.parametrize("gateway", [0, 1, 2])
def test_an_instant_query_by_get_and_by_post(cluster, prefix, gateway):
    expected = {
        "status": "success",
        "data": {
            "resultType": "vector",
            "result": [
                {
                    "metric": {"__name__": "metric_3", "_ws_": "w", "_ns_": "n3", "i": "3", "only_3": "x"},
                    "value": [END_S, "40"],
                }
            ],
        },
    }
    parameters = {"query": "metric_3", "time": str(END_S)}
    url = f"{cluster.gateway(gateway)}{prefix}/query"
    assert requests.get(url, params=parameters, timeout=30).json() == expected
    assert requests.post(url, data=parameters, timeout=30).json() == expected
    assert requests.post(url, params=parameters, timeout=30).json() == expected


def test_a_range_query_by_get_and_by_post_and_by_rfc3339_times(cluster):
    url = f"{cluster.url}/promql/timeseries/api/v1/query_range"
    unix = {"query": "metric_3", "start": END_S - 60, "end": END_S, "step": "30s"}
    answer = requests.get(url, params=unix, timeout=30).json()
    assert answer["data"]["resultType"] == "matrix"
    assert answer["data"]["result"][0]["values"] == [[END_S - 60, "36"], [END_S - 30, "38"], [END_S, "40"]]
    assert requests.post(url, data=unix, timeout=30).json() == answer
    text = {"query": "metric_3", "start": "2023-11-14T22:22:20Z", "end": "2023-11-14T23:23:20+01:00", "step": 30}
    assert requests.get(url, params=text, timeout=30).json() == answer


@pytest.mark.parametrize(
    ("query", "data"),
    [
        ("1 + 1", {"resultType": "scalar", "result": [END_S, "2"]}),
        ('"text"', {"resultType": "string", "result": [END_S, "text"]}),
        ("vector(-Inf)", {"resultType": "vector", "result": [{"metric": {}, "value": [END_S, "-Inf"]}]}),
        ("vector(1e6)", {"resultType": "vector", "result": [{"metric": {}, "value": [END_S, "1000000"]}]}),
        ("nothing", {"resultType": "vector", "result": []}),
    ],
)
def test_result_types(cluster, query, data):
    answer = cluster.get("/promql/timeseries/api/v1/query", query=query, time=END_S).json()
    assert answer == {"status": "success", "data": data}


@pytest.mark.parametrize(
    ("path", "parameters", "text"),
    [
        ("query", {}, 'invalid parameter "query": '),
        ("query", {"query": "sum("}, 'invalid parameter "query": 1:5: parse error: unclosed left parenthesis'),
        ("query", {"query": "up", "time": "noon"}, 'invalid parameter "time"'),
        ("query", {"query": "up", "timeout": "soon"}, 'invalid parameter "timeout"'),
        ("query_range", {"query": "up"}, 'invalid parameter "start"'),
        ("query_range", {"query": "up", "start": 10, "end": 5, "step": 1}, 'invalid parameter "end"'),
        ("query_range", {"query": "up", "start": 1, "end": 5, "step": 0}, 'invalid parameter "step"'),
        ("query_range", {"query": "up[5m]", "start": 1, "end": 5, "step": 1}, "invalid expression type"),
        ("query_range", {"query": "up", "start": 0, "end": 11001, "step": 1}, "11,000 points"),
        ("series", {}, "no match[] parameter provided"),
        ("series", {"match[]": "{"}, 'invalid parameter "match[]"'),
        ("labels", {"limit": "-1"}, 'invalid parameter "limit"'),
        ("label/a b/values", {}, ""),
    ],
)
def test_a_wrong_parameter_is_400_bad_data(cluster, path, parameters, text):
    answer = cluster.get(f"/promql/timeseries/api/v1/{path}", **parameters)
    if path == "label/a b/values":  # any UTF-8 is a label name
        assert answer.json() == {"status": "success", "data": []}
        return
    status, kind, given = error_of(answer)
    assert (status, kind) == (400, "bad_data")
    assert text in given


def test_a_query_that_fails_while_it_runs_is_422_execution(cluster):
    status, kind, text = error_of(
        cluster.get("/promql/timeseries/api/v1/query", query='metric_1 + on() {__name__=~"metric_.*"}', time=END_S)
    )
    assert (status, kind) == (422, "execution")
    assert "many" in text
    query = '{__name__=~"metric_[12]"} * on() group_left() metric_1'
    answer = cluster.get("/promql/timeseries/api/v1/query", query=query, time=END_S).json()
    assert [series["value"][1] for series in answer["data"]["result"]] == ["1600", "1600"]


def test_infos_stand_beside_data(cluster):
    answer = cluster.get("/promql/timeseries/api/v1/query", query="rate(metric_1[5m])", time=END_S).json()
    assert list(answer) == ["status", "data", "infos"]
    assert "metric might not be a counter" in answer["infos"][0]


def test_gzip_only_where_it_is_asked_for(cluster):
    url = f"{cluster.url}/promql/timeseries/api/v1/query"
    parameters = {"query": '{__name__=~"metric_.*"}', "time": END_S}
    plain = requests.get(url, params=parameters, headers={"Accept-Encoding": "identity"}, timeout=30)
    assert "Content-Encoding" not in plain.headers
    with requests.get(url, params=parameters, headers={"Accept-Encoding": "gzip"}, stream=True, timeout=30) as packed:
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.raw.read()) == plain.content


def test_explain_only_prints_the_plan_per_node(cluster):
    answer = cluster.get(
        "/promql/timeseries/api/v1/query", query='sum({__name__=~"metric_.*"})', time=END_S, explainOnly="true"
    ).json()
    text = "\n".join(answer["data"])
    for member in cluster.get("/__members").json()["members"]:
        assert member in text


def test_stats_tell_what_each_node_did(cluster):
    answer = cluster.get("/promql/timeseries/api/v1/query", query="sum({i=~'.+'})", time=END_S, stats="all").json()
    stats = answer["data"]["stats"]
    assert stats["samples"]["totalQueryableSamples"] == len(METRICS)
    assert {node["node"] for node in stats["nodes"]} == {"node-0", "node-1", "node-2"}
    assert sorted(shard for node in stats["nodes"] for shard in node["shards"]) == [0, 1, 2, 3]
    assert "stats" not in cluster.get("/promql/timeseries/api/v1/query", query="metric_1").json()["data"]


def test_format_and_parse_query(cluster):
    assert cluster.get("/api/v1/format_query", query="sum( metric_1 )").json()["data"] == "sum(metric_1)"
    tree = cluster.get("/api/v1/parse_query", query="sum(metric_1)").json()["data"]
    assert (tree["type"], tree["op"]) == ("aggregation", "sum")


# ---- metadata


def test_label_values_are_node_local_without_a_prefix_and_cluster_wide_with_it(cluster):
    everywhere = cluster.get("/promql/timeseries/api/v1/label/__name__/values").json()
    assert everywhere == {"status": "success", "data": sorted(METRICS)}
    local = []
    for gateway in range(3):
        answer = cluster.get("/api/v1/label/__name__/values", gateway)
        assert answer.status_code == 200
        local.append(set(answer.json()["data"]))
    assert set().union(*local) == set(METRICS)
    assert all(values < set(METRICS) for values in local)


def test_a_label_that_the_node_beside_does_not_index_is_404(cluster):
    statuses = [cluster.get("/api/v1/label/only_5/values", gateway).status_code for gateway in range(3)]
    assert sorted(statuses) == [200, 404, 404]
    assert error_of(cluster.get("/api/v1/label/nowhere/values"))[:2] == (404, "not_found")
    assert cluster.get("/promql/timeseries/api/v1/label/nowhere/values").json() == {"status": "success", "data": []}


def test_label_values_are_cut_at_the_limit_with_a_warning(cluster):
    answer = cluster.get("/promql/timeseries/api/v1/label/__name__/values", limit=3).json()
    assert answer == {
        "status": "success",
        "data": sorted(METRICS)[:3],
        "warnings": ["results truncated due to limit"],
    }


@pytest.mark.parametrize("path", ["series?match[]=metric_1&", "labels?", "label/__name__/values?", "metadata?"])
def test_the_largest_limit_is_none(cluster, path):
    base = f"/promql/timeseries/api/v1/{path}"
    assert cluster.get(f"{base}limit=9223372036854775807").json() == cluster.get(base).json()


PODS = "|".join(f"checkout-service-deployment-{i:05d}-x7z" for i in range(4_000))


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("abs(" * 198 + "metric_1" + ")" * 198, ["40"]),
        ("sum(" * 196 + "metric_1" + ")" * 196, ["40"]),
        ("label_replace(" * 195 + "metric_1" + ',"a","b","c","d")' * 195, ["40"]),
        (" + ".join(["sum(metric_1)"] * 125), ["5000"]),
        (" or ".join(f"metric_{i}" for i in range(300)), ["40"] * len(METRICS)),
        ("metric_1 @ 1700000500000000000", []),
        ("metric_1 @ -1e17", []),
        ("metric_1 @ 9.2e15 offset -1y", []),
        ('metric_1{i=~"\\\\p{N}{1,1000}"}', ["40"]),
        (f'metric_1{{i!~"{PODS}"}}', ["40"]),
        ('sum by (__name__) (abs({__name__=~"metric_1|metric_2"}))', ["80"]),
        ("vector(10 ^ -5)", ["0.00001"]),
    ],
    ids=lambda value: None if isinstance(value, list) else value[:30],
)  # fmt: skip
def test_deep_long_and_far_off_queries_are_answered(cluster, query, values):
    form = {"query": query, "time": END_S, "stats": "all", "limit": "9223372036854775807"}
    answer = requests.post(f"{cluster.url}/promql/timeseries/api/v1/query", data=form, timeout=60)
    assert answer.status_code == 200, answer.text[:500]
    data = answer.json()["data"]
    assert [sample["value"][1] for sample in data["result"]] == values
    assert (data["stats"]["samples"]["peakSamples"] > 0) == bool(values)
    for path in ("parse_query", "format_query"):
        answer = requests.post(f"{cluster.url}/promql/timeseries/api/v1/{path}", data=form, timeout=60)
        assert answer.status_code == 200


def test_metric_metadata_is_an_object(cluster):
    assert cluster.get("/promql/timeseries/api/v1/metadata").json() == {"status": "success", "data": {}}


# ---- writes


def test_a_write_is_read_by_every_gateway_right_after(cluster):
    for gateway in range(3):
        name = f"fresh_from_{gateway}"
        assert cluster.write([({"__name__": name}, [START_MS], [7.0])], gateway=gateway).status_code == 204
        assert [cluster.number(name, START_MS / 1000, gateway=other) for other in range(3)] == [7, 7, 7]


def test_writes_as_prometheus_answers_them(cluster):
    series = {"__name__": "written_twice"}
    assert cluster.write([(series, [START_MS], [1.0])]).status_code == 204
    assert cluster.write([(series, [START_MS], [1.0])]).status_code == 204
    status, kind, text = error_of(cluster.write([(series, [START_MS], [2.0])]))
    assert (status, kind) == (400, "bad_data")
    assert "different value" in text
    assert cluster.number("written_twice", START_MS / 1000) == 1
    assert cluster.write([]).status_code == 204
    assert cluster.write([({"__name__": "in_1970"}, [0], [1.0])]).status_code == 204
    assert cluster.number("in_1970", 0) == 1
    unsorted = {"z": "1", "__name__": "unsorted", "a": "1", "empty": ""}
    assert cluster.write([(unsorted, [START_MS], [1.0])]).status_code == 204
    assert cluster.query("unsorted", START_MS / 1000)[0]["metric"] == {"__name__": "unsorted", "a": "1", "z": "1"}


def test_a_sample_of_the_future_is_refused_and_shuts_nothing(cluster):
    series = {"__name__": "clock_put_right"}
    now_ms = int(time.time() * 1000)
    for ahead_ms, value in ((-30_000, 1.0), (3_600_000, 9.0), (now_ms * 999, 9.0), (-15_000, 2.0)):
        answer = cluster.write([(series, [now_ms + ahead_ms], [value])])
        if ahead_ms < 0:
            assert answer.status_code == 204
            continue
        status, kind, text = error_of(answer)
        assert (status, kind) == (400, "bad_data")
        assert "1 samples were refused (out of bounds: 1), 0 were stored; for example clock_put_right{}: " in text
        assert "ahead of the clock here" in text
    assert cluster.number("count_over_time(clock_put_right[1m])", now_ms / 1000) == 2
    assert cluster.number("clock_put_right", now_ms / 1000) == 2


@pytest.mark.parametrize("path", ["/promql/timeseries/api/v1/write", "/api/v1/write"])
def test_bodies_that_are_no_writes_are_refused(cluster, path):
    url = cluster.url + path
    assert error_of(requests.post(url, data=b"junk", headers=WRITE_HEADERS, timeout=30))[:2] == (400, "bad_data")
    json_type = {**WRITE_HEADERS, "Content-Type": "application/json"}
    assert error_of(requests.post(url, data=b"{}", headers=json_type, timeout=30))[0] == 415
    assert requests.post(url, data=b"", headers=WRITE_HEADERS, timeout=30).status_code == 204


def test_a_write_to_an_unknown_dataset_is_404(cluster):
    answer = cluster.write([({"__name__": "a"}, [START_MS], [1.0])], "nope")
    assert error_of(answer) == (404, "DatasetUnknown", "Dataset nope is not registered")


# ---- what is not there


@pytest.mark.parametrize(
    "path", ["/api/v1/targets", "/api/v1/alertmanagers", "/api/v1/rules", "/promql/timeseries/api/v1/targets", "/nope"]
)
def test_endpoints_that_are_not_served_are_404_in_json(cluster, path):
    assert error_of(cluster.get(path))[:2] == (404, "not_found")


def test_a_wrong_method_is_405_in_json(cluster):
    answer = requests.put(f"{cluster.url}/api/v1/query", timeout=30)
    assert error_of(answer)[0] == 405
    assert "GET" in answer.headers["Allow"]


def test_request_ids_come_back(cluster):
    answer = requests.get(f"{cluster.url}/api/v1/cluster", headers={"X-Request-Id": "mine-1"}, timeout=30)
    assert answer.headers["X-Request-Id"] == "mine-1"


def test_gateways_agree_after_a_setup(cluster, other):
    wait_until(
        lambda: all(cluster.get("/api/v1/cluster", g).json()["data"] == ["other", "timeseries"] for g in range(3)),
        10,
        "every gateway knows the dataset",
    )
