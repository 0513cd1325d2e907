"""What the engine does with each function of PromQL: one row for each of the parser's table.

The name, its arguments and types are the parser's (``promql.function_table``); here is what a node and a gateway do
with a call, how it is planned, shown and evaluated. Whoever has to know something of a function asks its row. The
columns are told in ``function_spec``, the doing is in the modules that the handlers come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from filoray.nodes.engine.functions import date_functions as dates
from filoray.nodes.engine.functions import instant_functions as instant
from filoray.nodes.engine.functions import range_kernels as windows
from filoray.nodes.engine.functions.date_functions import date_part
from filoray.nodes.engine.functions.evaluation import Handler
from filoray.nodes.engine.functions.function_spec import AtGateway, AtNode, FunctionSpec, Mapper
from filoray.nodes.engine.functions.histogram_functions import (
    histogram_fraction,
    histogram_quantile,
    histogram_quantiles,
    of_native_histograms,
)
from filoray.nodes.engine.functions.info_function import info
from filoray.nodes.engine.functions.instant_functions import Values, sample_by_sample
from filoray.nodes.engine.functions.label_functions import label_join, label_replace, sort_by_label
from filoray.nodes.engine.functions.range_functions import RangeFunction
from filoray.nodes.engine.functions.range_vector_functions import (
    absent,
    absent_over_time,
    over_windows,
    quantile_over_time,
    start_timestamp,
    timestamp,
)
from filoray.nodes.engine.functions.value_sorting import sort_by_value
from filoray.nodes.engine.query_params import QueryParams
from filoray.nodes.kernels.query import elementwise
from filoray.nodes.kernels.query.over_time import Edge
from filoray.nodes.promql.ast import Call
from filoray.nodes.promql.function_table import FUNCTIONS


def _operations(**operations: Callable[[Values], Values]) -> list[FunctionSpec]:
    """Of each sample's value and nothing else."""
    return [FunctionSpec(FUNCTIONS[name], sample_by_sample(operation)) for name, operation in operations.items()]


def _of_samples(*, depends_on_time: bool = False, **handlers: Handler) -> list[FunctionSpec]:
    """Of each sample and scalars."""
    return [
        FunctionSpec(FUNCTIONS[name], handler, depends_on_time=depends_on_time) for name, handler in handlers.items()
    ]


def _of_windows(*, depends_on_time: bool = False, **functions: RangeFunction) -> list[FunctionSpec]:
    return [
        _of_window(name, function, over_windows(function), depends_on_time=depends_on_time)
        for name, function in functions.items()
    ]


def _of_window(name: str, function: RangeFunction, handler: Handler, *, depends_on_time: bool = False) -> FunctionSpec:
    return FunctionSpec(
        FUNCTIONS[name],
        handler,
        mapper=Mapper.PERIODIC_SAMPLES,
        keeps_name=function.keeps_name,
        depends_on_time=depends_on_time,
        range_function=function,
    )


def _of_scalars(*, depends_on_time: bool = False, **handlers: Handler) -> list[FunctionSpec]:
    return [
        FunctionSpec(FUNCTIONS[name], handler, AtNode.NO_SERIES, depends_on_time=depends_on_time)
        for name, handler in handlers.items()
    ]


def _of_the_query(**constants: Callable[[QueryParams], float]) -> list[FunctionSpec]:
    return [
        FunctionSpec(FUNCTIONS[name], None, AtNode.NO_SERIES, constant=constant) for name, constant in constants.items()
    ]


def _across_series(
    mapper: Mapper = Mapper.INSTANT_VECTOR,
    *,
    at_gateway: AtGateway = AtGateway.ARGUMENTS,
    keeps_name: bool = False,
    orders_series: bool = False,
    **handlers: Handler,
) -> list[FunctionSpec]:
    return [
        FunctionSpec(
            FUNCTIONS[name],
            handler,
            AtNode.NOTHING,
            at_gateway,
            mapper,
            keeps_name=keeps_name,
            orders_series=orders_series,
        )
        for name, handler in handlers.items()
    ]


_SPECS = (
    *_operations(
        abs=np.abs,
        ceil=np.ceil,
        exp=elementwise.exponential,
        floor=np.floor,
        ln=elementwise.natural_logarithm,
        log10=elementwise.decimal_logarithm,
        log2=elementwise.binary_logarithm,
        sgn=instant.sign,
        sqrt=np.sqrt,
        acos=elementwise.arc_cosine,
        acosh=elementwise.hyperbolic_arc_cosine,
        asin=elementwise.arc_sine,
        asinh=elementwise.hyperbolic_arc_sine,
        atan=elementwise.arc_tangent,
        atanh=elementwise.hyperbolic_arc_tangent,
        cos=elementwise.cosine,
        cosh=elementwise.hyperbolic_cosine,
        sin=elementwise.sine,
        sinh=elementwise.hyperbolic_sine,
        tan=elementwise.tangent,
        tanh=elementwise.hyperbolic_tangent,
        deg=instant.degrees,
        rad=instant.radians,
    ),
    *_of_samples(
        round=instant.rounded,
        clamp=instant.clamped,
        clamp_max=instant.at_most,
        clamp_min=instant.at_least,
        start_timestamp=start_timestamp,
        histogram_avg=of_native_histograms,
        histogram_count=of_native_histograms,
        histogram_stddev=of_native_histograms,
        histogram_stdvar=of_native_histograms,
        histogram_sum=of_native_histograms,
    ),
    *_of_samples(
        depends_on_time=True,
        timestamp=timestamp,
        days_in_month=date_part(dates.days_in_month, of_lowest=31),
        day_of_month=date_part(dates.day_of_month, of_lowest=4),
        day_of_week=date_part(dates.day_of_week, of_lowest=0),
        day_of_year=date_part(dates.day_of_year, of_lowest=339),
        hour=date_part(dates.hour, of_lowest=15),
        minute=date_part(dates.minute, of_lowest=30),
        month=date_part(dates.month, of_lowest=12),
        year=date_part(dates.year, of_lowest=292277026596),
    ),
    *_of_windows(
        rate=windows.extrapolated(is_counter=True, per_second=True),
        increase=windows.extrapolated(is_counter=True, per_second=False),
        delta=windows.extrapolated(is_counter=False, per_second=False),
        irate=windows.last_difference(per_second=True),
        idelta=windows.last_difference(per_second=False),
        changes=windows.transitions(only_resets=False),
        resets=windows.transitions(only_resets=True),
        deriv=windows.SLOPE,
        double_exponential_smoothing=windows.DOUBLE_EXPONENTIAL_SMOOTHING,
        sum_over_time=windows.sums(mean=False),
        avg_over_time=windows.sums(mean=True),
        stddev_over_time=windows.variances(root=True),
        stdvar_over_time=windows.variances(root=False),
        min_over_time=windows.extremes(is_max=False),
        max_over_time=windows.extremes(is_max=True),
        ts_of_min_over_time=windows.extremes(is_max=False, want_times=True),
        ts_of_max_over_time=windows.extremes(is_max=True, want_times=True),
        count_over_time=windows.edge(Edge.COUNT),
        present_over_time=windows.PRESENCE,
        first_over_time=windows.edge(Edge.FIRST, keeps_name=True),
        last_over_time=windows.edge(Edge.LAST, keeps_name=True),
        ts_of_first_over_time=windows.edge(Edge.FIRST_TIME),
        ts_of_last_over_time=windows.edge(Edge.LAST_TIME),
        mad_over_time=windows.MEDIAN_DEVIATION,
    ),
    *_of_windows(depends_on_time=True, predict_linear=windows.PREDICTION),
    _of_window("quantile_over_time", windows.QUANTILE, quantile_over_time),
    *_of_scalars(pi=instant.pi, min_of=instant.smaller, max_of=instant.larger),
    *_of_scalars(depends_on_time=True, time=instant.evaluation_time),
    *_of_the_query(
        start=lambda params: params.start_ms / 1000,
        end=lambda params: params.end_ms / 1000,
        step=lambda params: params.step_ms / 1000,
        range=lambda params: (params.end_ms - params.start_ms) / 1000,
    ),
    *_across_series(
        histogram_quantile=histogram_quantile,
        histogram_quantiles=histogram_quantiles,
        histogram_fraction=histogram_fraction,
    ),
    *_across_series(Mapper.MISCELLANEOUS, keeps_name=True, label_replace=label_replace, label_join=label_join),
    *_across_series(Mapper.MISCELLANEOUS, at_gateway=AtGateway.INFO_SERIES, keeps_name=True, info=info),
    *_across_series(Mapper.ABSENT, at_gateway=AtGateway.PRESENCE, absent=absent),
    *_across_series(Mapper.ABSENT, at_gateway=AtGateway.PRESENCE_IN_WINDOWS, absent_over_time=absent_over_time),
    *_across_series(
        Mapper.SORT,
        keeps_name=True,
        orders_series=True,
        sort=sort_by_value(descending=False),
        sort_desc=sort_by_value(descending=True),
        sort_by_label=sort_by_label(descending=False),
        sort_by_label_desc=sort_by_label(descending=True),
    ),
    *_across_series(Mapper.SCALAR, scalar=instant.scalar_of_vector),
    *_across_series(Mapper.VECTOR, vector=instant.vector_of_scalar),
)

FUNCTION_SPECS: Mapping[str, FunctionSpec] = MappingProxyType({spec.name: spec for spec in _SPECS})
"""By PromQL name."""


def spec_of(call: Call) -> FunctionSpec:
    return FUNCTION_SPECS[call.function]
