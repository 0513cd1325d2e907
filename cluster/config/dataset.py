"""A dataset's configuration: FiloDB's ingestion source configuration, checked and typed.

In: the body of ``POST /api/v1/cluster/{dataset}`` or a ``conf/*-source.conf`` file, HOCON or JSON. Out: DatasetConfig.
Keys that filoray does not use are named and not refused, because FiloDB's files must parse as they are, unless they can
only be meant as one of ours (``ignored_keys.py``); what we do read is checked with key and place. Streams read their
own settings from ``source_config``.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from filoray.cluster.config.config_section import ConfigSection, ConfigSource, merge
from filoray.cluster.config.dataset_name import check_dataset_name
from filoray.cluster.config.hocon import parse_posted
from filoray.cluster.config.ignored_keys import (
    CSV_STREAM_KEYS,
    KAFKA_STREAM_KEYS,
    LOG_STREAM_KEYS,
    StreamKeys,
    ignored_keys,
    misspelt_key,
)
from filoray.cluster.config.parse_budget import ParseBudget, ParseLimits
from filoray.cluster.config.server_config import ServerConfig, default_server_config
from filoray.cluster.config.setting import as_keys, read_known_settings
from filoray.cluster.config.store_config import StoreConfig
from filoray.cluster.errors import BadData
from filoray.cluster.units import PlainValue

LOG_STREAM_FACTORY = "filoray.nodes.streams.LogStreamFactory"
KAFKA_STREAM_FACTORY = "filodb.kafka.KafkaIngestionStreamFactory"
CSV_STREAM_FACTORY = "filodb.coordinator.sources.CsvStreamFactory"
_SOURCES: Mapping[str, StreamKeys] = {
    LOG_STREAM_FACTORY: LOG_STREAM_KEYS,
    KAFKA_STREAM_FACTORY: KAFKA_STREAM_KEYS,
    CSV_STREAM_FACTORY: CSV_STREAM_KEYS,
}
"""With what each reads of ``sourceconfig``."""
SOURCE_FACTORIES = tuple(_SOURCES)
"""Known ingestion streams by the names FiloDB and filoray give them. A node whose stream cannot run says why."""

MAX_SHARDS = 65_536
"""Far more than ``datasets.max-shards`` allows by default."""
NUM_REPLICAS_MAX = 16
"""More copies than anybody keeps; each write waits for all of them that are in sync."""
_DEFAULT_SCHEMA = "prom-counter"


@dataclass(frozen=True, slots=True)
class DatasetConfig:
    """One dataset. ``num_shards`` is a power of two; ``spread`` is at most its logarithm.

    ``generation``: how many datasets of that name there were before; given when it is set up, never by its source.

    ``num_replicas``: copies of each shard, on different nodes. ``min_in_sync_replicas``: how many must have
    all that is acknowledged, or writes are refused. ``is_in_database``: its shards are in a database that all nodes
    reach, so the copies are what nodes have in memory.

    ``cluster_id``: of the cluster that set it up, given then as ``generation`` is; "" by an earlier release.

    ``source_config``: the ``sourceconfig`` block as plain JSON values, for the stream named by ``source_factory``.

    ``ignored_keys``: what its source says that has no effect; known when it is set up, not kept.
    """

    name: str
    schema: str
    num_shards: int
    min_num_nodes: int
    source_factory: str
    spread: int
    source_config: Mapping[str, PlainValue]
    store: StoreConfig
    generation: int = 0
    num_replicas: int = 1
    min_in_sync_replicas: int = 1
    is_in_database: bool = False
    cluster_id: str = ""
    ignored_keys: tuple[str, ...] = field(default=(), compare=False)

    @property
    def storage_name(self) -> str:
        """What its files and rows are kept under: no dataset set up later under its name has the same."""
        return storage_name(self.name, self.generation)

    @property
    def has_copies(self) -> bool:
        """Then each node keeps what it has of the dataset under a directory of its own."""
        return self.num_replicas > 1 and not self.is_in_database

    @property
    def shares_store(self) -> bool:
        """Then any node may open any shard of it, where whoever had it before left off."""
        return not self.has_copies

    @property
    def is_replicated(self) -> bool:
        """Whether other nodes than a shard's owner follow it at all times: with files of their own, or warm."""
        return self.num_replicas > 1

    @property
    def moves_warmly(self) -> bool:
        """Whether a node can follow a shard without files of its own: what makes it is what is written to filoray."""
        return self.shares_store and self.source_factory == LOG_STREAM_FACTORY

    @property
    def shards_per_node_max(self) -> int:
        """A node's capacity: ceil(num_shards / min_num_nodes), FiloDB's rule; of copies, so many times as many."""
        return min(self.num_shards, -(-self.num_shards * self.num_replicas // self.min_num_nodes))

    @property
    def owned_per_node_max(self) -> int:
        """How many shards a node may own. Where others follow, who leads is who is in sync."""
        return self.num_shards if self.is_replicated else self.shards_per_node_max

    def to_json(self) -> str:
        """The form the MetaStore keeps."""
        values = dataclasses.asdict(self)
        del values["ignored_keys"]
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> DatasetConfig:
        """Read ``to_json`` back; a store setting that came later than the text has its default."""
        values = json.loads(text)
        store = {**dataclasses.asdict(default_server_config().store), **values.pop("store")}
        known = {field.name for field in dataclasses.fields(StoreConfig)}
        return cls(**values, store=StoreConfig(**{key: value for key, value in store.items() if key in known}))


def storage_name(name: str, generation: int) -> str:
    """``name``, and for all but the first of that name ``name@generation``."""
    return name if generation == 0 else f"{name}@{generation}"


def parse_storage_name(text: str) -> tuple[str, int] | None:
    """Dataset and generation; None for what is no storage name."""
    name, separator, generation = text.partition("@")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) or (
        separator and not re.fullmatch(r"[1-9][0-9]{0,17}", generation)
    ):
        return None
    return name, int(generation or 0)


def parse_dataset_config(
    text: str,
    path_name: str,
    *,
    store_defaults: StoreConfig | None = None,
    spread_default: int = 1,
    place: str = "source configuration",
    limits: ParseLimits | None = None,
) -> DatasetConfig:
    """Check a source configuration, HOCON or JSON, for the dataset named ``path_name`` (that of the URL).

    Raises ConfigError (HTTP 400) naming the key and line, or where the text does not parse; BadData for the name.
    """
    check_dataset_name(path_name)
    values = parse_posted(text, ParseBudget(place, limits or ParseLimits()))
    source = ConfigSource(place, text)
    return read_dataset_config(
        values, path_name, source, store_defaults or default_server_config().store, spread_default
    )


def parse_for_cluster(config: ServerConfig, name: str, text: str) -> DatasetConfig:
    """What an operator posted, by the defaults and limits of that cluster. Raises as ``parse_dataset_config`` does."""
    read = parse_dataset_config(
        text,
        name,
        store_defaults=config.store,
        spread_default=config.spread_default,
        limits=config.dataset_limits.reading_again,
    )
    return dataclasses.replace(read, is_in_database=config.column_store_url is not None)


def read_dataset_config(
    values: Mapping[str, PlainValue],
    path_name: str,
    source: ConfigSource,
    store_defaults: StoreConfig,
    spread_default: int,
) -> DatasetConfig:
    """Check the values of a source configuration for the dataset named ``path_name``.

    Needed: dataset (equal to ``path_name``), num-shards (a power of two), min-num-nodes, sourcefactory, sourceconfig.
    May be given: spread, num-replicas, min-in-sync-replicas.

    Raises ConfigError (HTTP 400) naming the key and line, BadData for the name.
    """
    check_dataset_name(path_name)
    section = ConfigSection(values, "", [source])
    if misspelt := misspelt_key(values, _SOURCES.get(str(values.get("sourcefactory")))):
        raise section.error(misspelt[0], f"there is no such key; did you mean {misspelt[1]}?")
    if (name := section.text("dataset")) != path_name:
        raise section.error("dataset", f"{name!r} is not the dataset of the path, {path_name!r}")
    num_shards = section.integer("num-shards", minimum=1, maximum=MAX_SHARDS)
    if num_shards & (num_shards - 1):
        raise section.error("num-shards", f"{num_shards} is not a power of two")
    source_factory = section.text("sourcefactory")
    if source_factory not in SOURCE_FACTORIES:
        raise section.error(
            "sourcefactory", f"{source_factory!r} is not known; use one of {', '.join(SOURCE_FACTORIES)}"
        )
    source_config = section.section("sourceconfig")
    plain = section.raw("sourceconfig")
    assert isinstance(plain, dict), "section() above made sure"
    spread_max = num_shards.bit_length() - 1
    num_replicas, min_in_sync = _replicas(section, source_factory)
    return DatasetConfig(
        name=name,
        schema=section.text("schema") if section.has("schema") else _DEFAULT_SCHEMA,
        num_shards=num_shards,
        min_num_nodes=section.integer("min-num-nodes", minimum=1, maximum=256),
        source_factory=source_factory,
        spread=section.integer("spread", maximum=spread_max)
        if section.has("spread")
        else min(spread_default, spread_max),
        source_config=plain,
        store=_store(source_config, store_defaults, source),
        num_replicas=num_replicas,
        min_in_sync_replicas=min_in_sync,
        ignored_keys=ignored_keys(values, _SOURCES[source_factory].has_effect),
    )


def _replicas(section: ConfigSection, source_factory: str) -> tuple[int, int]:
    """How many copies there are of each shard, and how many must have what is acknowledged."""
    count, least = (
        section.integer(key, minimum=1, maximum=NUM_REPLICAS_MAX) if section.has(key) else 1
        for key in ("num-replicas", "min-in-sync-replicas")
    )
    if least > count:
        raise section.error("min-in-sync-replicas", f"{least} is more than num-replicas = {count}")
    if count > 1 and source_factory == CSV_STREAM_FACTORY:
        raise section.error(
            "num-replicas",
            f"{count} copies are kept of what is written to filoray or to Kafka. The samples of {source_factory} are "
            "in a file that every node can read again to take a shard over; leave num-replicas at 1",
        )
    return count, least


def check_room_for(config: DatasetConfig, others: Sequence[DatasetConfig], cluster: ServerConfig) -> None:
    """Raises BadData where ``cluster``, which has the data sets ``others``, takes no such data set beside them."""
    limits = cluster.dataset_limits
    check_dataset_name(config.name, [other.name for other in others])
    if config.is_in_database and config.min_in_sync_replicas > 1:
        raise BadData(
            f"dataset {config.name}: min-in-sync-replicas is {config.min_in_sync_replicas}, but the shards of this "
            "cluster are in a database that all nodes reach (filoray.column-store-url): what is acknowledged is there, "
            "and no other node has to have it; leave min-in-sync-replicas at 1"
        )
    if config.is_in_database and config.is_replicated and config.source_factory != LOG_STREAM_FACTORY:
        raise BadData(
            f"dataset {config.name}: num-replicas is {config.num_replicas}, but the shards of this cluster are in a "
            "database that all nodes reach (filoray.column-store-url), and what is not there yet is in the stream of "
            f"{config.source_factory}: no node can keep it warm for another; leave num-replicas at 1"
        )
    if cluster.keeps_nodes_at_home and not config.has_copies:
        raise BadData(
            f"dataset {config.name}: num-replicas is 1, but each node of this cluster keeps what it has on a machine "
            "of its own (filoray.node.spread-over-machines), so one lost machine would be lost samples: set "
            "num-replicas to 2 or more, which is for what is written to filoray or to Kafka (sourcefactory = "
            f"{LOG_STREAM_FACTORY} or {KAFKA_STREAM_FACTORY})"
        )
    if len(others) >= limits.max_count:
        raise BadData(
            f"dataset {config.name}: there are {len(others)} datasets already, and filoray.datasets.max-count allows "
            f"{limits.max_count}"
        )
    taken = sum(other.num_shards for other in others)
    if taken + config.num_shards > limits.max_shards:
        raise BadData(
            f"dataset {config.name}: num-shards is {config.num_shards} and the other datasets have {taken} shards; "
            f"filoray.datasets.max-shards allows {limits.max_shards} in all"
        )


def _store(source_config: ConfigSection, defaults: StoreConfig, source: ConfigSource) -> StoreConfig:
    """The ``store`` block over the server's defaults."""
    given = source_config.raw("store") if source_config.has("store") else {}
    if not isinstance(given, dict):
        raise source_config.error("store", f"{given!r} is not a block of keys {{ … }}")
    complete = as_keys(defaults)
    if "flush-interval" in given:
        complete["max-chunk-time"] = None  # that of the defaults may be too short for it
    return read_known_settings(StoreConfig, ConfigSection(merge(complete, given), "sourceconfig.store", [source]))
