"""OpenMetrics text, written and read line by line, for series of any age and any number.

    metric{label="value"} 1.5 1700000000.123        seconds since 1970; "# EOF" ends the text
    {"metric.with.dots",label="value"} 1.5 1700000000

https://prometheus.io/docs/specs/om/open_metrics_spec/, and for names in quotes Prometheus's
https://github.com/prometheus/proposals/blob/main/proposals/0028-utf8.md. Samples of a series stand together. Types and
helps are not written and not needed; exemplars are passed over. A staleness marker cannot be written in text (it is a
NaN like any other there), so it is left out and counted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TextIO

import numpy as np

from filoray.cluster.errors import BadData
from filoray.command.tsdb.series_blocks import BlockBuilder
from filoray.nodes.data.matching import METRIC_NAME
from filoray.nodes.data.series_batch import STALE_NAN_BITS, SeriesBatch
from filoray.nodes.streams.stream import ProblemReport

_LEGACY_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LEGACY_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_LINE = re.compile(
    r'(?P<name>[^\s{"#]*)(?:\{(?P<labels>(?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?'
    r"[ \t]+(?P<value>[^\s_]+)(?:[ \t]+(?P<time>[^\s_#]+))?(?:[ \t]+#[ \t].*)?[ \t]*"
)
_LABEL = re.compile(
    r'\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s=",]+))\s*(?:=\s*"(?P<value>(?:[^"\\]|\\.)*)"\s*)?(?:,|$)'
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_UNESCAPED = {"n": "\n", "\\": "\\", '"': '"'}
_INT64_MAX = 2**63 - 1
_EXACT_S = 2**53 / 1000


def write_open_metrics(batches: Iterable[SeriesBatch], file: TextIO) -> tuple[int, int]:
    """Write all samples and the end mark. Returns the samples written and the staleness markers left out."""
    written = left_out = 0
    for batch in batches:
        stale = batch.values.view(np.uint64) == STALE_NAN_BITS
        times, values, kept = batch.timestamps.tolist(), batch.values.tolist(), (~stale).tolist()
        left_out += int(stale.sum())
        written += len(values) - int(stale.sum())
        offsets = batch.offsets.tolist()
        for row, labels in enumerate(batch.labels.label_sets()):
            name = series_text(labels)
            file.writelines(
                f"{name} {_number(values[i])} {times[i] / 1000!r}\n"
                for i in range(offsets[row], offsets[row + 1])
                if kept[i]
            )
    file.write("# EOF\n")
    return written, left_out


def series_text(labels: Mapping[str, str]) -> str:
    """A series as OpenMetrics names it; names that are not of the old form stand in quotes."""
    metric = labels.get(METRIC_NAME, "")
    pairs = [
        f"{name if _LEGACY_LABEL.fullmatch(name) else _quoted(name)}={_quoted(value)}"
        for name, value in sorted(labels.items())
        if name != METRIC_NAME
    ]
    if metric and not _LEGACY_METRIC.fullmatch(metric):
        return "{" + ",".join([_quoted(metric), *pairs]) + "}"
    return metric + ("{" + ",".join(pairs) + "}" if pairs or not metric else "")


def read_open_metrics(lines: Iterable[str], problems: ProblemReport, block_samples: int) -> Iterator[SeriesBatch]:
    """Blocks of about so many samples. Lines that are no samples with a time are reported with their numbers.

    A text that does not end with ``# EOF`` is reported as cut off.
    """
    builder = BlockBuilder()
    labels_of: dict[str, dict[str, str]] = {}
    ended = False
    number = 0
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip("\r\n")
        if line.startswith("#"):
            ended = line.rstrip() == "# EOF"
            if ended:
                break
            continue
        if not line.strip():
            continue
        try:
            series, value, time_ms = _sample_of_known(line, labels_of) or _sample(line)
            labels = labels_of.get(series)
            if labels is None:
                if len(labels_of) >= block_samples:
                    labels_of.clear()
                labels = labels_of[series] = parse_series(series)
            builder.add(labels, time_ms, value)
        except BadData as error:
            problems.add(f"line {number}", error.message)
        if builder.sample_count >= block_samples:
            yield builder.take()
    if builder.sample_count:
        yield builder.take()
    if not ended:
        problems.add(f"line {number}", "the text ends without # EOF: it may be cut off")


def parse_series(text: str) -> dict[str, str]:
    """Labels of ``metric{...}``. Raises BadData."""
    metric, brace, rest = text.partition("{")
    labels = {METRIC_NAME: metric} if metric else {}
    if metric and not _LEGACY_METRIC.fullmatch(metric):
        raise BadData(f"{metric!r} is not a metric name; names of other forms stand in quotes inside the braces")
    body = rest[:-1] if brace else ""
    position = 0
    while position < len(body):
        match = _LABEL.match(body, position)
        if match is None or match.end() == position:
            raise BadData(f"labels {body!r}: no label at {body[position : position + 20]!r}")
        position = match.end()
        name = match["plain"] if match["quoted"] is None else _unquoted(match["quoted"])
        if match["value"] is None:
            if match["quoted"] is None:
                raise BadData(f"label {name!r} has no value")
            name, value = METRIC_NAME, name
        else:
            value = _unquoted(match["value"])
        if name in labels:
            raise BadData(f"label {name!r} comes twice")
        labels[name] = value
    return labels


def _sample_of_known(line: str, known: Collection[str]) -> tuple[str, float, int] | None:
    """As ``_sample``, four times as fast, for a line that is plainly the next sample of a known series."""
    head, _, time_text = line.rpartition(" ")
    series, _, value_text = head.rpartition(" ")
    if series not in known or "_" in time_text or "_" in value_text:
        return None
    try:
        seconds = float(time_text)
        return (series, float(value_text), round(seconds * 1000)) if abs(seconds) < _EXACT_S else None
    except ValueError:
        return None


def _sample(line: str) -> tuple[str, float, int]:
    """Series text, value, time in ms."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise BadData(f"not a sample: {line[:100]!r}")
    if match["time"] is None:
        raise BadData(f"a sample without a time: {line[:100]!r}")
    end = match.end("labels") + 1 if match["labels"] is not None else match.end("name")
    try:
        value, seconds = float(match["value"]), float(match["time"])
    except ValueError:
        raise BadData(f"not a number: {line[end:][:100]!r}") from None
    if not abs(seconds) * 1000 <= _INT64_MAX:
        raise BadData(f"the time {match['time']!r} is out of range")
    return line[:end], value, round(seconds * 1000)


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    return repr(value) if abs(value) != float("inf") else ("+Inf" if value > 0 else "-Inf")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'"{escaped}"'


def _unquoted(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda match: _UNESCAPED.get(match[1], match[0]), text)
