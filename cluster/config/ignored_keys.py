"""What a data set's configuration says that has no effect here: named, key by key, once, when the data set is set up.

FiloDB's files are accepted as they are, with settings of parts that filoray has not (down-sampling, Bloom filters,
Java's classes): whoever wrote one should not have to guess which of them do something. Only names are told, never
values, which may be secrets. Which keys are read stands with those who read them, but for the ingestion streams, which
run on nodes: what they read of ``sourceconfig`` is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

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
_NAMES_MAX = 100
_NAME_CHARACTERS_MAX = 100

HasEffect = Callable[[str], bool]
"""Whether a stream reads that key of ``sourceconfig``, blocks' keys with dots between them."""


def no_key_has_effect(key: str) -> bool:
    return False


def csv_key_has_effect(key: str) -> bool:
    return key in CSV_KEYS


def kafka_key_has_effect(key: str) -> bool:
    """What may be refused is taken for allowed: a shard whose stream was refused says so itself."""
    name = key.removeprefix(CONSUMER) if key.startswith(CONSUMER) else key.removeprefix(PRODUCER)
    is_read = name in ALLOWED or name in KAFKA_FILE_PROPERTIES
    return key in KAFKA_KEYS or (is_read and name not in _KAFKA_OVERRIDDEN)


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
