"""Every function and aggregation of Prometheus 3: argument types, arity, what is experimental.

The rules are those of promql/parser/functions.go: with ``variadic`` 0 all arguments are required; otherwise
the last type may be left out, and given up to ``variadic`` times (-1: any number of times).
"""

from __future__ import annotations

from dataclasses import dataclass

from filoray.nodes.promql.ast import ValueType

_SCALAR, _VECTOR, _MATRIX, _STRING = ValueType.SCALAR, ValueType.VECTOR, ValueType.MATRIX, ValueType.STRING


@dataclass(frozen=True, slots=True)
class FunctionSignature:
    """``selector_argument``: the index of the argument that is matchers ``{...}``, not a vector; None: there is none.
    ``planned_args_max``: as many the planner gives it, where those are more than the parser allows."""

    name: str
    arg_types: tuple[ValueType, ...]
    variadic: int = 0
    return_type: ValueType = ValueType.VECTOR
    experimental: bool = False
    selector_argument: int | None = None
    planned_args_max: int = 0

    @property
    def args_min(self) -> int:
        return len(self.arg_types) - bool(self.variadic)

    @property
    def args_max(self) -> int | None:
        """None: any number."""
        return None if self.variadic < 0 else self.args_min + self.variadic

    def type_of_argument(self, index: int) -> ValueType:
        """The type wanted at ``index``; more arguments than types have the last type (only if variadic)."""
        return self.arg_types[min(index, len(self.arg_types) - 1)]


@dataclass(frozen=True, slots=True)
class AggregationSignature:
    """``param_type`` None: it takes the vector only."""

    name: str
    param_type: ValueType | None = None
    experimental: bool = False


def _table(*signatures: FunctionSignature) -> dict[str, FunctionSignature]:
    return {signature.name: signature for signature in signatures}


def _of_vector(*names: str, experimental: bool = False) -> list[FunctionSignature]:
    return [FunctionSignature(name, (_VECTOR,), experimental=experimental) for name in names]


def _of_matrix(*names: str, experimental: bool = False) -> list[FunctionSignature]:
    return [FunctionSignature(name, (_MATRIX,), experimental=experimental) for name in names]


def _of_time(*names: str) -> list[FunctionSignature]:
    """Calendar functions, which take ``vector(time())`` if nothing is given."""
    return [FunctionSignature(name, (_VECTOR,), variadic=1) for name in names]


def _constant(*names: str, experimental: bool = False) -> list[FunctionSignature]:
    return [FunctionSignature(name, (), return_type=_SCALAR, experimental=experimental) for name in names]


FUNCTIONS: dict[str, FunctionSignature] = _table(
    *_of_vector(
        *("abs", "absent", "ceil", "exp", "floor", "ln", "log10", "log2", "sgn", "sqrt", "deg", "rad"),
        *("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "sin", "sinh", "tan", "tanh"),
        *("histogram_avg", "histogram_count", "histogram_sum", "histogram_stddev", "histogram_stdvar"),
        *("sort", "sort_desc", "timestamp"),
    ),
    *_of_matrix(
        *("rate", "increase", "delta", "irate", "idelta", "deriv", "changes", "resets"),
        *("avg_over_time", "count_over_time", "last_over_time", "max_over_time", "min_over_time", "sum_over_time"),
        *("stddev_over_time", "stdvar_over_time", "absent_over_time", "present_over_time", "first_over_time"),
    ),
    *_of_vector("start_timestamp", experimental=True),
    *_of_matrix(
        "mad_over_time",
        *("ts_of_first_over_time", "ts_of_last_over_time", "ts_of_max_over_time", "ts_of_min_over_time"),
        experimental=True,
    ),
    *_of_time("days_in_month", "day_of_month", "day_of_week", "day_of_year", "hour", "minute", "month", "year"),
    *_constant("pi", "time"),
    *_constant("start", "end", "step", "range", experimental=True),
    FunctionSignature("scalar", (_VECTOR,), return_type=_SCALAR),
    FunctionSignature("vector", (_SCALAR,)),
    FunctionSignature("round", (_VECTOR, _SCALAR), variadic=1),
    FunctionSignature("clamp", (_VECTOR, _SCALAR, _SCALAR)),
    FunctionSignature("clamp_max", (_VECTOR, _SCALAR)),
    FunctionSignature("clamp_min", (_VECTOR, _SCALAR)),
    FunctionSignature("predict_linear", (_MATRIX, _SCALAR)),
    FunctionSignature("quantile_over_time", (_SCALAR, _MATRIX)),
    FunctionSignature("double_exponential_smoothing", (_MATRIX, _SCALAR, _SCALAR), experimental=True),
    FunctionSignature("histogram_fraction", (_SCALAR, _SCALAR, _VECTOR)),
    FunctionSignature("histogram_quantile", (_SCALAR, _VECTOR)),
    FunctionSignature("histogram_quantiles", (_VECTOR, _STRING, _SCALAR, _SCALAR), variadic=9, experimental=True),
    FunctionSignature("label_join", (_VECTOR, _STRING, _STRING, _STRING), variadic=-1),
    FunctionSignature("label_replace", (_VECTOR, _STRING, _STRING, _STRING, _STRING)),
    FunctionSignature("sort_by_label", (_VECTOR, _STRING), variadic=-1, experimental=True),
    FunctionSignature("sort_by_label_desc", (_VECTOR, _STRING), variadic=-1, experimental=True),
    FunctionSignature(
        "info", (_VECTOR, _VECTOR), variadic=1, experimental=True, selector_argument=1, planned_args_max=3
    ),
    FunctionSignature("min_of", (_SCALAR, _SCALAR), return_type=_SCALAR, experimental=True),
    FunctionSignature("max_of", (_SCALAR, _SCALAR), return_type=_SCALAR, experimental=True),
)

AGGREGATIONS: dict[str, AggregationSignature] = {
    **{name: AggregationSignature(name) for name in ("sum", "avg", "count", "min", "max", "group", "stddev", "stdvar")},
    "topk": AggregationSignature("topk", _SCALAR),
    "bottomk": AggregationSignature("bottomk", _SCALAR),
    "quantile": AggregationSignature("quantile", _SCALAR),
    "count_values": AggregationSignature("count_values", _STRING),
    "limitk": AggregationSignature("limitk", _SCALAR, experimental=True),
    "limit_ratio": AggregationSignature("limit_ratio", _SCALAR, experimental=True),
}
