"""The CSV stream: a finite file whose lines become samples, for trying things out and for bringing old data in.

FiloDB's keys (its CsvStreamFactory):

    file             needed; the file's path on every node's machine, below filoray.datasets.csv-directory
    header           true: the first line names the columns; false: ``column-names`` does
    column-names     list of names, where there is no header
    batch-size       lines per record container (default 100)
    separator-char   default ","

Ours beside them:

    timestamp-column   default: the first of timestamp, time, ts that there is
    value-column       default: the first of value, count that there is
    timestamp-unit     ms (default) or s, for times that are numbers; RFC 3339 texts are read as well

Every other column is a label; ``metric`` and ``_metric_`` (FiloDB's) mean ``__name__``, and an empty field means that
the series has no such label. Each shard reads the whole file and keeps the rows that are its own by the shard rule.
An offset is the number of a record's last line. A line that is not a sample is skipped; shard 0 reports it, as the
others see the same ones. Errors, which more people see than may read the file, never tell what is in it; the node's log
quotes a bad field. After the last line the shard stays Active, so that its data can be asked for; FiloDB would stop it.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.config.dataset_limits import NO_FILES, DatasetLimits
from filoray.cluster.errors import BadData, ConfigError
from filoray.cluster.units import PlainValue
from filoray.nodes.data.matching import METRIC_NAME
from filoray.nodes.data.part_key import (
    encode_part_key,
    ingestion_shard,
    part_key_hash,
    shard_key_hash,
)
from filoray.nodes.streams.confined_file import is_below, open_below
from filoray.nodes.streams.record_batches import ContainerBuilder
from filoray.nodes.streams.stream import ProblemReport, StreamBatch, StreamFailed

_BATCH_SIZE = 100
_POLL_BATCHES_MAX = 64
_TIMESTAMP_NAMES = ("timestamp", "time", "ts")
_VALUE_NAMES = ("value", "count")
_METRIC_NAMES = ("metric", "_metric_", METRIC_NAME)
_TIMESTAMP_UNITS_MS = {"ms": 1, "s": 1000}
_INT64_MAX = 2**63 - 1
_LINE_CHARACTERS_MAX = 1 << 20  # a file without line ends may not fill the node's memory
_COUNTED_BYTES = 1 << 20
_QUOTED_CHARACTERS = 40  # of a field, in the node's own log


@dataclass(frozen=True, slots=True)
class CsvSource:
    """``column_names`` is None where the file has a header. ``directory``: what ``file`` must be below."""

    dataset: str
    num_shards: int
    spread: int
    file: Path
    directory: Path
    column_names: tuple[str, ...] | None
    batch_size: int
    separator: str
    timestamp_column: str | None
    value_column: str | None
    timestamp_unit_ms: int


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where what is in a record. ``labels``: (index, label name)."""

    count: int
    timestamp: int
    value: int
    labels: tuple[tuple[int, str], ...]


def read_csv_source(config: DatasetConfig, limits: DatasetLimits = NO_FILES) -> CsvSource:
    """Raises ConfigError naming the key."""
    given = config.source_config

    def wrong(key: str, reason: str) -> ConfigError:
        return ConfigError(f"dataset {config.name}: sourceconfig.{key} {reason}")

    if "file" not in given:
        if "resource" in given:
            raise wrong("resource", "names a file on Java's class path, which filoray has not; use file")
        raise wrong("file", "is missing: name the CSV file")
    file, directory = Path(str(given["file"])), limits.csv_directory
    if directory is None:
        raise wrong(
            "file", "is refused: CSV files are read only below filoray.datasets.csv-directory, which is not set"
        )
    if "\0" in str(file) or not is_below(file, directory):
        raise wrong("file", f"is {str(file)!r}, which is not below filoray.datasets.csv-directory, {directory}")
    header = _boolean(given.get("header", True))
    if header is None:
        raise wrong("header", f"is {given['header']!r}; use true or false")
    names = given.get("column-names")
    if not header and not (isinstance(names, list) and names):
        raise wrong("column-names", "is missing: a file without a header needs the list of its columns")
    batch_size = given.get("batch-size", _BATCH_SIZE)
    if not str(batch_size).isdecimal() or not 1 <= int(str(batch_size)) <= 100_000:
        raise wrong("batch-size", f"is {batch_size!r}; use 1 to 100000 lines")
    separator = given.get("separator-char", ",")
    if not isinstance(separator, str) or len(separator) != 1 or separator in '"\r\n\0':
        raise wrong("separator-char", f"is {separator!r}; use one character, and neither a quote nor a line's end")
    unit = str(given.get("timestamp-unit", "ms"))
    if unit not in _TIMESTAMP_UNITS_MS:
        raise wrong("timestamp-unit", f"is {unit!r}; use ms or s")
    return CsvSource(
        config.name,
        config.num_shards,
        config.spread,
        file,
        directory,
        None if header else tuple(map(str, names)) if isinstance(names, list) else None,
        int(str(batch_size)),
        separator,
        _optional_text(given.get("timestamp-column")),
        _optional_text(given.get("value-column")),
        _TIMESTAMP_UNITS_MS[unit],
    )


class CsvStream:
    """See IngestionStream. ``offset``: number of the last line that is not wanted again.

    The constructor raises StreamFailed if the file is not there, has no such columns or is shorter than ``offset``.
    """

    def __init__(self, source: CsvSource, shard: int, offset: int | None) -> None:
        self._source = source
        self._shard = shard
        self._ended = False
        self._end: int | None = None
        self.position = 0
        self.problems = ProblemReport(f"dataset {source.dataset} shard {shard}")
        descriptor = open_below(source.file, source.directory)
        self._file = open(descriptor, newline="", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
        try:
            self._reader = csv.reader(self._lines(), delimiter=source.separator, strict=True)
            self._columns = self._read_columns()
            self._skip_to(offset or 0)
        except BaseException:
            self._file.close()
            raise

    def poll(self, timeout_ms: int) -> Sequence[StreamBatch]:
        deadline_s = time.monotonic() + timeout_ms / 1000
        batches: list[StreamBatch] = []
        while not self._ended and len(batches) < _POLL_BATCHES_MAX and (not batches or time.monotonic() < deadline_s):
            if batch := self._next_batch(deadline_s):
                batches.append(batch)
            elif time.monotonic() >= deadline_s:
                break
        return batches

    def end_offset(self) -> int | None:
        """Lines of the file; it is counted once."""
        if self._end is None:
            count, last = 0, b"\n"
            try:
                with open(open_below(self._source.file, self._source.directory), "rb") as file:
                    while block := file.read(_COUNTED_BYTES):
                        count, last = count + block.count(b"\n"), block[-1:]
                self._end = count + (last != b"\n")
            except OSError as error:
                raise StreamFailed(f"{self._source.file}: {error.strerror or error}") from error
        return self._end or None

    def known_end(self) -> int | None:
        """The lines that were counted when the shard was opened."""
        return self._end or None

    @property
    def ended(self) -> bool:
        return self._ended

    def commit(self, offset: int) -> None:
        """A file needs no word of that."""

    def close(self) -> None:
        self._file.close()

    def _lines(self) -> Iterator[str]:
        while line := self._file.readline(_LINE_CHARACTERS_MAX + 1):
            if len(line) > _LINE_CHARACTERS_MAX:
                raise StreamFailed(
                    f"{self._source.file}: line {self._reader.line_num + 1} is longer than {_LINE_CHARACTERS_MAX}"
                )
            yield line

    def _next_batch(self, deadline_s: float) -> StreamBatch | None:
        """Lines until the batch is full, the file ends or time is up."""
        builder = ContainerBuilder()
        while builder.sample_count < self._source.batch_size:
            record = self._next_record()
            if record is None:
                self._ended = True
                break
            self._add(record, builder)
            if self._reader.line_num % 1024 == 0 and time.monotonic() >= deadline_s:
                break
        if not builder.sample_count:
            return None
        return StreamBatch(builder.take().encode(), self.position)

    def _next_record(self) -> list[str] | None:
        while True:
            try:
                record = next(self._reader, None)
            except csv.Error as error:
                self.position = self._reader.line_num
                self._problem(str(error))
                continue
            except OSError as error:
                raise StreamFailed(f"{self._source.file}: {error.strerror or error}") from error
            self.position = max(self.position, self._reader.line_num)
            if record != []:  # an empty line
                return record

    def _add(self, record: list[str], builder: ContainerBuilder) -> None:
        columns = self._columns
        try:
            if len(record) != columns.count:
                raise BadData(f"{len(record)} fields where there are {columns.count} columns")
            labels = {name: record[index] for index, name in columns.labels if record[index]}
            if METRIC_NAME not in labels:
                raise BadData("no metric name")
            part_key = encode_part_key(labels)
            timestamp_ms = self._timestamp_ms(record[columns.timestamp])
            value = _value(record[columns.value])
        except BadData as error:
            self._problem(error.message)
            return
        _, low = part_key_hash(part_key)
        source = self._source
        if ingestion_shard(shard_key_hash(labels), low, source.num_shards, source.spread) == self._shard:
            builder.add(part_key, timestamp_ms, value)

    def _problem(self, reason: str) -> None:
        if self._shard == 0:
            self.problems.add(f"{self._source.file} line {self._reader.line_num}", reason)

    def _timestamp_ms(self, text: str) -> int:
        try:
            number = int(text) if text.lstrip("-").isdecimal() else float(text)
        except ValueError:
            number = _rfc3339_ms(text) / self._source.timestamp_unit_ms
        timestamp_ms = number * self._source.timestamp_unit_ms
        if not -_INT64_MAX <= timestamp_ms <= _INT64_MAX:  # also False for NaN
            raise BadData(f"the time {text[:_QUOTED_CHARACTERS]!r} is out of range")
        return round(timestamp_ms)

    def _read_columns(self) -> _Columns:
        source = self._source
        names = source.column_names
        if names is None:
            header = self._next_record()
            if header is None:
                raise StreamFailed(f"{source.file}: it is empty; a header was expected")
            names = tuple(name.strip().removeprefix("\ufeff") for name in header)
        timestamp = self._column(names, "timestamp-column", source.timestamp_column, _TIMESTAMP_NAMES)
        value = self._column(names, "value-column", source.value_column, _VALUE_NAMES)
        labels = tuple(
            (index, METRIC_NAME if name in _METRIC_NAMES else name)
            for index, name in enumerate(names)
            if index not in (timestamp, value)
        )
        if len({name for _, name in labels}) != len(labels):
            raise StreamFailed(f"{source.file}: a column comes twice among its {len(names)}")
        return _Columns(len(names), timestamp, value, labels)

    def _column(self, names: Sequence[str], key: str, chosen: str | None, usual: Sequence[str]) -> int:
        for name in usual if chosen is None else [chosen]:
            if name in names:
                return names.index(name)
        wanted = repr(chosen) if chosen is not None else f"none of {', '.join(usual)}"
        raise StreamFailed(
            f"{self._source.file}: {wanted} is among its {len(names)} columns; set sourceconfig.{key}"
            if chosen is None
            else f"{self._source.file}: sourceconfig.{key} {wanted} is not among its {len(names)} columns"
        )

    def _skip_to(self, line: int) -> None:
        while self.position < line:
            if self._next_record() is None:
                if self.position < line:
                    raise StreamFailed(
                        f"{self._source.file}: it has {self.position} lines, but {line} were read before"
                    )
                self._ended = True


def _value(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadData(f"the value {text[:_QUOTED_CHARACTERS]!r} is not a number") from None


def _rfc3339_ms(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadData(f"the time {text[:_QUOTED_CHARACTERS]!r} is neither a number nor RFC 3339") from None
    if moment.tzinfo is None:
        raise BadData(f"the time {text[:_QUOTED_CHARACTERS]!r} has no time zone")
    return moment.timestamp() * 1000


def _boolean(value: PlainValue) -> bool | None:
    return {"true": True, "false": False}.get(str(value).lower())


def _optional_text(value: PlainValue) -> str | None:
    return None if value is None else str(value)
