"""PromQL evaluated the obvious way: one step at a time, plain Python, dictionaries of label sets.

Independent of the engine's code but for the syntax tree: the yardstick of the property tests. Covers selectors with
offset and ``@``, subqueries, common functions, aggregations and binary operations. ``Refused``: the query fails.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.promql.ast import (
    Aggregate,
    AtPreprocessor,
    Binary,
    Call,
    Cardinality,
    Expr,
    MatrixSelector,
    NumberLiteral,
    Paren,
    Subquery,
    TimeModifier,
    Unary,
    VectorMatching,
    VectorSelector,
)

Labels = tuple[tuple[str, str], ...]
Samples = Mapping[Labels, Mapping[int, float]]
Vector = dict[Labels, tuple[float, bool]]
"""Label set (name included) -> value, and whether the name is to be dropped at the end."""


class Refused(Exception):
    """The query fails."""


@dataclass
class SlowEvaluator:
    series: Samples
    start_ms: int
    end_ms: int
    lookback_ms: int = 300_000
    default_step_ms: int = 60_000
    delayed_names: bool = False

    def result(self, expr: Expr, times_ms: list[int]) -> dict[Labels, dict[int, float]]:
        """All steps, names removed."""
        out: dict[Labels, dict[int, float]] = {}
        for time_ms in times_ms:
            value = self.evaluate(expr, time_ms)
            vector = {(): (value, False)} if isinstance(value, float) else value
            for labels, (number, drop) in vector.items():
                samples = out.setdefault(_without(labels, "__name__") if drop else labels, {})
                if time_ms in samples:
                    raise Refused("same labelset")
                samples[time_ms] = number
        return out

    def evaluate(self, expr: Expr, time_ms: int) -> float | Vector:
        value = self._evaluate(expr, time_ms)
        if self.delayed_names or isinstance(value, float):
            return value
        out: Vector = {}
        for labels, (number, drop) in value.items():
            named = _without(labels, "__name__") if drop else labels
            if named in out:
                raise Refused("same labelset")
            out[named] = (number, False)
        return out

    def _evaluate(self, expr: Expr, time_ms: int) -> float | Vector:
        match expr:
            case NumberLiteral():
                return float(expr.value)
            case Paren():
                return self.evaluate(expr.expr, time_ms)
            case VectorSelector():
                at_ms = self._time(expr.time, time_ms)
                found: Vector = {}
                for labels, samples in self._matching(expr.matchers):
                    times = [t for t in samples if at_ms - self.lookback_ms < t <= at_ms]
                    if times:
                        found[labels] = (samples[max(times)], False)
                return found
            case Unary():
                value = self.evaluate(expr.expr, time_ms)
                if expr.op == "+":
                    return value
                if isinstance(value, float):
                    return -value
                return {labels: (-number, True) for labels, (number, _) in value.items()}
            case Aggregate():
                return self._aggregate(expr, time_ms)
            case Binary():
                return self._binary(expr, time_ms)
            case Call():
                return self._call(expr, time_ms)
        raise NotImplementedError(expr)

    def _time(self, modifier: TimeModifier, time_ms: int) -> int:
        base_ms = time_ms if modifier.at_ms is None else modifier.at_ms
        if modifier.at_edge is not None:
            base_ms = self.start_ms if modifier.at_edge is AtPreprocessor.START else self.end_ms
        return base_ms - modifier.offset_ms

    def _matching(self, matchers: tuple[LabelMatcher, ...]) -> list[tuple[Labels, Mapping[int, float]]]:
        return [
            (labels, samples)
            for labels, samples in self.series.items()
            if all(_matches(matcher, dict(labels).get(matcher.name, "")) for matcher in matchers)
        ]

    # ---- functions

    def _call(self, call: Call, time_ms: int) -> float | Vector:
        if call.function == "time":
            return time_ms / 1000
        if call.function == "scalar":
            vector = self._vector(call.args[0], time_ms)
            return next(iter(vector.values()))[0] if len(vector) == 1 else math.nan
        if call.function == "vector":
            return {(): (self._scalar(call.args[0], time_ms), False)}
        if call.function == "absent":
            assert not isinstance(call.args[0], VectorSelector)
            return {} if self._vector(call.args[0], time_ms) else {(): (1.0, False)}
        if call.function in _OVER_TIME:
            function = _OVER_TIME[call.function]
            return {
                labels: (function(window), call.function != "last_over_time" or drop)
                for labels, (window, drop) in self._windows(call.args[0], time_ms).items()
            }
        function_of_one = _ELEMENTWISE[call.function]
        rest = [self._scalar(arg, time_ms) for arg in call.args[1:]]
        vector = self._vector(call.args[0], time_ms)
        return {labels: (function_of_one(number, *rest), True) for labels, (number, _) in vector.items()}

    def _vector(self, expr: Expr, time_ms: int) -> Vector:
        value = self.evaluate(expr, time_ms)
        assert isinstance(value, dict)
        return value

    def _scalar(self, expr: Expr, time_ms: int) -> float:
        value = self.evaluate(expr, time_ms)
        assert isinstance(value, float)
        return value

    def _windows(self, expr: Expr, time_ms: int) -> dict[Labels, tuple[list[float], bool]]:
        """Values in time order of each series' window, where there are any."""
        if isinstance(expr, MatrixSelector):
            end_ms = self._time(expr.selector.time, time_ms)
            windows: dict[Labels, tuple[list[float], bool]] = {}
            for labels, samples in self._matching(expr.selector.matchers):
                times = sorted(t for t in samples if end_ms - expr.range_ms < t <= end_ms)
                if times:
                    windows[labels] = ([samples[t] for t in times], False)
            return windows
        assert isinstance(expr, Subquery)
        end_ms = self._time(expr.time, time_ms)
        step_ms = expr.step_ms or self.default_step_ms
        collected: dict[Labels, tuple[list[float], bool]] = {}
        for t in range(end_ms - expr.range_ms + 1, end_ms + 1):
            if t % step_ms:
                continue
            value = self.evaluate(expr.expr, t)
            vector = {(): (value, False)} if isinstance(value, float) else value
            for labels, (number, drop) in vector.items():
                values, _ = collected.setdefault(labels, ([], drop))
                values.append(number)
        return collected

    # ---- aggregations

    def _aggregate(self, expr: Aggregate, time_ms: int) -> Vector:
        vector = self._vector(expr.expr, time_ms)
        groups: dict[Labels, Vector] = {}
        for labels, sample in vector.items():
            groups.setdefault(_grouped(labels, expr), {})[labels] = sample
        if expr.op in ("topk", "bottomk"):
            assert expr.param is not None
            wanted = self._scalar(expr.param, time_ms)
            if math.isnan(wanted):
                raise Refused("Parameter value is NaN")
            k = int(wanted)
            sign = -1 if expr.op == "topk" else 1
            kept: Vector = {}
            for members in groups.values():
                ranked = sorted(
                    members.items(),
                    key=lambda item: (
                        math.isnan(item[1][0]),
                        0 if math.isnan(item[1][0]) else sign * item[1][0],
                        item[0],
                    ),
                )
                kept.update(ranked[: max(k, 0)])
            return kept
        quantile = self._scalar(expr.param, time_ms) if expr.op == "quantile" and expr.param else math.nan
        return {
            group: (
                _AGGREGATIONS[expr.op]([number for number, _ in members.values()], quantile),
                any(drop for _, drop in members.values()),
            )
            for group, members in groups.items()
        }

    # ---- binary operations

    def _binary(self, expr: Binary, time_ms: int) -> float | Vector:
        left, right = self.evaluate(expr.left, time_ms), self.evaluate(expr.right, time_ms)
        if isinstance(left, float) and isinstance(right, float):
            return float(_operate(expr.op, left, right))
        if isinstance(left, dict) and isinstance(right, dict):
            assert expr.matching is not None
            return _joined(expr, left, right, expr.matching, delayed_names=self.delayed_names)
        if isinstance(left, dict):
            assert isinstance(right, float)
            pairs = {labels: (number, right, number, drop) for labels, (number, drop) in left.items()}
        else:
            assert isinstance(right, dict)
            pairs = {labels: (left, number, number, drop) for labels, (number, drop) in right.items()}
        out: Vector = {}
        for labels, (one, other, own, drop) in pairs.items():
            result = _operate(expr.op, one, other)
            if not isinstance(result, bool):
                out[labels] = (result, True)
            elif expr.return_bool:
                out[labels] = (float(result), True)
            elif result:
                out[labels] = (own, drop)
        return out


def _joined(expr: Binary, left: Vector, right: Vector, matching: VectorMatching, *, delayed_names: bool) -> Vector:
    def key(labels: Labels) -> Labels:
        return _kept(labels, matching.labels) if matching.on else _without(labels, "__name__", *matching.labels)

    if matching.cardinality is Cardinality.MANY_TO_MANY:
        left_keys, right_keys = set(map(key, left)), set(map(key, right))
        if expr.op == "and":
            return {labels: sample for labels, sample in left.items() if key(labels) in right_keys}
        if expr.op == "unless":
            return {labels: sample for labels, sample in left.items() if key(labels) not in right_keys}
        return {**left, **{labels: sample for labels, sample in right.items() if key(labels) not in left_keys}}
    if not left or not right:
        return {}
    swapped = matching.cardinality is Cardinality.ONE_TO_MANY
    many, one = (right, left) if swapped else (left, right)
    by_key: dict[Labels, Labels] = {}
    for labels in one:
        if key(labels) in by_key:
            raise Refused("many-to-many")
        by_key[key(labels)] = labels
    out: Vector = {}
    seen: set[object] = set()
    for labels, (number, drop) in many.items():
        partner = by_key.get(key(labels))
        if partner is None:
            continue
        first, second = (one[partner][0], number) if swapped else (number, one[partner][0])
        result = _operate(expr.op, first, second)
        if isinstance(result, bool) and not expr.return_bool and not result:
            continue
        keeps_name = isinstance(result, bool) and (delayed_names or not expr.return_bool)
        metric = labels if keeps_name else _without(labels, "__name__")
        if matching.cardinality is Cardinality.ONE_TO_ONE:
            metric = _kept(metric, matching.labels) if matching.on else _without(metric, *matching.labels)
            mark: object = key(labels)
        else:
            included = {name: dict(partner).get(name, "") for name in matching.include}
            metric = tuple(sorted((n, v) for n, v in {**dict(metric), **included}.items() if v))
            mark = (key(labels), metric)
        if mark in seen:
            raise Refused("many-to-one")
        seen.add(mark)
        if metric in out:
            raise Refused("same labelset")
        if isinstance(result, bool):
            out[metric] = (float(result), True) if expr.return_bool else (first, drop)
        else:
            out[metric] = (result, False)
    return out


def _matches(matcher: LabelMatcher, value: str) -> bool:
    match matcher.op:
        case MatchOp.EQUAL:
            return value == matcher.value
        case MatchOp.NOT_EQUAL:
            return value != matcher.value
        case MatchOp.REGEX:
            return re.fullmatch(matcher.value, value) is not None
    return re.fullmatch(matcher.value, value) is None


def _without(labels: Labels, *names: str) -> Labels:
    return tuple(pair for pair in labels if pair[0] not in names)


def _kept(labels: Labels, names: tuple[str, ...]) -> Labels:
    return tuple(pair for pair in labels if pair[0] in names)


def _grouped(labels: Labels, expr: Aggregate) -> Labels:
    return _without(labels, "__name__", *expr.grouping) if expr.without else _kept(labels, expr.grouping)


def _operate(op: str, left: float, right: float) -> float | bool:
    match op:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            if right == 0:
                return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left)
            return left / right
        case "==":
            return left == right
        case "!=":
            return left != right
        case ">":
            return left > right
        case "<":
            return left < right
        case ">=":
            return left >= right
        case "<=":
            return left <= right
    raise NotImplementedError(op)


def _differ(one: float, other: float) -> bool:
    return one != other and not (math.isnan(one) and math.isnan(other))


def _extreme(pick: Callable[[list[float]], float]) -> Callable[..., float]:
    def extreme(values: list[float], *_: float) -> float:
        numbers = [value for value in values if not math.isnan(value)]
        return pick(numbers) if numbers else math.nan

    return extreme


def _sum(values: list[float], *_: float) -> float:
    return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)


def _mean(values: list[float], *_: float) -> float:
    return _sum(values) / len(values)


def _variance(values: list[float], *_: float) -> float:
    mean = _mean(values)
    if not math.isfinite(mean):
        return math.nan
    return math.fsum((value - mean) ** 2 for value in values) / len(values)


def _quantile(values: list[float], q: float) -> float:
    if math.isnan(q):
        return math.nan
    if q < 0 or q > 1:
        return math.copysign(math.inf, q - 0.5)
    ordered = sorted(values, key=lambda value: -math.inf if math.isnan(value) else value)
    rank = q * (len(ordered) - 1)
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] * (1 - (rank - low)) + ordered[high] * (rank - low)


_AGGREGATIONS: dict[str, Callable[[list[float], float], float]] = {
    "sum": _sum,
    "avg": _mean,
    "min": _extreme(min),
    "max": _extreme(max),
    "count": lambda values, _: float(len(values)),
    "group": lambda values, _: 1.0,
    "stdvar": _variance,
    "stddev": lambda values, _: math.sqrt(_variance(values)),
    "quantile": _quantile,
}
_OVER_TIME: dict[str, Callable[[list[float]], float]] = {
    "sum_over_time": _sum,
    "avg_over_time": _mean,
    "min_over_time": _extreme(min),
    "max_over_time": _extreme(max),
    "count_over_time": lambda values: float(len(values)),
    "last_over_time": lambda values: values[-1],
    "present_over_time": lambda values: 1.0,
    "changes": lambda values: float(sum(_differ(a, b) for a, b in itertools.pairwise(values))),
    "resets": lambda values: float(sum(b < a for a, b in itertools.pairwise(values))),
}
_ELEMENTWISE: dict[str, Callable[..., float]] = {
    "abs": abs,
    "floor": lambda value: float(math.floor(value)) if math.isfinite(value) else value,
    "ceil": lambda value: float(math.ceil(value)) if math.isfinite(value) else value,
    "clamp_min": lambda value, low: math.nan if math.isnan(value) or math.isnan(low) else max(value, low),
    "clamp_max": lambda value, high: math.nan if math.isnan(value) or math.isnan(high) else min(value, high),
}
