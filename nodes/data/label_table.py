"""Label sets of many series, in columns.

A LabelTable holds n label sets as one dictionary-encoded column for each label name: distinct values
plus an int32 code per series (-1: the label is absent). Grouping, matching and relabelling then are
numpy operations over codes; no label set is built as a Python object until it is printed.

The table knows nothing of time or values. Label semantics (an empty value means absent, label sets
compare by sorted name and value) are those of https://prometheus.io/docs/concepts/data_model/.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int32]
ABSENT = -1


@dataclass(frozen=True, slots=True)
class LabelColumn:
    """One label of n series. ``values`` are distinct and never empty strings; ``codes`` is int32[n], -1 is absent.

    ``values`` may contain entries that no code uses.
    """

    values: tuple[str, ...]
    codes: Codes


@dataclass(frozen=True, slots=True)
class LabelTable:
    """n label sets. ``columns`` maps each label name to its column; a column may be absent everywhere."""

    count: int
    columns: Mapping[str, LabelColumn]

    # ---- making

    @classmethod
    def empty_sets(cls, count: int) -> LabelTable:
        """``count`` label sets without labels."""
        return cls(count, {})

    @classmethod
    def from_label_sets(cls, label_sets: Sequence[Mapping[str, str]]) -> LabelTable:
        """Encode label sets; empty values are dropped as Prometheus does."""
        count = len(label_sets)
        codes: dict[str, Codes] = {}
        dictionaries: dict[str, dict[str, int]] = {}
        for row, labels in enumerate(label_sets):
            for name, value in labels.items():
                if not value:
                    continue
                dictionary = dictionaries.get(name)
                if dictionary is None:
                    dictionary = dictionaries[name] = {}
                    codes[name] = np.full(count, ABSENT, np.int32)
                codes[name][row] = dictionary.setdefault(value, len(dictionary))
        return cls(count, {name: LabelColumn(tuple(dictionaries[name]), codes[name]) for name in codes})

    @classmethod
    def concat(cls, tables: Sequence[LabelTable]) -> LabelTable:
        """Stack tables in order; dictionaries of the same label are unified."""
        if len(tables) == 1:
            return tables[0]
        count = sum(table.count for table in tables)
        columns: dict[str, LabelColumn] = {}
        for name in dict.fromkeys(name for table in tables for name in table.columns):
            dictionary: dict[str, int] = {}
            parts: list[Codes] = []
            for table in tables:
                column = table.columns.get(name)
                if column is None:
                    parts.append(np.full(table.count, ABSENT, np.int32))
                else:
                    parts.append(_recode(column, dictionary))
            columns[name] = LabelColumn(tuple(dictionary), np.concatenate(parts) if parts else np.empty(0, np.int32))
        return cls(count, columns)

    # ---- reading

    def value(self, row: int, name: str) -> str:
        """The value of a label of one series, ``""`` where it is absent."""
        column = self.columns.get(name)
        if column is None or column.codes[row] < 0:
            return ""
        return str(column.values[column.codes[row]])

    def label_set(self, row: int) -> dict[str, str]:
        """The label set of one series, sorted by name."""
        return {
            name: column.values[column.codes[row]]
            for name, column in sorted(self.columns.items())
            if column.codes[row] >= 0
        }

    def label_sets(self) -> list[dict[str, str]]:
        """All label sets, each sorted by name."""
        rows: list[dict[str, str]] = [{} for _ in range(self.count)]
        for name, column in sorted(self.columns.items()):
            values = column.values
            for row, code in zip(rows, column.codes.tolist(), strict=True):
                if code >= 0:
                    row[name] = values[code]
        return rows

    # ---- choosing

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> LabelTable:
        """The rows of an index array or a mask, in its order."""
        columns = {name: LabelColumn(column.values, column.codes[rows]) for name, column in self.columns.items()}
        count = int(np.count_nonzero(rows)) if rows.dtype == np.bool_ else len(rows)
        return LabelTable(count, columns)

    def keep(self, names: Iterable[str]) -> LabelTable:
        """Only these labels."""
        return LabelTable(
            self.count, {name: self.columns[name] for name in dict.fromkeys(names) if name in self.columns}
        )

    def without(self, names: Collection[str]) -> LabelTable:
        """All but these labels."""
        return LabelTable(self.count, {name: column for name, column in self.columns.items() if name not in names})

    def with_values(self, name: str, values: Sequence[str]) -> LabelTable:
        """One label set anew from n strings (``""`` removes it)."""
        dictionary: dict[str, int] = {}
        codes = np.fromiter(
            (dictionary.setdefault(value, len(dictionary)) if value else ABSENT for value in values),
            np.int32,
            self.count,
        )
        return self.with_column(name, LabelColumn(tuple(dictionary), codes))

    def with_column(self, name: str, column: LabelColumn) -> LabelTable:
        """One label's column replaced or added; one that is absent everywhere is left out."""
        columns = {other: old for other, old in self.columns.items() if other != name}
        if (column.codes >= 0).any():
            columns[name] = column
        return LabelTable(self.count, columns)

    def clear_where(self, name: str, rows: NDArray[np.bool_]) -> LabelTable:
        """The label removed from the series of the mask."""
        column = self.columns.get(name)
        if column is None or not rows.any():
            return self
        codes = column.codes.copy()
        codes[rows] = ABSENT
        return self.with_column(name, LabelColumn(column.values, codes))

    # ---- grouping and matching

    def row_ids(self) -> tuple[NDArray[np.int64], int]:
        """int64[n]: equal for equal label sets, dense, numbered by first appearance; and how many there are."""
        return dense_ids([column.codes for column in self.columns.values()], self.count)

    def grouped(self) -> tuple[NDArray[np.int64], LabelTable]:
        """Row ids as ``row_ids`` gives, and the table of the distinct label sets in the ids' order."""
        ids, group_count = self.row_ids()
        return ids, self.take(_first_rows(ids, group_count))

    def sorted_rows(self) -> NDArray[np.int64]:
        """Rows in Prometheus's order of label sets (names and values compared in turn, bytewise); stable."""
        keys: list[NDArray[np.int64]] = []
        has_later = np.zeros(self.count, np.bool_)
        for name in sorted(self.columns, reverse=True):
            column = self.columns[name]
            present = column.codes >= 0
            order = sorted(range(len(column.values)), key=column.values.__getitem__)
            ranks = np.empty(len(order) + 1, np.int64)
            ranks[order] = np.arange(1, len(order) + 1)
            # Where a row has no label of this name, its next name is a later one, which sorts behind this; but if
            # it has no more labels at all, it is a prefix of the other set, which sorts before.
            absent_rank = np.where(has_later, len(order) + 1, 0)
            keys.append(np.where(present, ranks[column.codes], absent_rank))
            has_later |= present
        return np.lexsort(keys) if keys else np.arange(self.count)


def _recode(column: LabelColumn, dictionary: dict[str, int]) -> Codes:
    """Codes of a column in terms of a growing dictionary that other columns share."""
    if not column.values:
        return column.codes
    mapping = np.fromiter(
        (dictionary.setdefault(value, len(dictionary)) for value in column.values), np.int32, len(column.values)
    )
    return np.where(column.codes >= 0, mapping[column.codes], np.int32(ABSENT))


def shared_row_ids(left: LabelTable, right: LabelTable) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Ids of the rows of both tables, equal where label sets are equal across them; and how many there are."""
    ids, group_count = LabelTable.concat([left, right]).row_ids()
    return ids[: left.count], ids[left.count :], group_count


def dense_ids(columns: Sequence[Codes], count: int) -> tuple[NDArray[np.int64], int]:
    """Ids of n rows of codes: equal for equal rows, dense, numbered by first appearance."""
    if not columns or count == 0:
        return np.zeros(count, np.int64), min(count, 1)
    ids = np.zeros(count, np.int64)
    bound = 1
    for codes in columns:
        width = int(codes.max()) + 2
        if width == 1:
            continue
        if bound * width > 4 * count + 1024:
            ids, bound = _renumber(ids, bound)
        ids = ids * width + (codes.astype(np.int64) + 1)
        bound *= width
    return _renumber(ids, bound)


def _renumber(ids: NDArray[np.int64], bound: int) -> tuple[NDArray[np.int64], int]:
    """Make ids below ``bound`` dense, numbered by first appearance; returns them and how many there are."""
    count = len(ids)
    if bound <= 8 * count + 1024:
        first = np.full(bound, count, np.int64)
        # Written in reverse, so that the last write, which stays, is the first appearance.
        first[ids[::-1]] = np.arange(count - 1, -1, -1)
        used = np.flatnonzero(first < count)
        order = used[np.argsort(first[used])]
        new_ids = np.empty(bound, np.int64)
        new_ids[order] = np.arange(len(order))
        return new_ids[ids], len(order)
    _, first_rows, inverse = np.unique(ids, return_index=True, return_inverse=True)
    rank = np.empty(len(first_rows), np.int64)
    rank[np.argsort(first_rows)] = np.arange(len(first_rows))
    return rank[inverse], len(first_rows)


def _first_rows(ids: NDArray[np.int64], group_count: int) -> NDArray[np.int64]:
    first = np.empty(group_count, np.int64)
    first[ids[::-1]] = np.arange(len(ids) - 1, -1, -1)
    return first
