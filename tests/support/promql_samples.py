"""Samples and results as short text, for tests of PromQL."""

from __future__ import annotations

import math
import re

from dict_source import DictSource

from filoray.nodes.data.matching import MatchOp
from filoray.nodes.engine.label_text import label_set_text
from filoray.nodes.engine.plan.finishing import evaluate_locally
from filoray.nodes.engine.query_params import NO_LIMITS, EvalLimits, EvaluationOptions, QueryParams, QueryResult
from filoray.nodes.promql.number_format import format_float_g
from filoray.nodes.promql.parser import parse

_RANGE = re.compile(r"(-?[\d.]+)([+-][\d.]+)?x(\d+)")
_LINE = re.compile(r"(.*?(?:\}|[\w:]))\s+([^{}]*)$")


def load(interval_s: float, text: str, source: DictSource | None = None) -> DictSource:
    """Lines of ``metric{label="value"} 1 2 _ NaN 0+10x5``: value i is at ``i * interval_s``."""
    source = source or DictSource()
    for line in filter(None, map(str.strip, text.splitlines())):
        match = _LINE.match(line)
        assert match, line
        selector = parse(match[1])
        labels = {matcher.name: matcher.value for matcher in selector.matchers if matcher.op is MatchOp.EQUAL}
        source.add(labels, [(int(i * interval_s * 1000), v) for i, v in enumerate(_values(match[2])) if v is not None])
    return source


def _values(text: str) -> list[float | None]:
    values: list[float | None] = []
    for word in text.split():
        match = _RANGE.fullmatch(word)
        if match:
            start, step, count = float(match[1]), float(match[2] or 0), int(match[3])
            values += [start + step * i for i in range(count + 1)]
        else:
            values.append(None if word == "_" else float(word))
    return values


def shown(result: QueryResult) -> list[str]:
    """``{a="b"} 1 _ 3`` for each series in order; a scalar or string as one line."""
    if result.string is not None:
        return [result.string]
    if result.scalar is not None:
        return [" ".join(map(format_float_g, result.scalar.values.tolist()))]
    if result.matrix is not None:
        batch = result.matrix
        return [
            f"{label_set_text(labels)} "
            + " ".join(
                f"{format_float_g(float(batch.values[i]))}@{batch.timestamps[i] / 1000:g}"
                for i in range(batch.offsets[row], batch.offsets[row + 1])
            )
            for row, labels in enumerate(batch.labels.label_sets())
        ]
    frame = result.frame
    assert frame is not None
    lines = []
    for row, labels in enumerate(frame.labels.label_sets()):
        cells = zip(frame.values[row].tolist(), frame.valid[row].tolist(), strict=True)
        lines.append(f"{label_set_text(labels)} " + " ".join(format_float_g(v) if ok else "_" for v, ok in cells))
    return lines


def instant(
    source: DictSource, query: str, time_s: float = 0, limits: EvalLimits = NO_LIMITS, *, delayed_names: bool = False
) -> QueryResult:
    params = QueryParams.instant(int(time_s * 1000), EvaluationOptions(delayed_names=delayed_names))
    return evaluate_locally(query, params, source, limits)


def ranged(
    source: DictSource, query: str, start_s: float, end_s: float, step_s: float, *, delayed_names: bool = False
) -> QueryResult:
    options = EvaluationOptions(delayed_names=delayed_names)
    params = QueryParams.range(int(start_s * 1000), int(end_s * 1000), int(step_s * 1000), options)
    return evaluate_locally(query, params, source)


def same(one: float, other: float, tolerance: float = 1e-9) -> bool:
    """NaN equals NaN; otherwise within a relative tolerance."""
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return one == other or math.isclose(one, other, rel_tol=tolerance, abs_tol=1e-12)
