from __future__ import annotations

import json
from pathlib import Path

import pytest

from filoray.cluster.config.dataset import (
    CSV_STREAM_FACTORY,
    KAFKA_STREAM_FACTORY,
    LOG_STREAM_FACTORY,
    SOURCE_FACTORIES,
    DatasetConfig,
    parse_dataset_config,
)
from filoray.cluster.errors import BadData, ConfigError

DATA = Path(__file__).parent / "data"
CONF = Path(__file__).parents[2] / "conf"
MINIMAL = {
    "dataset": "metrics",
    "num-shards": 8,
    "min-num-nodes": 3,
    "sourcefactory": SOURCE_FACTORIES[0],
    "sourceconfig": {},
}


def _without(key: str) -> str:
    return json.dumps({name: value for name, value in MINIMAL.items() if name != key})


def _with(**changes: object) -> str:
    return json.dumps(MINIMAL | {key.replace("_", "-"): value for key, value in changes.items()})


def test_a_source_configuration_in_filodbs_words_parses_as_it_is() -> None:
    config = parse_dataset_config((DATA / "kafka-source.conf").read_text(), "timeseries")
    assert (config.num_shards, config.min_num_nodes, config.shards_per_node_max) == (4, 2, 2)
    assert config.source_config["bootstrap"] == {"servers": "localhost:9092"}
    assert config.source_config["filo-topic-name"] == "timeseries-dev"
    assert config.store.flush_interval_ms == 3_600_000
    assert config.store.disk_time_to_live_ms == 86_400_000
    assert config.store.shard_mem_bytes == 512_000_000
    assert config.store.max_data_per_shard_query_bytes == 50_000_000
    assert config.store.max_chunk_time_ms is None


def test_posted_text_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILORAY_TEST_KAFKA_PORT", "19092")
    config = parse_dataset_config((DATA / "kafka-source.conf").read_text(), "timeseries")
    assert config.source_config["bootstrap"] == {"servers": "localhost:9092"}
    with pytest.raises(ConfigError) as caught:
        parse_dataset_config("dataset = ${PATH}", "timeseries")
    assert caught.value.message == (
        "source configuration:1:11: ${PATH} cannot be resolved: there is no such key, "
        "and posted text reads no environment"
    )


def test_an_unset_optional_substitution_keeps_the_earlier_value_at_the_top_too() -> None:
    text = "port = 9092\nport=${?FILORAY_TEST_UNSET}\nport=${?FILORAY_TEST_UNSET_TOO}\n"
    text += 'sourceconfig { servers = "localhost:"${port} }\ndataset=a\nnum-shards=1\nmin-num-nodes=1\n'
    text += f'sourcefactory="{SOURCE_FACTORIES[0]}"'
    assert parse_dataset_config(text, "a").source_config == {"servers": "localhost:9092"}


def test_our_own_source_file_parses() -> None:
    config = parse_dataset_config((CONF / "timeseries-dev-source.conf").read_text(), "timeseries")
    assert config.source_factory == "filoray.nodes.streams.LogStreamFactory"


def test_json_and_hocon_say_the_same() -> None:
    hocon = """
    dataset = metrics, num-shards = 8
    min-num-nodes: 3
    sourcefactory = "%s"
    sourceconfig { }
    """
    assert parse_dataset_config(hocon % SOURCE_FACTORIES[0], "metrics") == parse_dataset_config(_with(), "metrics")


def test_what_the_metastore_keeps_reads_back() -> None:
    config = parse_dataset_config((DATA / "kafka-source.conf").read_text(), "timeseries")
    assert DatasetConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("key", MINIMAL)
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}: this key is needed and missing"):
        parse_dataset_config(_without(key), "metrics")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (_with(num_shards=6), "num-shards: 6 is not a power of two"),
        (_with(num_shards=0), "num-shards: 0 is out of range"),
        (_with(num_shards=131072), "num-shards: 131072 is out of range"),
        (_with(num_shards="four"), "num-shards: 'four' is not a whole number"),
        (_with(num_shards=True), "num-shards: True is not a whole number"),
        (_with(min_num_nodes=0), "min-num-nodes: 0 is out of range"),
        (_with(dataset="other"), "dataset: 'other' is not the dataset of the path, 'metrics'"),
        (_with(spread=4), "spread: 4 is out of range"),
        (_with(sourcefactory="no.such.Factory"), "sourcefactory: 'no.such.Factory' is not known; use one of filoray"),
        (_with(sourceconfig="none"), "sourceconfig: 'none' is not a block"),
        (_with(sourceconfig={"store": {"flush-interval": "soon"}}), "sourceconfig.store.flush-interval: 'soon' is not"),
        (_with(sourceconfig={"store": {"shard-mem-size": "5 XB"}}), "shard-mem-size: '5 XB' has the unknown unit 'XB'"),
        (_with(sourceconfig={"store": {"durability": "proces"}}), "did you mean process?"),
        (
            _with(num_replicas=2, sourcefactory=CSV_STREAM_FACTORY),
            "num-replicas: 2 copies are kept of what .* a file that every node can read .* leave num-replicas at 1",
        ),
        (_with(num_replicas=2, min_in_sync_replicas=3), "min-in-sync-replicas: 3 is more than num-replicas = 2"),
        ("[1, 2]", "not a list"),
        ("dataset = metrics\nnum-shards = {", r"source configuration:2:\d+: cannot be parsed"),
        ('{"dataset": "metrics",', "cannot be parsed"),
        ("a = ${FILORAY_TEST_NOT_SET}", "FILORAY_TEST_NOT_SET"),
        ("", "dataset: this key is needed and missing"),
        ("x" * 2_000_000, "longer than"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        parse_dataset_config(text, "metrics")
    assert caught.value.http_status == 400


@pytest.mark.parametrize("factory", [LOG_STREAM_FACTORY, KAFKA_STREAM_FACTORY])
def test_shards_that_are_written_to_or_fed_by_kafka_may_have_copies(factory: str) -> None:
    config = parse_dataset_config(_with(num_replicas=3, min_in_sync_replicas=2, sourcefactory=factory), "metrics")
    assert (config.has_copies, config.num_replicas, config.min_in_sync_replicas) == (True, 3, 2)


def test_the_line_of_a_wrong_key_is_named() -> None:
    text = "dataset = a\n# num-shards\nnum-shards = 3\nmin-num-nodes = 1\nsourcefactory = x\nsourceconfig {}"
    with pytest.raises(ConfigError, match=r"^source configuration:3: num-shards"):
        parse_dataset_config(text, "a")


@pytest.mark.parametrize(
    "line",
    ['include "/etc/passwd"', 'include required(file("x"))', 'a { include classpath("x") }', 'a = [{include"x"}]'],
)
def test_text_from_the_network_may_not_include(line: str) -> None:
    with pytest.raises(ConfigError, match="include is not allowed here"):
        parse_dataset_config(f"dataset = a\n{line}", "a")


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a b", "é", "x" * 200])
def test_names_that_are_no_directory_names_are_refused(name: str) -> None:
    with pytest.raises(BadData, match="not a dataset name"):
        parse_dataset_config(_with(dataset=name), name)


@pytest.mark.parametrize("name", ["5d", "007", "1e3", "1.10", "1", "true", "10m", "0x1f"])
def test_a_name_that_looks_like_a_number_keeps_its_characters(name: str) -> None:
    text = f"dataset = {name}, schema = {name}, num-shards = 04, min-num-nodes = 1.0, sourceconfig {{ topic = {name} }}"
    config = parse_dataset_config(f"{text}\nsourcefactory = {SOURCE_FACTORIES[0]}", name)
    assert (config.name, config.schema) == (name, name)
    assert (config.num_shards, config.min_num_nodes) == (4, 1)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("16m", 16 << 20), ("16M", 16 << 20), ("16 Mi", 16 << 20), ("16MiB", 16 << 20), ("16 MB", 16_000_000),
        ("2g", 2 << 30), ("1PB", 10**15), ("1p", 1 << 50), ("1EiB", 1 << 60), ("1E", 1 << 60), ("1 EB", 10**18),
        ("2048k", 2 << 20), ("2048 kibibytes", 2 << 20), ("2000000", 2_000_000), ("2e6", 2_000_000),
        ("2000kB", 2_000_000), ("1.5 gibibytes", 3 << 29), ('"16m"', 16 << 20),
    ],
)  # fmt: skip
def test_sizes_unquoted_are_those_of_typesafe_config(size: str, expected: int) -> None:
    text = f"dataset = a, num-shards = 1, min-num-nodes = 1, sourcefactory = {SOURCE_FACTORIES[0]}"
    config = parse_dataset_config(f"{text}\nsourceconfig.store.shard-mem-size = {size}", "a")
    assert config.store.shard_mem_bytes == expected


def test_json_with_a_key_twice_loses_nothing() -> None:
    text = _with(sourceconfig={"store": {"flush-interval": "2m"}})
    text = text[:-1] + ', "sourceconfig": {"store": {"groups-per-shard": 7}}}'
    store = parse_dataset_config(text, "metrics").store
    assert (store.flush_interval_ms, store.groups_per_shard) == (120_000, 7)
