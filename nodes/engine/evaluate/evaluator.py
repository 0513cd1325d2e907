"""Evaluates an expression over a grid of times: Frames in, Frames out, one numpy or kernel call per node and step set.

Takes a tree whose times are resolved; leaves read a SeriesSource (on a node) or the answers to fragments (at
the gateway). What each aggregation and operator does is in the modules beside this one, what each function does in
``functions``, to which this is the ``Evaluation``; here is the walk, the guard rails and the bookkeeping.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import ExecutionError
from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.data.frame import Frame, ScalarSeries, TimeGrid
from filoray.nodes.data.matching import LabelMatcher
from filoray.nodes.data.series_batch import SeriesBatch, SeriesSource
from filoray.nodes.engine.annotations import AnnotationKind, Annotations
from filoray.nodes.engine.evaluate.aggregation import Parameter, Reduction
from filoray.nodes.engine.evaluate.aggregation_parameters import checked_label
from filoray.nodes.engine.evaluate.aggregation_specs import aggregation_of
from filoray.nodes.engine.evaluate.binary_operations import (
    HISTOGRAM_OPERATORS,
    scalar_operation,
    vector_scalar_operation,
)
from filoray.nodes.engine.evaluate.leaves import Leaves
from filoray.nodes.engine.evaluate.tree_facts import TreeFacts, meets_over_all_steps
from filoray.nodes.engine.evaluate.vector_matching import vector_operation
from filoray.nodes.engine.evaluation_times import invariant_grid, window_span
from filoray.nodes.engine.fragments import AggregatePartial, Fragment, FragmentResult
from filoray.nodes.engine.functions.evaluation import Value
from filoray.nodes.engine.functions.function_specs import FUNCTION_SPECS
from filoray.nodes.engine.functions.range_functions import RangeFunction
from filoray.nodes.engine.metric_names import merged_by_labels, with_names_removed
from filoray.nodes.engine.query_params import EvalLimits, EvaluationOptions
from filoray.nodes.engine.sampled_frame import SampledFrame
from filoray.nodes.engine.stage_stats import StageStats
from filoray.nodes.promql.ast import (
    Aggregate,
    Binary,
    Call,
    Expr,
    FragmentRef,
    MatrixSelector,
    NumberLiteral,
    StepInvariant,
    StringLiteral,
    Subquery,
    Unary,
    ValueType,
    VectorSelector,
)
from filoray.nodes.promql.deep_trees import make_room
from filoray.nodes.promql.tree_walk import unwrap_parens


class AnsweredSamples:
    """What the nodes answered to fragments that are range selectors, as the gateway's source of samples."""

    def __init__(
        self, fragments: Sequence[Fragment], answers: Sequence[Sequence[FragmentResult]], lookback_ms: int
    ) -> None:
        self.batches: dict[tuple[Sequence[LabelMatcher], int, int], list[SeriesBatch]] = {}
        for fragment, results in zip(fragments, answers, strict=True):
            if isinstance(fragment.expr, MatrixSelector):
                start_ms, end_ms = window_span(fragment.expr, fragment.grid, lookback_ms)
                key = (fragment.expr.selector.matchers, start_ms, end_ms)
                self.batches[key] = cast(list[SeriesBatch], list(results))

    def select(self, matchers: Sequence[LabelMatcher], start_ms: int, end_ms: int) -> SeriesBatch:
        batches = self.batches[matchers, start_ms, end_ms]
        return SeriesBatch.concat(batches) if batches else SeriesBatch.empty()


class Evaluator:
    """One evaluation of one expression. Not shared between threads."""

    def __init__(
        self,
        source: SeriesSource | None,
        options: EvaluationOptions,
        limits: EvalLimits,
        cancel: CancelToken,
        fragments: Sequence[Fragment] = (),
        answers: Sequence[Sequence[FragmentResult]] = (),
    ) -> None:
        """``answers[i]`` are all nodes' results of ``fragments[i]``, which are all that there is without a source."""
        self.limits = limits
        self.cancel = cancel
        self.is_range = options.is_range
        self.delayed_names = options.delayed_names
        self.annotations = Annotations()
        source = source or AnsweredSamples(fragments, answers, options.lookback_ms)
        self.leaves = Leaves(source, options.lookback_ms, limits, cancel, self.annotations)
        self.fragments = fragments
        self.answers = answers
        self.stats = StageStats("") if options.wants_stats else None
        self.peak_samples = 0  # as StageStats says; counted with stats only
        self.made_label_bytes = 0
        self._held_samples = 0
        self._level = 0

    # ---- by kind of value

    def vector(self, expr: Expr, grid: TimeGrid) -> Frame:
        value = self.evaluate(expr, grid)
        assert isinstance(value, Frame), type(expr)
        return value

    def with_marked_names(self, expr: Expr, grid: TimeGrid) -> Frame:
        """A vector whose names are still there, whatever is configured."""
        delayed_names, self.delayed_names = self.delayed_names, True
        try:
            return self.vector(expr, grid)
        finally:
            self.delayed_names = delayed_names

    def scalar(self, expr: Expr, grid: TimeGrid) -> ScalarSeries:
        value = self.evaluate(expr, grid)
        assert isinstance(value, ScalarSeries), type(expr)
        return value

    def string(self, expr: Expr) -> str:
        literal = unwrap_parens(expr)
        assert isinstance(literal, StringLiteral), type(expr)
        return literal.value

    # ---- from samples

    def range_function(
        self,
        function: RangeFunction,
        argument: MatrixSelector | Subquery,
        params: Sequence[NDArray[np.float64]],
        grid: TimeGrid,
    ) -> SampledFrame:
        return self.leaves.range_function(function, argument, params, grid, self)

    def sample_times(self, selector: VectorSelector, grid: TimeGrid) -> Frame:
        return self.leaves.instant(selector, grid, want_times=True)

    # ---- the walk

    def evaluate(self, expr: Expr, grid: TimeGrid) -> Value:
        """The value of an expression at every time of the grid. Raises ExecutionError, LimitExceeded, Query* errors."""
        self.cancel.check()
        make_room(self._level)
        self._level += 1
        try:
            return self._evaluate(expr, grid) if self.stats is None else self._measured(expr, grid, self.stats)
        finally:
            self._level -= 1

    def _measured(self, expr: Expr, grid: TimeGrid, parent: StageStats) -> Value:
        stage = StageStats(stage_name(expr))
        self.stats = stage
        held_before = self._held_samples
        started_s, samples = time.perf_counter(), self.leaves.queryable_samples
        try:
            value = self._evaluate(expr, grid)
        finally:
            self.stats = parent
        stage.wall_ms = (time.perf_counter() - started_s) * 1000
        inner = sum(child.total_samples for child in stage.children)
        stage.samples = self.leaves.queryable_samples - samples - inner
        if isinstance(value, Frame):
            stage.result_series, stage.result_bytes = value.series_count, value.values.nbytes + value.valid.nbytes
        parent.children.append(stage)
        # What it was made of is held until now, its result from now on.
        count = sample_count(value)
        self.hold(count)
        self._held_samples = held_before + count
        return value

    def hold(self, samples: int) -> None:
        """So many samples are held for a moment, beside those that wait to be used."""
        self.peak_samples = max(self.peak_samples, self._held_samples + samples)

    def _evaluate(self, expr: Expr, grid: TimeGrid) -> Value:
        expr = unwrap_parens(expr)
        match expr:
            case NumberLiteral():
                return ScalarSeries(np.full(grid.count, expr.value))
            case StringLiteral():
                return expr.value
            case VectorSelector():
                return self._checked(self.leaves.instant(expr, grid))
            case MatrixSelector():
                return self.leaves.raw(expr, grid)
            case FragmentRef():
                return self._reference(expr, grid)
            case StepInvariant():
                return repeated(self.evaluate(expr.expr, invariant_grid(grid)), grid.count)
            case Unary():
                return self._unary(expr, grid)
            case Aggregate():
                return self._aggregate(expr, grid)
            case Binary():
                return self._binary(expr, grid)
            case Call():
                return self._checked(self._without_marked_names(expr, self._call(expr, grid)))
            case Subquery():
                return self.leaves.subquery_samples(expr, grid, self)
        raise AssertionError(type(expr).__name__)

    def _checked(self, value: Value) -> Value:
        if isinstance(value, Frame):
            self.limits.check_matrix(value.series_count, value.step_count)
        return value

    def _without_marked_names(self, expr: Expr, value: Value) -> Value:
        if self.delayed_names or not isinstance(value, Frame) or not value.drop_name.any():
            return value
        return with_names_removed(value, at_any_step=meets_over_all_steps(expr))

    def _reference(self, expr: FragmentRef, grid: TimeGrid) -> Value:
        frames = cast(list[Frame], [frame for frame in self.answers[expr.index] if frame.labels.count])
        self.limits.check_matrix(sum(frame.series_count for frame in frames), grid.count)
        if not frames:
            return Frame.empty(grid.count)
        whole, pushed = Frame.concat(frames), self.fragments[expr.index].expr
        if len(frames) > 1 and TreeFacts(delayed_names=self.delayed_names).may_collide(pushed):
            return merged_by_labels(whole, at_any_step=meets_over_all_steps(pushed))
        return whole

    def _call(self, expr: Call, grid: TimeGrid) -> Value:
        handler = FUNCTION_SPECS[expr.function].handler
        if handler is None:
            raise ExecutionError(f"function {expr.function} is not supported")
        with np.errstate(all="ignore"):
            return handler(self, expr, grid)

    def _unary(self, expr: Unary, grid: TimeGrid) -> Value:
        value = self.evaluate(expr.expr, grid)
        if expr.op == "+":
            return value
        if isinstance(value, ScalarSeries):
            return ScalarSeries(-value.values)
        assert isinstance(value, Frame)
        negated = Frame(value.labels, -value.values, value.valid, np.ones(value.series_count, np.bool_))
        return self._without_marked_names(expr, negated)

    def _binary(self, expr: Binary, grid: TimeGrid) -> Value:
        """A chain of operations in a loop, operands from the left: it may be thousands of terms long."""
        pending: list[tuple[Expr, bool]] = [(expr, False)]
        values: list[Value] = []
        while pending:
            one, has_operands = pending.pop()
            if not isinstance(one, Binary):
                values.append(self.evaluate(one, grid))
            elif has_operands:
                right = values.pop()
                result = self._operation(one, values[-1], right, grid)
                if self.stats is not None:
                    self.hold(sample_count(result))
                    self._held_samples += sample_count(result) - sample_count(values[-1]) - sample_count(right)
                values[-1] = result
            else:
                pending += ((one, True), (one.right, False), (one.left, False))
        return values[0]

    def _operation(self, expr: Binary, left: Value, right: Value, grid: TimeGrid) -> Value:
        self.cancel.check()
        if expr.op not in HISTOGRAM_OPERATORS:
            return self._combined(expr, expr.op, left, right)
        # They trim native histograms; between floats nothing is left but a remark, if there were any.
        result = self._combined(expr, "-", left, right)
        if not isinstance(result, Frame):
            raise ExecutionError(f'operator "{expr.op}" not allowed for Scalar operations')
        if result.series_count:
            self.annotations.add(AnnotationKind.INCOMPATIBLE_TYPES, expr.op, position=expr.position)
        return Frame.empty(grid.count)

    def _combined(self, expr: Binary, op: str, left: Value, right: Value) -> Value:
        with np.errstate(all="ignore"):
            if isinstance(left, ScalarSeries) and isinstance(right, ScalarSeries):
                return scalar_operation(op, left, right)
            if isinstance(left, Frame) and isinstance(right, Frame):
                assert expr.matching is not None
                result = vector_operation(
                    op,
                    left,
                    right,
                    expr.matching,
                    self.limits,
                    return_bool=expr.return_bool,
                    delayed_names=self.delayed_names,
                )
                return self._checked(self._without_marked_names(expr, result))
            if isinstance(left, Frame):
                assert isinstance(right, ScalarSeries)
                result = vector_scalar_operation(op, left, right, swapped=False, return_bool=expr.return_bool)
            else:
                assert isinstance(left, ScalarSeries)
                assert isinstance(right, Frame)
                result = vector_scalar_operation(op, right, left, swapped=True, return_bool=expr.return_bool)
            return self._without_marked_names(expr, result)

    # ---- aggregations

    def _aggregate(self, expr: Aggregate, grid: TimeGrid) -> Frame:
        inner = unwrap_parens(expr.expr)
        parameter = self._parameter(expr, grid)
        if isinstance(inner, FragmentRef) and self.fragments[inner.index].map_phase is not None:
            partials: Sequence[FragmentResult] = self.answers[inner.index]
            self._check_parameter(expr, parameter)
        else:
            partials = [self._mapped(expr, expr.expr, parameter, grid)]
        parts = [part for part in partials if part.labels.count]
        reduced = Frame.empty(grid.count)
        if parts:
            with np.errstate(all="ignore"):
                reduction = Reduction(parameter, self.is_range, self.cancel.flag)
                reduced = aggregation_of(expr).aggregation.reduce_phase(expr, parts, reduction)
        self.cancel.check()
        return reduced

    def map_phase(self, expr: Aggregate, inner: Expr, grid: TimeGrid) -> FragmentResult:
        """The mergeable part of an aggregation over ``inner``."""
        parameter = self._parameter(expr, grid) if aggregation_of(expr).parameter_at_node else None
        return self._mapped(expr, inner, parameter, grid)

    def _mapped(self, expr: Aggregate, inner: Expr, parameter: Parameter, grid: TimeGrid) -> FragmentResult:
        """What is wrong with the inside is told before what is wrong with the parameter."""
        frame = self.vector(inner, grid)
        self._check_parameter(expr, parameter)
        self.cancel.check()
        with np.errstate(all="ignore"):
            mapped = aggregation_of(expr).aggregation.map_phase(expr, frame, parameter, self.cancel.flag)
        self.cancel.check()
        return mapped

    def _parameter(self, expr: Aggregate, grid: TimeGrid) -> Parameter:
        """A scalar for each step, or count_values' label, which is checked; None if the operation has none."""
        if expr.param is None:
            return None
        if aggregation_of(expr).signature.param_type is ValueType.STRING:
            return checked_label(self.string(expr.param))
        return self.scalar(expr.param, grid).values

    def _check_parameter(self, expr: Aggregate, parameter: Parameter) -> None:
        check = aggregation_of(expr).check
        if check is not None and expr.param is not None and isinstance(parameter, np.ndarray) and len(parameter):
            for kind, args in check(parameter):
                self.annotations.add(kind, *args, position=expr.param.position)


def sample_count(value: Value | FragmentResult) -> int:
    """The samples that a result has; those that are the same at every step count once."""
    match value:
        case Frame():
            return int(np.count_nonzero(value.valid))
        case ScalarSeries():
            return len(value.values)
        case SeriesBatch():
            return len(value.timestamps)
        case AggregatePartial():
            return int(value.planes[0].size)
    return 0


def repeated(value: Value, count: int) -> Value:
    """A one-step value at each of ``count`` steps; no data is copied."""
    if isinstance(value, ScalarSeries):
        return ScalarSeries(np.broadcast_to(value.values, (count,)))
    if isinstance(value, Frame):
        shape = (value.series_count, count)
        values, valid = np.broadcast_to(value.values, shape), np.broadcast_to(value.valid, shape)
        return Frame(value.labels, values, valid, value.drop_name)
    return value


def stage_name(expr: Expr) -> str:
    """How a stage is called in stats."""
    match expr:
        case Call():
            return expr.function
        case Aggregate():
            return expr.op
        case Binary():
            return f"binary {expr.op}"
        case FragmentRef():
            return f"fragment {expr.index}"
    return type(expr).__name__
