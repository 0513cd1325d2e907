"""What a data set may ask of the cluster that holds it: the ``datasets`` block of the server's configuration.

A data set's configuration may come from anybody who may post one, so what it can make a node do (read a file, load
code, run a command) and how much of the cluster it takes is the operator's decision, made here and checked where the
text arrives and again on the node that opens the source.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from filoray.cluster.config.config_section import ConfigSection
from filoray.cluster.config.parse_budget import ParseLimits

KAFKA_FILE_PROPERTIES = (
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.crl.location",
    "ssl.key.location",
    "ssl.keystore.location",
)
"""Kafka properties that make a client read a file, and nothing worse than that: an operator may allow them."""


@dataclass(frozen=True, slots=True)
class DatasetLimits:
    """``csv_directory`` None: no data set may read a CSV file. ``conf/filoray-defaults.conf`` has the reasons."""

    csv_directory: Path | None
    kafka_file_properties: tuple[str, ...]
    max_count: int
    max_shards: int
    reading: ParseLimits
    max_concurrent_readings: int

    @property
    def reading_again(self) -> ParseLimits:
        """Of the JSON that a gateway made of a text within ``reading``: longer by its quotes."""
        return replace(self.reading, size_max=8 * self.reading.size_max, values_max=2 * self.reading.values_max)


NO_FILES = DatasetLimits(
    csv_directory=None,
    kafka_file_properties=(),
    max_count=1,
    max_shards=1,
    reading=ParseLimits(),
    max_concurrent_readings=1,
)
"""What holds where no configuration was given: no data set reads any file."""


def read_dataset_limits(section: ConfigSection) -> DatasetLimits:
    """Raises ConfigError naming key and place."""
    directory = section.optional_text("csv-directory")
    if directory is not None and not Path(directory).is_absolute():
        raise section.error("csv-directory", f"{directory!r} is not an absolute path; nodes run in other directories")
    limits = DatasetLimits(
        csv_directory=None if directory is None else Path(directory),
        kafka_file_properties=_file_properties(section),
        max_count=section.integer("max-count", minimum=1),
        max_shards=section.integer("max-shards", minimum=1),
        reading=ParseLimits(
            size_max=section.size_bytes("max-config-size", minimum=1024, maximum=64 << 20),
            values_max=section.integer("max-config-values", minimum=100),
            depth_max=section.integer("max-config-depth", minimum=8, maximum=64),
            timeout_ms=section.duration_ms("config-timeout", minimum=10),
        ),
        max_concurrent_readings=section.integer("max-concurrent-configs", minimum=1, maximum=64),
    )
    section.finish()
    return limits


def _file_properties(section: ConfigSection) -> tuple[str, ...]:
    names = section.raw("kafka-file-properties")
    if not isinstance(names, list):
        raise section.error("kafka-file-properties", f"{names!r} is not a list of Kafka properties")
    for name in names:
        if name not in KAFKA_FILE_PROPERTIES:
            raise section.error("kafka-file-properties", f"{name!r} is not one of {', '.join(KAFKA_FILE_PROPERTIES)}")
    return tuple(map(str, names))
