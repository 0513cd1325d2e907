"""What a data set's configuration says that has no effect is named, and what has one is not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from filoray.cluster.config.config_section import ConfigSource
from filoray.cluster.config.dataset import (
    CSV_STREAM_FACTORY,
    KAFKA_STREAM_FACTORY,
    LOG_STREAM_FACTORY,
    DatasetConfig,
    parse_dataset_config,
    read_dataset_config,
)
from filoray.cluster.config.dataset_limits import NO_FILES
from filoray.cluster.config.ignored_keys import (
    CSV_KEYS,
    DATASET_KEYS,
    FILODB_KEYS,
    KAFKA_KEYS,
    ignored_keys_line,
    unknown_keys,
)
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.errors import ConfigError
from filoray.cluster.units import PlainValue
from filoray.nodes.streams.csv_stream import read_csv_source
from filoray.nodes.streams.kafka_source import read_kafka_source

DATA = Path(__file__).parent / "data"
CONF = Path(__file__).parents[2] / "conf"


def parsed(factory: str, more: str = "", sourceconfig: str = "") -> DatasetConfig:
    text = f'dataset = d, num-shards = 4, min-num-nodes = 2, sourcefactory = "{factory}"'
    return parse_dataset_config(f"{text}\n{more}\nsourceconfig {{ {sourceconfig} }}", "d")


def test_filodbs_file_has_many_of_them() -> None:
    config = parse_dataset_config((DATA / "kafka-source.conf").read_text(), "timeseries")
    assert set(config.ignored_keys) == {
        "schema",
        *(f"sourceconfig.{key}" for key in ("kafka-host", "kafka-port", "shutdown-ingest-after-stopped")),
        *(f"sourceconfig.downsample.{key}" for key in ("resolutions", "ttls", "raw-schema-names")),
        *(
            f"sourceconfig.store.{key}"
            for key in (
                "max-blob-buffer-size", "ingestion-buffer-mem-size", "multi-partition-odp",
                "evicted-pk-bloom-filter-capacity", "metering-enabled", "ingest-resolution-millis",
                "accept-duplicate-samples", "retry-delay",
            )
        ),
    }  # fmt: skip


def test_our_own_file_has_only_filodbs_schema() -> None:
    config = parse_dataset_config((CONF / "timeseries-dev-source.conf").read_text(), "timeseries")
    assert config.ignored_keys == ("schema",)


@pytest.mark.parametrize(
    ("factory", "more", "sourceconfig", "ignored"),
    [
        (LOG_STREAM_FACTORY, "", "", ()),
        (LOG_STREAM_FACTORY, "spread = 1, generation = 3, quotas { a = 1, b { c = 2 } }", "",
         ("generation", "quotas.a", "quotas.b.c")),
        (LOG_STREAM_FACTORY, "unset = null, none {}", "file = x, bootstrap.servers = y",
         ("sourceconfig.file", "sourceconfig.bootstrap.servers")),
        (LOG_STREAM_FACTORY, "", "store { durability = power, durable = yes, cache { size = 1 } }",
         ("sourceconfig.store.durable", "sourceconfig.store.cache.size")),
        (KAFKA_STREAM_FACTORY, "", "filo-topic-name = t, group.id = g, client.id = c, producer.linger.ms = 5", ()),
        # Read where the operator allows it; where not, the shard says so.
        (KAFKA_STREAM_FACTORY, "", "filo-topic-name = t, ssl.ca.location = /ca, consumer.ssl.key.location = /k", ()),
        (KAFKA_STREAM_FACTORY, "", "filo-topic-name = t, acks = 1, producer.acks = 1, allow.auto.create.topics = true, "
         "consumer.auto.offset.reset = latest, key.deserializer = k, filo-record-converter = r",
         ("acks", "producer.acks", "allow.auto.create.topics", "consumer.auto.offset.reset", "key.deserializer",
          "filo-record-converter")),
        (CSV_STREAM_FACTORY, "", "file = f, header = false, column-names = [a], resource = r, noflush = true",
         ("resource", "noflush")),
    ],
)  # fmt: skip
def test_they_are_named_key_by_key(factory: str, more: str, sourceconfig: str, ignored: tuple[str, ...]) -> None:
    names = {name if more or name.startswith("sourceconfig.") else f"sourceconfig.{name}" for name in ignored}
    assert set(parsed(factory, more, sourceconfig).ignored_keys) == names


def test_of_thousands_only_so_many_are_named_and_none_at_any_length() -> None:
    body = {
        "dataset": "d",
        "num-shards": 1,
        "min-num-nodes": 1,
        "sourcefactory": LOG_STREAM_FACTORY,
        "sourceconfig": {f"{i:0200}": 1 for i in range(5000)},
    }
    keys = parse_dataset_config(json.dumps(body), "d").ignored_keys
    assert (len(keys), keys[-1]) == (101, "and 4900 more")
    assert max(map(len, keys)) <= 101


@pytest.mark.parametrize(
    ("factory", "more", "sourceconfig", "line", "given", "meant"),
    [
        (LOG_STREAM_FACTORY, "num_replicas = 2", "", 2, "num_replicas", "num-replicas"),
        (LOG_STREAM_FACTORY, "numReplicas = 2", "", 2, "numReplicas", "num-replicas"),
        (LOG_STREAM_FACTORY, "num-replicas = 1\nNUM-REPLICAS = 2", "", 3, "NUM-REPLICAS", "num-replicas"),
        (LOG_STREAM_FACTORY, "min_in_sync_replicas = 2", "", 2, "min_in_sync_replicas", "min-in-sync-replicas"),
        (LOG_STREAM_FACTORY, "source_config { store {} }", "", 2, "source_config", "sourceconfig"),
        (LOG_STREAM_FACTORY, "", "store { disk_time_to_live = 7 days }", 3, "sourceconfig.store.disk_time_to_live",
         "sourceconfig.store.disk-time-to-live"),
        (LOG_STREAM_FACTORY, "", "Store { disk-time-to-live = 7 days }", 3, "sourceconfig.Store",
         "sourceconfig.store"),
        (KAFKA_STREAM_FACTORY, "", "filo_topic_name = t", 3, "sourceconfig.filo_topic_name",
         "sourceconfig.filo-topic-name"),
        (CSV_STREAM_FACTORY, "", "file = f, batchSize = 3", 3, "sourceconfig.batchSize", "sourceconfig.batch-size"),
        ("unheard.of", "num_replicas = 2", "", 2, "num_replicas", "num-replicas"),
    ],
)  # fmt: skip
def test_what_can_only_be_meant_as_a_key_of_ours_is_refused(
    factory: str, more: str, sourceconfig: str, line: int, given: str, meant: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(factory, more, sourceconfig)
    assert caught.value.message == (
        f"source configuration:{line}: {given}: there is no such key; did you mean {meant}?"
    )


def test_a_misspelt_key_is_refused_where_the_right_one_is_missed() -> None:
    with pytest.raises(ConfigError, match="num_shards: there is no such key; did you mean num-shards"):
        parse_dataset_config("dataset = d, num_shards = 4", "d")


@pytest.mark.parametrize("factory", [LOG_STREAM_FACTORY, KAFKA_STREAM_FACTORY, CSV_STREAM_FACTORY])
def test_no_key_of_filodbs_is_taken_for_a_misspelt_one_or_warned_of(factory: str) -> None:
    body: dict[str, object] = {}
    for key in FILODB_KEYS:
        block = body
        *above, last = key.split(".") if key.startswith(("sourceconfig.store", "sourceconfig.down")) else [key]
        if not above and last.startswith("sourceconfig."):
            above, last = ["sourceconfig"], last.removeprefix("sourceconfig.")
        for name in above:
            block = block.setdefault(name, {})  # type: ignore[assignment]
        block[last] = "1"
    head = {"dataset": "d", "num-shards": 4, "min-num-nodes": 2, "sourcefactory": factory}
    keys = parse_dataset_config(json.dumps(body | head), "d").ignored_keys
    assert set(keys) >= FILODB_KEYS - {"schema", "sourceconfig.resource"}
    assert unknown_keys(keys) == ()


@pytest.mark.parametrize(
    ("more", "sourceconfig", "warnings"),
    [
        ("max_in_sync = 2", "", ("max_in_sync has no effect here",)),
        ("num-replica = 2", "", ("num-replica has no effect here; did you mean num-replicas?",)),
        ("", "store { flush-intervall = 1h, trace-filters { metric = m } }",
         ("sourceconfig.store.flush-intervall has no effect here; did you mean sourceconfig.store.flush-interval?",)),
        ("schema = gauge", "downsample { ttls = [1h] }", ()),
    ],
)  # fmt: skip
def test_of_those_that_filodb_has_not_either_a_sentence_says_so(
    more: str, sourceconfig: str, warnings: tuple[str, ...]
) -> None:
    assert unknown_keys(parsed(LOG_STREAM_FACTORY, more, sourceconfig).ignored_keys) == warnings


def test_they_are_logged_in_one_line_without_values() -> None:
    lines = [
        ignored_keys_line("d", parsed(LOG_STREAM_FACTORY, "password = secret, b = 1").ignored_keys),
        ignored_keys_line("e", ()),
    ]
    assert [line for line in lines if line] == [
        "keys of a data set's configuration have no effect here dataset=d keys=password, b"
    ]


def test_they_are_not_kept_and_make_no_other_configuration() -> None:
    config = parsed(LOG_STREAM_FACTORY, "a = 1")
    assert config == parsed(LOG_STREAM_FACTORY)
    assert "ignored_keys" not in config.to_json()
    assert DatasetConfig.from_json(config.to_json()).ignored_keys == ()


class _Recording(Mapping[str, PlainValue]):
    """Remembers which keys somebody asked for by name."""

    def __init__(self, values: Mapping[str, PlainValue]) -> None:
        self._values = values
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> PlainValue:
        self.asked.add(key)
        return self._values[key]

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def test_a_data_set_reads_the_keys_that_are_said_to_have_an_effect() -> None:
    recording = _Recording({
        "dataset": "d", "num-shards": 1, "min-num-nodes": 1, "sourcefactory": LOG_STREAM_FACTORY, "sourceconfig": {},
    })  # fmt: skip
    store = default_server_config().store
    read_dataset_config(recording, "d", ConfigSource("text", ""), store, spread_default=1)
    assert recording.asked == DATASET_KEYS | {"schema"}


def test_the_csv_stream_reads_the_keys_that_are_said_to_have_an_effect(tmp_path: Path) -> None:
    recording = _Recording({"file": str(tmp_path / "f.csv")})
    config = dataclasses.replace(parsed(CSV_STREAM_FACTORY), source_config=recording)
    read_csv_source(config, dataclasses.replace(NO_FILES, csv_directory=tmp_path))
    assert recording.asked == CSV_KEYS


@pytest.mark.parametrize("key", sorted(KAFKA_KEYS))
def test_the_kafka_stream_reads_the_keys_that_are_said_to_have_an_effect(key: str) -> None:
    config = parsed(KAFKA_STREAM_FACTORY, "", "filo-topic-name = t")
    changed = dataclasses.replace(config, source_config={**config.source_config, key: "latest"})
    before, after = read_kafka_source(config), read_kafka_source(changed)
    assert dataclasses.replace(after, properties={}) != dataclasses.replace(before, properties={})
