"""What a query is evaluated with and what comes of it: times, guard rails, the result.

The vocabulary that the query service shares with the engine. Nothing here evaluates.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from filoray.cluster.errors import LimitExceeded
from filoray.nodes.data.frame import Frame, ScalarSeries, TimeGrid
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.engine.annotations import Annotations
from filoray.nodes.engine.stage_stats import StageStats
from filoray.nodes.promql.ast import ValueType

DEFAULT_LOOKBACK_MS = 300_000
DEFAULT_STEP_MS = 60_000


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What holds for every part of a query, wherever it is evaluated.

    ``is_range``: of the query, for annotations and its result's form only. ``delayed_names``: metric names go at the
    end of the query, not where a function or operation is.
    """

    lookback_ms: int = DEFAULT_LOOKBACK_MS
    is_range: bool = False
    wants_stats: bool = False
    delayed_names: bool = False


DEFAULT_OPTIONS = EvaluationOptions()


@dataclass(frozen=True, slots=True)
class QueryParams:
    """When a query is evaluated, and how.

    ``grid``: the evaluation times; ``end_ms``: the request's end, which ``@ end()`` means and which may lie behind the
    last of them. ``default_step_ms``: resolution of subqueries that name none.
    """

    grid: TimeGrid
    end_ms: int
    options: EvaluationOptions
    default_step_ms: int = DEFAULT_STEP_MS

    @classmethod
    def instant(
        cls, time_ms: int, options: EvaluationOptions = DEFAULT_OPTIONS, *, default_step_ms: int = DEFAULT_STEP_MS
    ) -> QueryParams:
        """An instant query at ``time_ms``."""
        return cls(TimeGrid(time_ms, 1, 1), time_ms, replace(options, is_range=False), default_step_ms)

    @classmethod
    def range(
        cls,
        start_ms: int,
        end_ms: int,
        step_ms: int,
        options: EvaluationOptions = DEFAULT_OPTIONS,
        *,
        default_step_ms: int = DEFAULT_STEP_MS,
    ) -> QueryParams:
        """A range query; ``end_ms >= start_ms`` and ``step_ms > 0`` were checked at the edge."""
        count = (end_ms - start_ms) // step_ms + 1
        return cls(TimeGrid(start_ms, step_ms, count), end_ms, replace(options, is_range=True), default_step_ms)

    @property
    def start_ms(self) -> int:
        return self.grid.start_ms

    @property
    def step_ms(self) -> int:
        """0 for an instant query, as ``step()`` answers."""
        return self.grid.step_ms if self.options.is_range else 0


@dataclass(frozen=True, slots=True)
class EvalLimits:
    """Guard rails of one query on one process; 0 means none.

    ``max_samples``: samples that leaves read. ``max_series``: series of any one intermediate result.
    ``max_bytes``: of any one intermediate result, and of all label values that functions make.
    """

    max_samples: int = 50_000_000
    max_series: int = 1_000_000
    max_bytes: int = 2 << 30

    def check_label_bytes(self, size_bytes: int) -> None:
        if self.max_bytes and size_bytes > self.max_bytes:
            raise LimitExceeded(
                f"the functions of the query make label values of {size_bytes} bytes, "
                f"more than filoray.query.max-result-size = {self.max_bytes}"
            )

    def check_samples(self, samples: int) -> None:
        if self.max_samples and samples > self.max_samples:
            raise LimitExceeded(
                f"query processing would load too many samples into memory: {samples} samples exceed "
                f"filoray.query.max-samples = {self.max_samples}"
            )

    def check_series(self, series: int) -> None:
        if self.max_series and series > self.max_series:
            raise LimitExceeded(
                f"query touches {series} series, more than filoray.query.max-series = {self.max_series}"
            )

    def check_matrix(self, series: int, steps: int) -> None:
        """Before a [series x steps] result is made: 9 bytes a cell (value and validity)."""
        self.check_series(series)
        size_bytes = 9 * series * steps
        if self.max_bytes and size_bytes > self.max_bytes:
            raise LimitExceeded(
                f"an intermediate result of {series} series x {steps} steps takes {size_bytes} bytes, "
                f"more than filoray.query.max-result-size = {self.max_bytes}"
            )


NO_LIMITS = EvalLimits(0, 0, 0)


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What a query evaluates to, in final order, metric names removed where they had to go.

    By ``type``: VECTOR has ``frame`` (for range queries too: what the API calls a matrix), SCALAR ``scalar``, STRING
    ``string``; MATRIX (an instant query of a range vector) has ``matrix``, whose samples are without staleness markers.
    Every series of ``frame`` has at least one sample.
    """

    type: ValueType
    grid: TimeGrid
    frame: Frame | None = None
    scalar: ScalarSeries | None = None
    string: str | None = None
    matrix: SeriesBatch | None = None
    annotations: Annotations = field(default_factory=Annotations)
    stats: StageStats | None = None

    @property
    def series_count(self) -> int:
        """Of a vector or matrix; a scalar and a string have no series."""
        part = self.frame or self.matrix
        return 0 if part is None else part.labels.count

    def truncated(self, count: int) -> QueryResult:
        """The first ``count`` series."""
        frame, matrix = self.frame, self.matrix
        if frame is not None:
            frame = frame.take(np.arange(min(count, frame.series_count)))
        if matrix is not None:
            offsets = matrix.offsets[: count + 1]
            rows = np.arange(len(offsets) - 1)
            matrix = replace(matrix, labels=matrix.labels.take(rows), offsets=offsets)
        return replace(self, frame=frame, matrix=matrix)
