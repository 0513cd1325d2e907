"""The nodes' end of a distributed evaluation: fragments over a node's own series, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.data.frame import Frame
from filoray.nodes.data.series_batch import SeriesBatch, SeriesSource
from filoray.nodes.engine.annotations import Annotations
from filoray.nodes.engine.evaluate.evaluator import Evaluator, sample_count
from filoray.nodes.engine.fragments import Fragment, FragmentAnswers, FragmentResult
from filoray.nodes.engine.query_params import EvalLimits
from filoray.nodes.engine.stage_stats import StageStats


def run_fragments(
    fragments: Sequence[Fragment], source: SeriesSource, limits: EvalLimits, cancel: CancelToken
) -> FragmentAnswers:
    """A node's part: evaluate fragments over its own series. Raises ExecutionError, LimitExceeded, Query* errors.

    ``limits.max_samples`` bounds all fragments together.
    """
    results: list[FragmentResult] = []
    annotations = Annotations()
    stats = StageStats("node") if any(fragment.options.wants_stats for fragment in fragments) else None
    loaded_samples = held_samples = 0
    for fragment in fragments:
        evaluator = Evaluator(source, fragment.options, limits, cancel)
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
