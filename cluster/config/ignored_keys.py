"""What a data set's configuration says that has no effect here: named, key by key, once, when the data set is set up.

FiloDB's files are accepted as they are, with settings of parts that filoray has not (down-sampling, Bloom filters,
Java's classes): whoever wrote one should not have to guess which of them do something, so the log names them. Of a key
that FiloDB does not know either (``unknown_keys``) whoever sets the data set up is told. One that differs from a key of
ours by no more than ``_``, ``-`` and case is meant as that, and refused (``misspelt_key``): a data set without the
copies that it should have had would look well until they are needed.

Only names are told, never values, which may be secrets. Which keys are read stands with those who read them, but for
the ingestion streams, which run on nodes: what they read of ``sourceconfig`` is here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from filoray.cluster.config.config_section import suggestion
from filoray.cluster.config.dataset_limits import KAFKA_FILE_PROPERTIES
from filoray.cluster.config.kafka_properties import ALLOWED, CONSUMER, PRODUCER
from filoray.cluster.config.setting import declared_settings
from filoray.cluster.config.store_config import StoreConfig
from filoray.cluster.units import PlainValue

_DATASET_NAMES = """
    dataset num-shards min-num-nodes num-replicas min-in-sync-replicas sourcefactory spread sourceconfig
"""
DATASET_KEYS = frozenset(_DATASET_NAMES.split())
"""Not FiloDB's ``schema``: all series are floats, and what their counters are, the queries say."""

_CSV_NAMES = """
    file header column-names batch-size separator-char timestamp-column value-column timestamp-unit
"""
CSV_KEYS = frozenset(_CSV_NAMES.split())
KAFKA_KEYS = frozenset(("filo-topic-name", "filo-kafka-servers", "bootstrap.servers", "auto.offset.reset"))
"""Beside the properties of Kafka clients."""

_KAFKA_OVERRIDDEN = frozenset(("allow.auto.create.topics", "auto.commit.interval.ms"))
"""Properties that may be set and change nothing, as no client of ours creates topics or commits by itself."""

_STORE_KEYS = frozenset(declared.key for declared in declared_settings(StoreConfig))
_KEYS_BY_PATH = sorted((*DATASET_KEYS, *(f"sourceconfig.store.{key}" for key in _STORE_KEYS)))
_TYPING_ERROR = 0.8
"""How like a key another is that its writer may have meant: most of what nobody knows is meant as itself."""
_NAMES_MAX = 100
_NAME_CHARACTERS_MAX = 100

_FILODB_NAMES = """
    schema schema-histogram kafka-host kafka-port kafka-bootstrap-servers
    sourceconfig.kafka-host sourceconfig.kafka-port sourceconfig.shutdown-ingest-after-stopped
    sourceconfig.filo-record-converter sourceconfig.record-converter sourceconfig.filo-log-config
    sourceconfig.filo-log-consumer-config sourceconfig.resource sourceconfig.noflush
    sourceconfig.acks sourceconfig.enable.auto.commit sourceconfig.partitioner.class
    sourceconfig.key.serializer sourceconfig.value.serializer
    sourceconfig.key.deserializer sourceconfig.value.deserializer
    sourceconfig.downsample.enabled sourceconfig.downsample.resolutions sourceconfig.downsample.resolutions-ms
    sourceconfig.downsample.ttls sourceconfig.downsample.raw-schema-names sourceconfig.downsample.publisher-class
    sourceconfig.downsample.enable-data-shape-stats
    sourceconfig.store.accept-duplicate-samples sourceconfig.store.clear-allocations
    sourceconfig.store.demand-paged-chunk-retention-period sourceconfig.store.demand-paging-enabled
    sourceconfig.store.demand-paging-parallelism sourceconfig.store.evicted-pk-bloom-filter-capacity
    sourceconfig.store.failure-retries sourceconfig.store.ingest-resolution-millis
    sourceconfig.store.ingestion-buffer-mem-size sourceconfig.store.max-blob-buffer-size
    sourceconfig.store.max-buffer-pool-size sourceconfig.store.metering-enabled
    sourceconfig.store.multi-partition-odp sourceconfig.store.num-block-pages
    sourceconfig.store.num-partitions-to-evict sourceconfig.store.part-index-flush-max-delay
    sourceconfig.store.part-index-flush-min-delay sourceconfig.store.retry-delay sourceconfig.store.shard-mem-percent
    sourceconfig.store.time-aligned-chunks-enabled
"""
FILODB_KEYS = frozenset(_FILODB_NAMES.split())
"""Those of FiloDB's own files and of its StoreConfig that are not ours: who has them there made no mistake."""
_FILODB_BLOCKS = ("sourceconfig.store.trace-filters.", "sourceconfig.store.active-series-redis.")

HasEffect = Callable[[str], bool]
"""Whether a stream reads that key of ``sourceconfig``, blocks' keys with dots between them."""


@dataclass(frozen=True, slots=True)
class StreamKeys:
    """What an ingestion stream reads of ``sourceconfig``. ``names``: its keys, for who misspells one."""

    names: frozenset[str]
    has_effect: HasEffect


def _kafka_key_has_effect(key: str) -> bool:
    """What may be refused is taken for allowed: a shard whose stream was refused says so itself."""
    name = key.removeprefix(CONSUMER) if key.startswith(CONSUMER) else key.removeprefix(PRODUCER)
    is_read = name in ALLOWED or name in KAFKA_FILE_PROPERTIES
    return key in KAFKA_KEYS or (is_read and name not in _KAFKA_OVERRIDDEN)


LOG_STREAM_KEYS = StreamKeys(frozenset(), lambda key: False)
CSV_STREAM_KEYS = StreamKeys(CSV_KEYS, CSV_KEYS.__contains__)
KAFKA_STREAM_KEYS = StreamKeys(KAFKA_KEYS | ALLOWED, _kafka_key_has_effect)


def misspelt_key(values: Mapping[str, PlainValue], stream: StreamKeys | None) -> tuple[str, str] | None:
    """The first key of a source configuration that is one of ours but for ``_``, ``-`` and case, and that one.

    ``stream``: that of its ``sourcefactory``; None: that is not known. Both are dotted from the top.
    """
    for key, value in values.items():
        if value is not None and (meant := _meant(key, DATASET_KEYS)):
            return key, meant
        if key == "sourceconfig" and isinstance(value, dict):
            for path, meant in _misspelt_below(value, stream):
                return f"{key}.{path}", f"{key}.{meant}"
    return None


def _misspelt_below(sourceconfig: Mapping[str, PlainValue], stream: StreamKeys | None) -> Iterator[tuple[str, str]]:
    for name, block in sourceconfig.items():
        if name == "store" and isinstance(block, dict):
            for leaf in _leaves(block):
                if meant := _meant(leaf, _STORE_KEYS):
                    yield f"{name}.{leaf}", f"{name}.{meant}"
        elif isinstance(block, dict) and _meant(name, ("store",)):
            yield name, "store"
        elif stream is not None:
            for leaf in _leaves({name: block}):
                if not stream.has_effect(leaf) and (meant := _meant(leaf, stream.names)):
                    yield leaf, meant


def _meant(key: str, known: Collection[str]) -> str:
    """The known key that differs by no more than ``_``, ``-`` and case; "" if it is right, or another one."""
    if key in known:
        return ""
    plain = _plain(key)
    return next((name for name in known if _plain(name) == plain), "")


def _plain(key: str) -> str:
    return key.replace("_", "").replace("-", "").lower()


def ignored_keys(values: Mapping[str, PlainValue], has_effect: HasEffect) -> tuple[str, ...]:
    """The keys of a source configuration that say something and have no effect, in its order; past many, how many more.

    ``has_effect``: of those below ``sourceconfig`` that its stream reads.
    """
    names = [
        name if len(name) <= _NAME_CHARACTERS_MAX else f"{name[:_NAME_CHARACTERS_MAX]}…"
        for name in _ignored(values, has_effect)
    ]
    left = len(names) - _NAMES_MAX
    return (*names[:_NAMES_MAX], f"and {left} more") if left > 0 else tuple(names)


def unknown_keys(ignored: Collection[str]) -> tuple[str, ...]:
    """Of ``ignored_keys``: a sentence for each that is none of FiloDB's, for whoever sets the data set up."""
    return tuple(
        f"{name} has no effect here{suggestion(name, _KEYS_BY_PATH, _TYPING_ERROR)}"
        for name in ignored
        if name not in FILODB_KEYS and not name.startswith(_FILODB_BLOCKS)
    )


def _ignored(values: Mapping[str, PlainValue], has_effect: HasEffect) -> Iterator[str]:
    for key, value in values.items():
        if key == "sourceconfig" and isinstance(value, dict):
            for name, block in value.items():
                if name == "store" and isinstance(block, dict):
                    yield from (f"{key}.{name}.{leaf}" for leaf in _leaves(block) if leaf not in _STORE_KEYS)
                else:
                    yield from (f"{key}.{leaf}" for leaf in _leaves({name: block}) if not has_effect(leaf))
        elif key not in DATASET_KEYS:
            yield from _leaves({key: value})


def _leaves(values: Mapping[str, PlainValue], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        elif value is not None:
            yield prefix + key


def ignored_keys_line(dataset: str, keys: tuple[str, ...]) -> str:
    """For the log of whoever sets data sets up, once for each; "" if there is nothing to say."""
    if not keys:
        return ""
    return f"keys of a data set's configuration have no effect here dataset={dataset} keys={', '.join(keys)}"
