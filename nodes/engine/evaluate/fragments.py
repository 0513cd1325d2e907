"""The nodes' end of a distributed evaluation: fragments and what is answered to them.

A Fragment is a subtree that each node can evaluate over its own series, perhaps followed by the map phase
of an aggregation. What the nodes answer is put together by ``finishing.finish`` at the gateway.
Who asks which node is the query service's business, the encoding is ``wire``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.data.frame import Frame, TimeGrid
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import LabelMatcher
from filoray.nodes.data.series_batch import SeriesBatch, SeriesSource
from filoray.nodes.engine.annotations import Annotations
from filoray.nodes.engine.query_params import EvalLimits
from filoray.nodes.engine.stage_stats import StageStats
from filoray.nodes.promql.ast import Aggregate, Expr


@dataclass(frozen=True, slots=True)
class Fragment:
    """What one node evaluates over its own series.

    ``expr`` over ``grid`` (absolute: every ``@``, default step and ``start()`` is resolved); with ``map_phase``
    the answer is that aggregation's mergeable part over ``expr`` (its own ``expr`` is a placeholder).
    ``selectors`` are the matchers of all selectors inside, by which shards are chosen. ``is_range``: of the query,
    for annotations only. ``delayed_names``: see ``QueryParams``.
    """

    expr: Expr
    grid: TimeGrid
    lookback_ms: int
    map_phase: Aggregate | None = None
    selectors: tuple[tuple[LabelMatcher, ...], ...] = ()
    is_range: bool = False
    wants_stats: bool = False
    delayed_names: bool = False


@dataclass(frozen=True, slots=True)
class AggregatePartial:
    """The mergeable part of an aggregation: g groups and what is known of each at each step.

    ``planes``: arrays [g, steps] of float64 or bool; which ones is the operation's matter (``aggregations``).
    """

    labels: LabelTable
    drop_name: NDArray[np.bool_]
    planes: tuple[NDArray[np.float64] | NDArray[np.bool_], ...]


FragmentResult = Frame | SeriesBatch | AggregatePartial


@dataclass(frozen=True, slots=True)
class FragmentAnswers:
    """One node's answers, in the order of the fragments it was asked."""

    results: tuple[FragmentResult, ...]
    annotations: Annotations = field(default_factory=Annotations)
    stats: StageStats | None = None


def run_fragments(
    fragments: Sequence[Fragment], source: SeriesSource, limits: EvalLimits, cancel: CancelToken
) -> FragmentAnswers:
    """A node's part: evaluate fragments over its own series. Raises ExecutionError, LimitExceeded, Query* errors.

    ``limits.max_samples`` bounds all fragments together.
    """
    # The evaluator names the types above.
    from filoray.nodes.engine.evaluate.evaluator import Evaluator, sample_count

    results: list[FragmentResult] = []
    annotations = Annotations()
    stats = StageStats("node") if any(fragment.wants_stats for fragment in fragments) else None
    loaded_samples = held_samples = 0
    for fragment in fragments:
        evaluator = Evaluator(
            source,
            lookback_ms=fragment.lookback_ms,
            is_range=fragment.is_range,
            limits=limits,
            cancel=cancel,
            wants_stats=fragment.wants_stats,
            delayed_names=fragment.delayed_names,
        )
        evaluator.leaves.loaded_samples = loaded_samples
        if fragment.map_phase is not None:
            results.append(evaluator.map_phase(fragment.map_phase, fragment.expr, fragment.grid))
        else:
            value = evaluator.evaluate(fragment.expr, fragment.grid)
            assert isinstance(value, Frame | SeriesBatch)
            results.append(value)
        loaded_samples = evaluator.leaves.loaded_samples
        annotations.merge(evaluator.annotations)
        if stats is not None and evaluator.stats is not None:
            stats.children.extend(evaluator.stats.children)
            stats.peak_samples = max(stats.peak_samples, held_samples + evaluator.peak_samples)
            held_samples += sample_count(results[-1])
            stats.wall_ms += sum(child.wall_ms for child in evaluator.stats.children)
    return FragmentAnswers(tuple(results), annotations, stats)
