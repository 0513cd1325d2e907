"""Operations between vectors: which series pair up at each step, what the pairs give, and what is refused.

The rules and the error texts are Prometheus's (VectorBinop, VectorAnd, VectorOr, VectorUnless in
promql/engine.go). A series takes part only in the steps where it has a sample, so two series of one match group
may both match, at different steps. All steps are handled at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import ExecutionError
from filoray.nodes.data.frame import BoolArray, BoolMatrix, FloatMatrix, Frame
from filoray.nodes.data.label_table import LabelTable, shared_row_ids
from filoray.nodes.data.matching import METRIC_NAME
from filoray.nodes.engine.evaluate.binary_operations import ARITHMETIC, COMPARISONS
from filoray.nodes.engine.label_text import label_set_text
from filoray.nodes.engine.metric_names import METADATA_LABELS, merged_by_labels
from filoray.nodes.engine.query_params import EvalLimits
from filoray.nodes.promql.ast import Cardinality, VectorMatching

Ids = NDArray[np.int64]
NOTHING = -1

MANY_TO_ONE_NOT_EXPLICIT = "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
GROUPING_NOT_UNIQUE = "multiple matches for labels: grouping labels must ensure unique matches"


def vector_operation(
    op: str,
    left: Frame,
    right: Frame,
    matching: VectorMatching,
    limits: EvalLimits,
    *,
    return_bool: bool,
    delayed_names: bool,
) -> Frame:
    """``left op right``. Raises ExecutionError where the matching is not unique, LimitExceeded for too many pairs.

    ``delayed_names``: the names of ``bool`` comparisons are marked only.
    """
    if matching.cardinality is Cardinality.MANY_TO_MANY:
        return _set_operation(op, left, right, matching)
    join = _Join(op, left, right, matching, limits, return_bool=return_bool, delayed_names=delayed_names)
    return join.result()


def _match_ids(left: Frame, right: Frame, matching: VectorMatching) -> tuple[Ids, Ids, int]:
    """Match group of each row of both sides, and how many groups there are."""
    return shared_row_ids(_match_labels(left.labels, matching), _match_labels(right.labels, matching))


def _match_labels(table: LabelTable, matching: VectorMatching) -> LabelTable:
    if matching.on:
        return table.keep(matching.labels)
    return table.without({*matching.labels, METRIC_NAME})


def _presence(ids: Ids, group_count: int, valid: BoolMatrix) -> BoolMatrix:
    """bool[groups, steps]: whether any row of the group has a sample."""
    present = np.zeros((group_count, valid.shape[1]), np.bool_)
    if len(ids):
        order = np.argsort(ids, kind="stable")
        sorted_ids = ids[order]
        starts = np.flatnonzero(np.r_[True, sorted_ids[1:] != sorted_ids[:-1]])
        if len(starts) == len(ids):
            present[ids] = valid
        else:
            present[sorted_ids[starts]] = np.logical_or.reduceat(valid[order], starts, axis=0)
    return present


def _set_operation(op: str, left: Frame, right: Frame, matching: VectorMatching) -> Frame:
    left_ids, right_ids, group_count = _match_ids(left, right, matching)
    if op == "or":
        present = _presence(left_ids, group_count, left.valid)
        rest = Frame(right.labels, right.values, right.valid & ~present[right_ids], right.drop_name)
        rest = rest.without_empty_series()
        return merged_by_labels(Frame.concat([left, rest])) if rest.series_count else left
    present = _presence(right_ids, group_count, right.valid)
    kept = present[left_ids] if op == "and" else ~present[left_ids]
    return Frame(left.labels, left.values, left.valid & kept, left.drop_name).without_empty_series()


@dataclass(slots=True)
class _Pairs:
    """Candidate rows of a result: row numbers of both sides, -1 for a side that is filled in."""

    many: Ids
    one: Ids
    many_values: FloatMatrix
    one_values: FloatMatrix
    valid: BoolMatrix
    groups: Ids


class _Join:
    """A one-to-one, many-to-one or one-to-many operation. ``many`` is the left side unless ``group_right``."""

    def __init__(
        self,
        op: str,
        left: Frame,
        right: Frame,
        matching: VectorMatching,
        limits: EvalLimits,
        *,
        return_bool: bool,
        delayed_names: bool,
    ) -> None:
        self.op = op
        self.limits = limits
        self.matching = matching
        self.return_bool = return_bool
        self.delayed_names = delayed_names
        self.swapped = matching.cardinality is Cardinality.ONE_TO_MANY
        self.many, self.one = (right, left) if self.swapped else (left, right)
        self.many_ids, self.one_ids, self.group_count = _match_ids(self.many, self.one, matching)

    def result(self) -> Frame:
        # Prometheus swaps the sides for group_right before it fills, so that fill_left is the many side's there too.
        fill_many, fill_one = self.matching.fill_left, self.matching.fill_right
        has_many: BoolArray = np.logical_or.reduce(self.many.valid, axis=0)
        has_one: BoolArray = np.logical_or.reduce(self.one.valid, axis=0)
        filling = fill_one is not None or fill_many is not None
        active = has_many | has_one if filling else has_many & has_one
        clash_step = self._first_clash_of_one_side(active)
        if clash_step is not None:
            # Prometheus goes step by step: what is wrong at an earlier step is told instead.
            if clash_step > 0:
                left, right = self._sides_before(clash_step)
                _Join(
                    self.op,
                    left,
                    right,
                    self.matching,
                    self.limits,
                    return_bool=self.return_bool,
                    delayed_names=self.delayed_names,
                ).result()
            self._refuse_many_to_many(clash_step)
        parts = [self._matched_pairs()]
        if fill_one is not None:
            parts.append(self._pairs_without_one(fill_one))
        if fill_many is not None:
            parts.append(self._pairs_without_many(fill_many))
        parts = [part for part in parts if len(part.many)]
        if not parts:
            return Frame.empty(self.many.step_count)
        return self._combined(_stacked(parts))

    def _sides_before(self, step: int) -> tuple[Frame, Frame]:
        many, one = (
            Frame(side.labels, side.values[:, :step], side.valid[:, :step], side.drop_name).without_empty_series()
            for side in (self.many, self.one)
        )
        return (one, many) if self.swapped else (many, one)

    def _first_clash_of_one_side(self, active: BoolArray) -> int | None:
        """The first step at which the one side is not unique in a match group."""
        sizes = np.bincount(self.one_ids, minlength=self.group_count)
        shared = np.flatnonzero(sizes[self.one_ids] > 1)
        if not len(shared):
            return None
        order = shared[np.argsort(self.one_ids[shared], kind="stable")]
        starts = np.flatnonzero(np.r_[True, self.one_ids[order][1:] != self.one_ids[order][:-1]])
        counts = np.add.reduceat(self.one.valid[order].astype(np.int32), starts, axis=0)
        clashes = (counts > 1).any(axis=0) & active
        return int(clashes.argmax()) if clashes.any() else None

    def _refuse_many_to_many(self, step: int) -> NoReturn:
        """Names the first series, in the order of labels, that has the match group of one before it."""
        first_rows: dict[int, int] = {}
        rows = [row for row in self.one.labels.sorted_rows().tolist() if self.one.valid[row, step]]
        row = next(row for row in rows if first_rows.setdefault(int(self.one_ids[row]), row) != row)
        first, second = (
            label_set_text(self.one.labels.label_set(one)) for one in (first_rows[int(self.one_ids[row])], row)
        )
        group = _match_labels_for_text(self.one.labels.take(np.array([row])), self.matching).label_set(0)
        side = "left" if self.swapped else "right"
        raise ExecutionError(
            f"found duplicate series for the match group {label_set_text(group)} on the {side} hand-side of the "
            f"operation: [{second}, {first}];many-to-many matching not allowed: matching labels must be "
            "unique on one side"
        )

    def _matched_pairs(self) -> _Pairs:
        sizes = np.bincount(self.one_ids, minlength=self.group_count)
        self.limits.check_matrix(int(sizes[self.many_ids].sum()), self.many.step_count)
        many_rows, one_rows = _paired_rows(self.many_ids, self.one_ids, self.group_count)
        return _Pairs(
            many_rows,
            one_rows,
            _rows(self.many.values, many_rows),
            _rows(self.one.values, one_rows),
            _rows(self.many.valid, many_rows) & _rows(self.one.valid, one_rows),
            self.many_ids[many_rows],
        )

    def _pairs_without_one(self, fill: float) -> _Pairs:
        """Samples of the many side whose group has none on the other."""
        present = _presence(self.one_ids, self.group_count, self.one.valid)
        valid = self.many.valid & ~present[self.many_ids]
        rows = np.flatnonzero(valid.any(axis=1))
        values = self.many.values[rows]
        return _Pairs(
            rows, np.full(len(rows), NOTHING), values, np.full_like(values, fill), valid[rows], self.many_ids[rows]
        )

    def _pairs_without_many(self, fill: float) -> _Pairs:
        present = _presence(self.many_ids, self.group_count, self.many.valid)
        valid = self.one.valid & ~present[self.one_ids]
        rows = np.flatnonzero(valid.any(axis=1))
        values = self.one.values[rows]
        return _Pairs(
            np.full(len(rows), NOTHING), rows, np.full_like(values, fill), values, valid[rows], self.one_ids[rows]
        )

    def _combined(self, pairs: _Pairs) -> Frame:
        labels = self._result_labels(pairs)
        if self.return_bool and not self.delayed_names:
            labels = labels.without(METADATA_LABELS)
        left, right = pairs.many_values, pairs.one_values
        if self.swapped:
            left, right = right, left
        compare = COMPARISONS.get(self.op)
        valid = pairs.valid
        drop_name = np.zeros(len(pairs.many), np.bool_)
        if compare is None:
            values = ARITHMETIC[self.op](left, right)
        elif self.return_bool:
            values = compare(left, right).astype(np.float64)
            drop_name[:] = True
        else:
            values, valid = left, valid & compare(left, right)
            from_many = pairs.many >= 0
            drop_name[from_many] = self.many.drop_name[pairs.many[from_many]]
        self._check_many_side(pairs.groups, labels, valid)
        return merged_by_labels(Frame(labels, values, valid, drop_name).without_empty_series())

    def _check_many_side(self, groups: Ids, labels: LabelTable, valid: BoolMatrix) -> None:
        """No two samples of one match group may give a result of the same labels at the same step.

        Those that a comparison leaves out give none.
        """
        if self.matching.cardinality is Cardinality.ONE_TO_ONE:
            ids, count, message = groups, self.group_count, MANY_TO_ONE_NOT_EXPLICIT
        else:
            label_ids, label_count = labels.row_ids()
            ids, count, message = label_ids * self.group_count + groups, label_count, GROUPING_NOT_UNIQUE
            if count == len(groups):
                return
            ids, count = _dense(ids)
        sizes = np.bincount(ids, minlength=count)
        shared = sizes[ids] > 1
        if not shared.any():
            return
        rows = np.flatnonzero(shared)
        order = rows[np.argsort(ids[rows], kind="stable")]
        starts = np.flatnonzero(np.r_[True, ids[order][1:] != ids[order][:-1]])
        if (np.add.reduceat(valid[order].astype(np.int32), starts, axis=0) > 1).any():
            raise ExecutionError(message)

    def _result_labels(self, pairs: _Pairs) -> LabelTable:
        """resultMetric of promql/engine.go for every pair."""
        matching = self.matching
        many_labels = self._many_labels(pairs)
        if self.op in ARITHMETIC:
            many_labels = many_labels.without(METADATA_LABELS)
        if matching.cardinality is Cardinality.ONE_TO_ONE:
            many_labels = many_labels.keep(matching.labels) if matching.on else many_labels.without(matching.labels)
        if not matching.include:
            return many_labels
        one_labels = self._one_labels(pairs)
        for name in matching.include:
            column = one_labels.columns.get(name)
            many_labels = many_labels.without((name,)) if column is None else many_labels.with_column(name, column)
        return many_labels

    def _many_labels(self, pairs: _Pairs) -> LabelTable:
        filled = pairs.many < 0
        if not filled.any():
            return self.many.labels.take(pairs.many)
        stand_in = _match_labels_for_text(self.one.labels.take(pairs.one[filled]), self.matching)
        return LabelTable.concat([self.many.labels.take(pairs.many[~filled]), stand_in])

    def _one_labels(self, pairs: _Pairs) -> LabelTable:
        """Filled pairs of one kind follow each other: matched, without one, without many."""
        filled = pairs.one < 0
        if not filled.any():
            return self.one.labels.take(pairs.one)
        last = int(np.flatnonzero(filled)[-1]) + 1
        first = int(np.flatnonzero(filled)[0])
        stand_in = _match_labels_for_text(self.many.labels.take(pairs.many[filled]), self.matching)
        return LabelTable.concat(
            [self.one.labels.take(pairs.one[:first]), stand_in, self.one.labels.take(pairs.one[last:])]
        )


def _match_labels_for_text(table: LabelTable, matching: VectorMatching) -> LabelTable:
    """labels.MatchLabels: what a match group is called, and the labels of a filled-in side."""
    if matching.on:
        return table.keep(matching.labels)
    return table.without({*matching.labels, METRIC_NAME})


def _paired_rows(many_ids: Ids, one_ids: Ids, group_count: int) -> tuple[Ids, Ids]:
    """All pairs of rows of the same group, in the order of the many side."""
    sizes = np.bincount(one_ids, minlength=group_count)
    order = np.argsort(one_ids, kind="stable")
    starts = np.cumsum(sizes) - sizes
    partners = sizes[many_ids]
    many_rows = np.repeat(np.arange(len(many_ids)), partners)
    within = np.arange(len(many_rows)) - np.repeat(np.cumsum(partners) - partners, partners)
    return many_rows, order[starts[many_ids[many_rows]] + within]


def _rows(matrix: np.ndarray, rows: Ids) -> np.ndarray:
    """``matrix[rows]`` without a copy where that is all of it, in order."""
    if len(rows) == len(matrix) and (rows == np.arange(len(rows))).all():
        return matrix
    return matrix[rows]


def _dense(ids: Ids) -> tuple[Ids, int]:
    distinct, inverse = np.unique(ids, return_inverse=True)
    return inverse.astype(np.int64), len(distinct)


def _stacked(parts: list[_Pairs]) -> _Pairs:
    if len(parts) == 1:
        return parts[0]
    return _Pairs(
        np.concatenate([part.many for part in parts]),
        np.concatenate([part.one for part in parts]),
        np.concatenate([part.many_values for part in parts]),
        np.concatenate([part.one_values for part in parts]),
        np.concatenate([part.valid for part in parts]),
        np.concatenate([part.groups for part in parts]),
    )
