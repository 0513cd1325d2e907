"""What a gateway asks of the services behind it, and what it gets: the edge's vocabulary without HTTP or JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from filoray.cluster.cluster_view import ClusterView
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import LabelMatcher
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.data.write_outcome import WriteOutcome
from filoray.nodes.engine.query_params import QueryResult


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """One PromQL query. An instant query has ``start_ms == end_ms`` and ``is_range`` False; its ``step_ms`` is ignored.

    ``timeout_ms`` None means the configured one, and is capped by it. ``lookback_ms`` and ``spread`` None: configured.
    ``wants_stats``: collect per-stage and per-node figures.
    """

    dataset: str
    query: str
    start_ms: int
    end_ms: int
    step_ms: int
    is_range: bool
    timeout_ms: int | None = None
    lookback_ms: int | None = None
    spread: int | None = None
    allow_partial: bool = False
    wants_stats: bool = False
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class QueryOutcome:
    """``warnings`` and ``infos`` are rendered texts. ``partial``: shards are missing (the warnings name them).

    ``stats`` is the plain (JSON-able) tree of figures, or None where not asked for.
    """

    result: QueryResult
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()
    partial: bool = False
    stats: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class MetadataRequest:
    """For series, labels and values: series with data in the range that match any of ``selectors`` (none: all)."""

    dataset: str
    selectors: Sequence[tuple[LabelMatcher, ...]]
    start_ms: int
    end_ms: int
    limit: int = 0  # 0: no limit but the configured one
    timeout_ms: int | None = None
    allow_partial: bool = False
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Names:
    """Sorted label names or values."""

    values: Sequence[str]
    warnings: tuple[str, ...] = ()
    partial: bool = False


@dataclass(frozen=True, slots=True)
class SeriesAnswer:
    labels: LabelTable
    warnings: tuple[str, ...] = ()
    partial: bool = False


@dataclass(frozen=True, slots=True)
class RawSeriesAnswer:
    """Raw samples for remote read."""

    batch: SeriesBatch
    warnings: tuple[str, ...] = ()
    partial: bool = False


@dataclass(frozen=True, slots=True)
class RunningQuery:
    id: str
    dataset: str
    query: str
    started_ms: int
    elapsed_ms: int


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """``containers``: one per shard. ``generation``: of the dataset whose shards they are for.

    ``with_keys(shard, series)`` gives the shard's container anew, with the part keys of those series, for an owner that
    does not know them.
    """

    dataset: str
    generation: int
    containers: Mapping[int, RecordContainer]
    with_keys: Callable[[int, NDArray[np.int32]], RecordContainer]
    metadata: Sequence[MetricMetadata] = ()
    request_id: str = ""


class QueryService(Protocol):
    """Fans out to the nodes by the last ClusterView. Every method raises FilorayErrors only."""

    async def query(self, request: QueryRequest) -> QueryOutcome: ...
    async def explain(self, request: QueryRequest) -> list[str]: ...
    def running(self) -> Sequence[RunningQuery]: ...
    def cancel(self, query_id: str) -> bool: ...


class MetadataService(Protocol):
    """What is asked without PromQL; fans out as queries do. Every method raises FilorayErrors only."""

    async def series(self, request: MetadataRequest) -> SeriesAnswer: ...
    async def label_names(self, request: MetadataRequest) -> Names: ...
    async def label_values(self, name: str, request: MetadataRequest) -> Names: ...
    async def local_label_values(self, name: str, request: MetadataRequest) -> Names:
        """From the node beside this gateway only; raises NotFound if it has no such label."""
        ...

    async def read_raw(self, request: MetadataRequest) -> RawSeriesAnswer: ...
    async def metrics(self, dataset: str, metric: str, limit: int) -> Sequence[MetricMetadata]:
        """What is known of a metric, or of all (``""``); ``limit`` 0 is none."""
        ...


class WriteService(Protocol):
    async def write(self, request: WriteRequest) -> WriteOutcome:
        """Route each container to its shard's owner; returns when all shards' logs have it (or refused samples of it).

        Raises Unavailable, for the sender to send all again, once another dataset was set up under the name: the same
        series may have other shards there.
        """
        ...


class ClusterControl(Protocol):
    """The coordinator as a gateway sees it. Raises FilorayErrors; Unavailable while there is no coordinator."""

    def view(self) -> ClusterView:
        """The last view this gateway was sent (never a remote call)."""
        ...

    async def newest_view(self) -> ClusterView:
        """The coordinator's own, as it is after this call began; raises Unavailable if that cannot be had."""
        ...

    async def settle(self) -> None:
        """Return when the view may be gone by: at once, unless this gateway slept (``view_trust.py``)."""
        ...

    async def members(self) -> Sequence[str]: ...
    async def setup_dataset(self, name: str, text: str) -> tuple[str, ...]:
        """Warnings on what the source configuration ``text`` says that nobody understands."""
        ...

    async def delete_dataset(self, name: str) -> None: ...
    async def stop_shards(self, dataset: str, shards: Sequence[int]) -> None: ...
    async def start_shards(self, dataset: str, address: str, shards: Sequence[int]) -> None: ...
    async def move_shards(self, dataset: str, node: str, shards: Sequence[int]) -> None:
        """``node``: its name or its address."""
        ...

    async def drain_node(self, node: str) -> None: ...
    async def undrain_node(self, node: str) -> None: ...
    async def restart_nodes(self) -> None: ...
    async def restart_state(self) -> tuple[Sequence[str], str]:
        """The nodes that a rolling restart has still to replace, and why the last ended before its time, or ""."""
        ...

    async def story(self, dataset: str, shard: int) -> Sequence[str]: ...
    async def actors(self) -> Mapping[str, int]:
        """The process id of every actor that answers, by name."""
        ...
