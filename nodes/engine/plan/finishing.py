"""The gateway's end of a distributed evaluation: the rest of a plan over the nodes' answers, and the final result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.data.frame import ScalarSeries, scalar_frame
from filoray.nodes.data.series_batch import SeriesBatch, SeriesSource
from filoray.nodes.engine.annotations import Annotations
from filoray.nodes.engine.evaluate.aggregation_specs import aggregation_of
from filoray.nodes.engine.evaluate.evaluator import Evaluator
from filoray.nodes.engine.evaluate.fragment_run import run_fragments
from filoray.nodes.engine.fragments import FragmentAnswers, FragmentResult
from filoray.nodes.engine.functions.evaluation import Value
from filoray.nodes.engine.functions.function_specs import spec_of
from filoray.nodes.engine.metric_names import with_names_removed
from filoray.nodes.engine.plan.planner import ExecPlan, plan
from filoray.nodes.engine.query_params import NO_LIMITS, EvalLimits, QueryParams, QueryResult
from filoray.nodes.engine.stage_stats import StageStats
from filoray.nodes.promql.ast import Aggregate, Call, Expr, FragmentRef, StepInvariant, ValueType
from filoray.nodes.promql.options import EXPERIMENTAL
from filoray.nodes.promql.parser import parse
from filoray.nodes.promql.tree_walk import unwrap_parens


def finish(
    plan: ExecPlan,
    answers: Sequence[FragmentAnswers],
    limits: EvalLimits,
    cancel: CancelToken,
    asked: Sequence[Sequence[int]] | None = None,
) -> QueryResult:
    """The query's result from what the nodes answered.

    ``asked``: for each answer the indices of the fragments that its node was asked, in order; None: all of them.
    Raises ExecutionError (422), LimitExceeded, QueryTimeout, QueryCanceled.
    """
    by_fragment: list[list[FragmentResult]] = [[] for _ in plan.fragments]
    for answer, indices in zip(answers, asked or [range(len(plan.fragments))] * len(answers), strict=True):
        for index, result in zip(indices, answer.results, strict=True):
            by_fragment[index].append(result)
    evaluator = Evaluator(None, plan.params.options, limits, cancel, plan.fragments, by_fragment)
    value = evaluator.evaluate(plan.root, plan.params.grid)
    annotations = Annotations()
    for answer in answers:
        annotations.merge(answer.annotations)
    annotations.merge(evaluator.annotations)
    return _result(plan, value, annotations, _own_stages(evaluator.stats, evaluator.peak_samples))


def _own_stages(stats: StageStats | None, peak_samples: int) -> StageStats | None:
    """The gateway's stages; those of the nodes are in their answers."""
    if stats is None:
        return None
    stats.name = "gateway"
    stats.peak_samples = peak_samples
    stats.wall_ms = sum(child.wall_ms for child in stats.children)
    return stats


def _result(plan: ExecPlan, value: Value, annotations: Annotations, stats: StageStats | None) -> QueryResult:
    params, grid = plan.params, plan.params.grid
    if isinstance(value, str):
        return QueryResult(ValueType.STRING, grid, string=value, annotations=annotations, stats=stats)
    if isinstance(value, ScalarSeries):
        if not params.options.is_range:
            return QueryResult(ValueType.SCALAR, grid, scalar=value, annotations=annotations, stats=stats)
        # A range query of a scalar is a matrix of one series without labels.
        value = scalar_frame(np.ascontiguousarray(value.values))
    if isinstance(value, SeriesBatch):
        return QueryResult(ValueType.MATRIX, grid, matrix=_by_labels(value), annotations=annotations, stats=stats)
    frame = with_names_removed(value.without_empty_series())
    if params.options.is_range or not has_own_order(plan):
        frame = frame.take(frame.labels.sorted_rows())
    return QueryResult(ValueType.VECTOR, grid, frame=frame, annotations=annotations, stats=stats)


def _by_labels(batch: SeriesBatch) -> SeriesBatch:
    """Series in the order of their labels, samples moved accordingly."""
    rows = batch.labels.sorted_rows()
    sizes = np.diff(batch.offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    starts = np.repeat(batch.offsets[:-1][rows] - offsets[:-1], sizes)
    moved = starts + np.arange(offsets[-1])
    return SeriesBatch(batch.labels.take(rows), offsets, batch.timestamps[moved], batch.values[moved], batch.warnings)


def has_own_order(plan: ExecPlan) -> bool:
    """Whether an instant query's rows are in an order that means something."""
    expr: Expr = plan.root
    while True:
        expr = unwrap_parens(expr)
        if isinstance(expr, StepInvariant):
            expr = expr.expr
        elif isinstance(expr, FragmentRef):
            fragment = plan.fragments[expr.index]
            expr = fragment.expr
        elif isinstance(expr, Call):
            return spec_of(expr).orders_series
        else:
            return isinstance(expr, Aggregate) and aggregation_of(expr).orders_series


def evaluate_locally(
    query: str | Expr, params: QueryParams, source: SeriesSource, limits: EvalLimits = NO_LIMITS
) -> QueryResult:
    """A query over one source in one process, by way of the same plan as a distributed one."""
    expr = parse(query, EXPERIMENTAL) if isinstance(query, str) else query
    cancel = CancelToken()
    execution = plan(expr, params, query=query if isinstance(query, str) else "")
    answer = run_fragments(execution.fragments, source, limits, cancel)
    return finish(execution, [answer], limits, cancel)


__all__ = ["evaluate_locally", "finish", "has_own_order"]
