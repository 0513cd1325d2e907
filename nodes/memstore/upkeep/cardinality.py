"""Counts series per workspace and namespace, and says which new ones are too many, or have labels too long for all."""

from __future__ import annotations

from collections import Counter

from filoray.cluster.config.store_config import StoreConfig

WORKSPACE_LABEL = "_ws_"
NAMESPACE_LABEL = "_ns_"


class Cardinality:
    def __init__(self, limits: StoreConfig) -> None:
        self._limits = limits
        self.has_refused = False
        """A limit was reached since this was last set back: series without data should make room."""
        self.total = 0
        self.by_namespace: Counter[tuple[str, str]] = Counter()
        self.by_workspace: Counter[str] = Counter()

    def refusal(self, workspace: str, namespace: str) -> str:
        """Why one more series may not be, ``""`` if it may."""
        reason = self._reason(workspace, namespace)
        self.has_refused = self.has_refused or bool(reason)
        return reason

    def _reason(self, workspace: str, namespace: str) -> str:
        if self.total >= self._limits.max_series_per_shard:
            return f"the shard has {self.total} series, as many as max-series-per-shard allows"
        in_workspace = self.by_workspace[workspace]
        if in_workspace >= self._limits.max_workspace_series_per_shard:
            return (
                f"_ws_ {workspace!r} has {in_workspace} series in the shard, "
                "as many as max-workspace-series-per-shard allows"
            )
        in_namespace = self.by_namespace[workspace, namespace]
        if in_namespace >= self._limits.max_namespace_series_per_shard:
            return (
                f"_ws_ {workspace!r} _ns_ {namespace!r} has {in_namespace} series in the shard, "
                "as many as max-namespace-series-per-shard allows"
            )
        return ""

    def exceeds_label_size(self, text_bytes: int) -> bool:
        return text_bytes > self._limits.label_bytes_max

    def label_refusal(self, text_bytes: int, more_bytes: int) -> str:
        """Why a series may not be that has ``more_bytes`` of label texts that no other has, "" if it may."""
        if not self.exceeds_label_size(text_bytes + more_bytes):
            return ""
        self.has_refused = True
        return (
            f"its labels bring {more_bytes} bytes of text to the {text_bytes} that the shard has; "
            f"max-label-size-per-shard = {self._limits.label_bytes_max} allows no more"
        )

    def add(self, workspace: str, namespace: str, count: int = 1) -> None:
        self.total += count
        self.by_workspace[workspace] += count
        self.by_namespace[workspace, namespace] += count

    def reset(self) -> None:
        self.total = 0
        self.by_namespace.clear()
        self.by_workspace.clear()
