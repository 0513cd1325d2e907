"""What a data set may ask of the cluster that holds it: the ``datasets`` block of the server's configuration.

A data set's configuration may come from anybody who may post one, so what it can make a node do (read a file, load
code, run a command) and how much of the cluster it takes is the operator's decision, made here and checked where the
text arrives and again on the node that opens the source.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from filoray.cluster.config.config_section import ConfigSection
from filoray.cluster.config.parse_budget import ParseLimits
from filoray.cluster.config.setting import Integer, Nested, Text

KAFKA_FILE_PROPERTIES = (
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.crl.location",
    "ssl.key.location",
    "ssl.keystore.location",
)
"""Kafka properties that make a client read a file, and nothing worse than that: an operator may allow them."""


@dataclass(frozen=True, slots=True)
class _FileProperties:
    """Names of Kafka properties, all of them of ``KAFKA_FILE_PROPERTIES``."""

    key: str

    def read(self, section: ConfigSection) -> tuple[str, ...]:
        names = section.raw(self.key)
        if not isinstance(names, list):
            raise section.error(self.key, f"{names!r} is not a list of Kafka properties")
        for name in names:
            if name not in KAFKA_FILE_PROPERTIES:
                raise section.error(self.key, f"{name!r} is not one of {', '.join(KAFKA_FILE_PROPERTIES)}")
        return tuple(map(str, names))


def _directory_problem(text: str) -> str | None:
    return None if Path(text).is_absolute() else f"{text!r} is not an absolute path; nodes run in other directories"


@dataclass(frozen=True, slots=True)
class DatasetLimits:
    """``csv_directory`` None: no data set may read a CSV file. ``conf/filoray-defaults.conf`` has the reasons."""

    csv_directory: Annotated[Path | None, Text("csv-directory", _directory_problem, convert=Path, is_optional=True)]
    kafka_file_properties: Annotated[tuple[str, ...], _FileProperties("kafka-file-properties")]
    max_count: Annotated[int, Integer("max-count", minimum=1)]
    max_shards: Annotated[int, Integer("max-shards", minimum=1)]
    reading: Annotated[ParseLimits, Nested()]
    max_concurrent_readings: Annotated[int, Integer("max-concurrent-configs", minimum=1, maximum=64)]

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
