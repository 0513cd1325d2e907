"""Fragments and what is answered to them: the words between a gateway that plans and finishes and nodes that evaluate.

A Fragment is a subtree that each node can evaluate over its own series, perhaps followed by the map phase
of an aggregation. Who makes them is the planner, who evaluates them ``evaluate.fragment_run``, who puts the answers
together ``plan.finishing``. Who asks which node is the query service's business, the encoding is ``wire``'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.frame import Frame, TimeGrid
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import LabelMatcher
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.engine.annotations import Annotations
from filoray.nodes.engine.query_params import EvaluationOptions
from filoray.nodes.engine.stage_stats import StageStats
from filoray.nodes.promql.ast import Aggregate, Expr


@dataclass(frozen=True, slots=True)
class Fragment:
    """What one node evaluates over its own series.

    ``expr`` over ``grid`` (absolute: every ``@``, default step and ``start()`` is resolved); with ``map_phase``
    the answer is that aggregation's mergeable part over ``expr`` (its own ``expr`` is a placeholder).
    ``selectors`` are the matchers of all selectors inside, by which shards are chosen.
    """

    expr: Expr
    grid: TimeGrid
    options: EvaluationOptions
    map_phase: Aggregate | None = None
    selectors: tuple[tuple[LabelMatcher, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class AggregatePartial:
    """The mergeable part of an aggregation: g groups and what is known of each at each step.

    ``planes``: arrays [g, steps] of float64 or bool; which ones is the operation's matter (``figure_aggregations``).
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
