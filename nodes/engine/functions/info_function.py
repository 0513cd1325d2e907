"""info(): labels of info metrics (``target_info``) added to the series of the same ``instance`` and ``job``.

The rules are those of Prometheus's promql/info.go. The planner has turned the call into
``info(base, timestamp(info selector), info selector)``: of info series only the labels and the times of their newest
samples matter, since the newer of two that overlap wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import ExecutionError
from filoray.nodes.data.frame import Frame, TimeGrid
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import METRIC_NAME
from filoray.nodes.engine.functions.evaluation import Evaluation, Value
from filoray.nodes.engine.label_text import label_set_text
from filoray.nodes.engine.metric_names import merged_by_labels, names_of
from filoray.nodes.promql.ast import Call, VectorSelector
from filoray.nodes.promql.regex import matches

IDENTIFYING_LABELS = ("instance", "job")
Identity = tuple[str, ...]
_NONE = -1


def info(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    selector = call.args[2]
    assert isinstance(selector, VectorSelector)
    base = evaluation.vector(call.args[0], grid)
    times = evaluation.with_marked_names(call.args[1], grid)
    name_matchers = [matcher for matcher in selector.matchers if matcher.name == METRIC_NAME]
    data_matchers = [matcher for matcher in selector.matchers if matcher.name != METRIC_NAME]
    # Info series themselves are not enriched.
    enriched = np.array(
        [not all(matches(matcher, name) for matcher in name_matchers) for name in names_of(base.labels)], np.bool_
    )
    rows = np.flatnonzero(enriched)
    if not len(rows):
        return base
    wanted = {matcher.name for matcher in data_matchers}
    required = not all(matches(matcher, "") for matcher in data_matchers)
    parts = [base.take(~enriched)] if not enriched.all() else []
    parts.append(_Enrichment(base.take(rows), times, wanted, required=required).result())
    return merged_by_labels(Frame.concat(parts).without_empty_series())


class _Enrichment:
    """``wanted``: data labels to take, all if empty. ``required``: series without an info series are left out."""

    def __init__(self, base: Frame, times: Frame, wanted: set[str], *, required: bool) -> None:
        self.base = base
        self.wanted = wanted
        self.required = required
        self.identities = _identities(base.labels)
        self.info_labels = times.labels.label_sets()
        self.chosen = self._newest_by_identity(times)

    def _newest_by_identity(self, times: Frame) -> dict[Identity, list[NDArray[np.int64]]]:
        """For each identity and info metric, the row of the newest info series at each step, or -1."""
        known = self._known_values()
        groups: dict[tuple[Identity, str], list[int]] = {}
        names = names_of(times.labels)
        for row, identity in enumerate(_identities(times.labels)):
            values = known.get(_presence(identity))
            if values is not None and all(map(set.__contains__, values, identity)):
                groups.setdefault((identity, names[row]), []).append(row)
        chosen: dict[Identity, list[NDArray[np.int64]]] = {}
        for (identity, _), rows in groups.items():
            chosen.setdefault(identity, []).append(self._newest(times, np.array(rows)))
        return chosen

    def _known_values(self) -> dict[tuple[bool, ...], list[set[str]]]:
        """The values of each identifying label, by which of the labels a series has; it must have one."""
        known: dict[tuple[bool, ...], list[set[str]]] = {}
        for identity in self.identities:
            presence = _presence(identity)
            if any(presence):
                for values, value in zip(known.setdefault(presence, [set() for _ in presence]), identity, strict=True):
                    values.add(value)
        return known

    def _newest(self, times: Frame, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        ages = np.where(times.valid[rows], times.values[rows], -np.inf)
        newest = ages.max(axis=0)
        present = times.valid[rows].any(axis=0)
        clashes = ((ages == newest) & times.valid[rows]).sum(axis=0) > 1
        if clashes.any():
            step = int(clashes.argmax())
            first, second = sorted(
                (row for row in rows.tolist() if times.valid[row, step] and times.values[row, step] == newest[step]),
                key=lambda row: label_set_text(self.info_labels[row]),
            )[:2]
            time_ms = round(newest[step] * 1000)
            raise ExecutionError(
                f"found duplicate series for info metric: existing {label_set_text(self.info_labels[first])} @ "
                f"{time_ms}, new {label_set_text(self.info_labels[second])} @ {time_ms}"
            )
        return np.where(present, rows[ages.argmax(axis=0)], _NONE)

    def result(self) -> Frame:
        steps = self.base.step_count
        nothing = np.full((1, steps), _NONE)
        label_sets: list[dict[str, str]] = []
        rows: list[int] = []
        masks: list[NDArray[np.bool_]] = []
        for row, labels in enumerate(self.base.labels.label_sets()):
            choices = self.chosen.get(self.identities[row])
            matrix = np.stack(choices) if choices else nothing
            # Which info series apply may change over time: one result series for each combination.
            for combination in np.unique(matrix, axis=1).T:
                infos = [self.info_labels[info] for info in combination.tolist() if info != _NONE]
                if not infos and self.required:
                    continue
                label_sets.append(self._enriched(labels, infos))
                rows.append(row)
                masks.append((matrix == combination[:, np.newaxis]).all(axis=0))
        if not rows:
            return Frame.empty(steps)
        taken = self.base.take(np.array(rows))
        valid = taken.valid & np.stack(masks)
        return Frame(LabelTable.from_label_sets(label_sets), taken.values, valid, taken.drop_name)

    def _enriched(self, labels: dict[str, str], infos: Iterable[Mapping[str, str]]) -> dict[str, str]:
        added: dict[str, str] = {}
        for info in infos:
            for name, value in info.items():
                if name == METRIC_NAME or (self.wanted and name not in self.wanted):
                    continue
                if added.get(name, value) != value:
                    raise ExecutionError(f"conflicting label: {name}")
                if name not in labels:
                    added[name] = value
        return {**labels, **added}


def _presence(identity: Identity) -> tuple[bool, ...]:
    return tuple(map(bool, identity))


def _identities(labels: LabelTable) -> list[Identity]:
    ids, distinct = labels.keep(IDENTIFYING_LABELS).grouped()
    texts = [tuple(label_set.get(name, "") for name in IDENTIFYING_LABELS) for label_set in distinct.label_sets()]
    return [texts[group] for group in ids.tolist()]
