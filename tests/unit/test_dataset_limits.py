"""What a cluster takes: names, numbers of datasets and shards, and the keys that say so."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from filoray.cluster.config.dataset import (
    CSV_STREAM_FACTORY,
    KAFKA_STREAM_FACTORY,
    LOG_STREAM_FACTORY,
    DatasetConfig,
    check_room_for,
)
from filoray.cluster.config.dataset_name import check_dataset_name
from filoray.cluster.config.server_config import default_server_config, load_server_config
from filoray.cluster.errors import BadData, ConfigError


def dataset(name: str, num_shards: int = 4) -> DatasetConfig:
    return DatasetConfig(name, "prom-counter", num_shards, 1, LOG_STREAM_FACTORY, 1, {}, default_server_config().store)


@pytest.mark.parametrize(
    "name", ["timeseries", "prometheus_ds_1m", "a", "0", "_", "A-b", "a.b", "node", "test", "ray-metrics", "x" * 128]
)
def test_a_name_that_is_a_directorys_on_any_file_system_is_taken(name: str) -> None:
    check_dataset_name(name, ["other"])


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "...", ".hidden", "-rf", "a/b", "../a", "a\\b", "a b", "a\n", "a\0", "a\x7f", "é", "ａ", "a:b",
        "a%2fb", "trailing.", "x" * 129, "a'b", 'a"b', "a*", "~", "$HOME",
    ],
)  # fmt: skip
def test_a_name_of_other_characters_is_refused(name: str) -> None:
    with pytest.raises(BadData, match="is not a dataset name: use letters"):
        check_dataset_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "coordinator", "coordinator.db", "coordinator.db-journal", "coordinator.db-wal", "Coordinator.DB-shm",
        "coordinator.lock", "coordinator.log", "coordinator.log.1", "launch", "launch.json", "launch.part",
        "launch.lock", "ray.log", "ray", "gateway-0.log", "node-12.log", "node-0", "seed-discovery.log",
        "demo-feeder.log", "manifest.json", "auth-token", "any.db", "any.part", "any.log.2", "any.tmp", "any.LOCK",
        "con", "NUL", "com1.metrics", "lpt9",
    ],
)  # fmt: skip
def test_a_name_that_a_file_of_ours_or_a_device_has_is_refused(name: str) -> None:
    with pytest.raises(BadData, match="files of the data directory, or an operating system's devices"):
        check_dataset_name(name)


def test_a_name_that_differs_only_in_case_is_refused() -> None:
    with pytest.raises(BadData, match="there is a dataset 'metrics', which differs only in upper and lower case"):
        check_dataset_name("Metrics", ["other", "metrics"])
    check_dataset_name("metrics", ["metrics"])


def test_there_is_room_for_so_many_datasets_and_shards() -> None:
    config = default_server_config()
    limits = dataclasses.replace(config.dataset_limits, max_count=3, max_shards=20)
    cluster = dataclasses.replace(config, dataset_limits=limits)
    check_room_for(dataset("c", 8), [dataset("a"), dataset("b", 8)], cluster)
    with pytest.raises(BadData, match=r"the other datasets have 16 shards; filoray\.datasets\.max-shards allows 20"):
        check_room_for(dataset("c", 8), [dataset("a", 8), dataset("b", 8)], cluster)
    with pytest.raises(BadData, match=r"there are 3 datasets already, and filoray\.datasets\.max-count allows 3"):
        check_room_for(dataset("d", 1), [dataset("a"), dataset("b"), dataset("c")], cluster)


def test_what_is_acknowledged_in_a_database_waits_for_no_copy() -> None:
    shared = dataclasses.replace(default_server_config(), column_store_url="postgresql+psycopg://somewhere")
    warm = dataclasses.replace(dataset("a"), num_replicas=2, is_in_database=True)
    check_room_for(warm, [], shared)
    assert not warm.has_copies
    assert warm.shares_store
    with pytest.raises(BadData, match=r"min-in-sync-replicas is 2, but .* database .* leave min-in-sync-replicas at 1"):
        check_room_for(dataclasses.replace(warm, min_in_sync_replicas=2), [], shared)
    with pytest.raises(BadData, match=r"num-replicas is 2, but .* database .* leave num-replicas at 1"):
        check_room_for(dataclasses.replace(warm, source_factory=KAFKA_STREAM_FACTORY), [], shared)
    copied = dataclasses.replace(warm, is_in_database=False, min_in_sync_replicas=2)
    check_room_for(copied, [], default_server_config())
    assert copied.has_copies
    assert not copied.shares_store


def test_where_each_machine_has_its_own_files_data_sets_have_copies() -> None:
    default = default_server_config()
    node = dataclasses.replace(default.node, host="0.0.0.0", is_spread_over_machines=True)
    apart = dataclasses.replace(default, node=node)
    for factory in (LOG_STREAM_FACTORY, KAFKA_STREAM_FACTORY):
        check_room_for(dataclasses.replace(dataset("a"), num_replicas=2, source_factory=factory), [], apart)
        with pytest.raises(BadData, match=r"num-replicas is 1, .*spread-over-machines.* set num-replicas to 2") as told:
            check_room_for(dataclasses.replace(dataset("a"), source_factory=factory), [], apart)
        assert factory in told.value.message, "it is told that it may have copies"
    with pytest.raises(BadData) as told:
        check_room_for(dataclasses.replace(dataset("a"), source_factory=CSV_STREAM_FACTORY), [], apart)
    assert CSV_STREAM_FACTORY not in told.value.message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("node.spread-over-machines = true", r"node\.spread-over-machines: with host = '127\.0\.0\.1' nodes on other"),
        (
            'node { host = "0.0.0.0", spread-over-machines = true }\ncolumn-store-url = "postgresql+psycopg://u:p@h/d"',
            r"node\.spread-over-machines: with column-store-url the shards are in a database",
        ),
    ],
)
def test_machines_with_files_of_their_own_need_addresses_and_no_database_of_samples(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "server.conf"
    path.write_text(f"filoray {{ {text} }}")
    with pytest.raises(ConfigError, match=problem):
        load_server_config(path)


def test_nodes_on_machines_of_their_own_have_leases_and_a_standby_where_the_store_is_shared(tmp_path: Path) -> None:
    path = tmp_path / "server.conf"
    path.write_text('filoray.node { host = "0.0.0.0", spread-over-machines = true }')
    apart = load_server_config(path)
    assert (apart.is_bound, apart.keeps_nodes_at_home, apart.has_standby) == (False, True, False)
    assert apart.lease_ms == apart.node.lease_ms > 0
    shared = load_server_config(path, {"meta-store-url": "postgresql+psycopg://u:p@h/d"})
    assert (shared.keeps_nodes_at_home, shared.has_standby) == (True, True)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("csv-directory", "data/csv", "'data/csv' is not an absolute path"),
        ("kafka-file-properties", "[plugin.library.paths]", "'plugin.library.paths' is not one of ssl.ca.location"),
        ("kafka-file-properties", "ssl.ca.location", "is not a list"),
        ("max-count", "0", "0 is out of range"),
        ("max-shards", "many", "'many' is not a whole number"),
    ],
)
def test_a_wrong_limit_is_named(tmp_path: Path, key: str, value: str, problem: str) -> None:
    path = tmp_path / "server.conf"
    path.write_text(f"filoray.datasets.{key} = {value}")
    with pytest.raises(ConfigError, match=rf"server\.conf:1: filoray\.datasets\.{key}: .*{problem}"):
        load_server_config(path)


def test_the_limits_are_read(tmp_path: Path) -> None:
    path = tmp_path / "server.conf"
    path.write_text(
        "filoray.datasets { csv-directory = /csv, kafka-file-properties = [ssl.ca.location], max-count = 7 }"
    )
    limits = load_server_config(path).dataset_limits
    assert (limits.csv_directory, limits.kafka_file_properties) == (Path("/csv"), ("ssl.ca.location",))
    assert (limits.max_count, limits.max_shards) == (7, 2048)
    assert default_server_config().dataset_limits.csv_directory is None
