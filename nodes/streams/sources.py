"""The one table of ingestion streams: what a dataset's ``sourcefactory`` stands for, and who may write to it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace

from filoray.cluster.config.dataset import CSV_STREAM_FACTORY, KAFKA_STREAM_FACTORY, LOG_STREAM_FACTORY, DatasetConfig
from filoray.cluster.config.dataset_limits import NO_FILES, DatasetLimits
from filoray.nodes.streams.csv_stream import CsvStream, read_csv_source
from filoray.nodes.streams.kafka_source import read_kafka_source
from filoray.nodes.streams.kafka_stream import KafkaStream
from filoray.nodes.streams.stream import IngestionStream


class WritePath(enum.Enum):
    """What becomes of a remote write to a dataset."""

    SHARDS = "to the owners of the shards, into their logs"
    TOPIC = "to the Kafka topic that the shards read"
    REFUSED = "refused: the source is read only"


@dataclass(frozen=True, slots=True)
class _Source:
    """``open_stream`` is None where there is nothing to poll: writers push into the shard, whose log is the stream.

    ``check`` raises ConfigError for settings that cannot work. ``ask`` raises StreamFailed where the source is not
    there now; None: no copy of a shard reads it.
    """

    write_path: WritePath
    check: Callable[[DatasetConfig, DatasetLimits], object]
    open_stream: Callable[[DatasetConfig, int, int | None, DatasetLimits], IngestionStream] | None
    ask: Callable[[DatasetConfig, int, DatasetLimits], None] | None = None


def _ask_kafka(config: DatasetConfig, shard: int, limits: DatasetLimits) -> None:
    source = replace(read_kafka_source(config, limits), offset_reset="earliest")  # wherever it begins will do
    KafkaStream(source, shard, None).close()


_SOURCES = {
    LOG_STREAM_FACTORY: _Source(WritePath.SHARDS, lambda config, limits: None, None),
    KAFKA_STREAM_FACTORY: _Source(
        WritePath.TOPIC,
        read_kafka_source,
        lambda config, shard, offset, limits: KafkaStream(read_kafka_source(config, limits), shard, offset),
        _ask_kafka,
    ),
    CSV_STREAM_FACTORY: _Source(
        WritePath.REFUSED,
        read_csv_source,
        lambda config, shard, offset, limits: CsvStream(read_csv_source(config, limits), shard, offset),
    ),
}


def open_stream(
    config: DatasetConfig, shard: int, offset: int | None, limits: DatasetLimits = NO_FILES
) -> IngestionStream | None:
    """The shard's stream from behind ``offset`` (None: there is no checkpoint yet).

    None for the embedded log, which the shard itself replays when it opens. Raises ConfigError for settings that
    cannot work or may not be, StreamFailed for a source that is not there now.
    """
    source = _SOURCES[config.source_factory]
    return None if source.open_stream is None else source.open_stream(config, shard, offset, limits)


def ask_source(config: DatasetConfig, shard: int, limits: DatasetLimits = NO_FILES) -> None:
    """Whether the stream of a shard with copies can be opened here now. Raises as ``open_stream``."""
    ask = _SOURCES[config.source_factory].ask
    assert ask is not None, "its shards have no copies"
    ask(config, shard, limits)


def is_polled(config: DatasetConfig) -> bool:
    """Whether ``open_stream`` gives a stream."""
    return _SOURCES[config.source_factory].open_stream is not None


def write_path(config: DatasetConfig) -> WritePath:
    return _SOURCES[config.source_factory].write_path


def check_source(config: DatasetConfig, limits: DatasetLimits = NO_FILES) -> None:
    """Raises ConfigError that names what in ``sourceconfig`` cannot work or may not be; the source is not asked."""
    _SOURCES[config.source_factory].check(config, limits)
