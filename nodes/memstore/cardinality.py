"""Counts series per workspace and namespace, and says which new ones are too many."""

from __future__ import annotations

from collections import Counter

from filoray.nodes.memstore.shard_spec import SeriesLimits

WORKSPACE_LABEL = "_ws_"
NAMESPACE_LABEL = "_ns_"


class Cardinality:
    def __init__(self, series_max: int, limits: SeriesLimits) -> None:
        self.series_max = series_max
        self.limits = limits
        self.total = 0
        self.by_namespace: Counter[tuple[str, str]] = Counter()
        self.by_workspace: Counter[str] = Counter()

    def refusal(self, workspace: str, namespace: str) -> str:
        """Why one more series may not be, ``""`` if it may."""
        if self.total >= self.series_max:
            return f"the shard has {self.total} series, as many as max-series-per-shard allows"
        if self.by_workspace[workspace] >= self.limits.per_workspace:
            return f"_ws_ {workspace!r} has {self.by_workspace[workspace]} series in this shard, its limit"
        if self.by_namespace[workspace, namespace] >= self.limits.per_namespace:
            return (
                f"_ws_ {workspace!r} _ns_ {namespace!r} has "
                f"{self.by_namespace[workspace, namespace]} series in this shard, its limit"
            )
        return ""

    def add(self, workspace: str, namespace: str, count: int = 1) -> None:
        self.total += count
        self.by_workspace[workspace] += count
        self.by_namespace[workspace, namespace] += count

    def reset(self) -> None:
        self.total = 0
        self.by_namespace.clear()
        self.by_workspace.clear()
