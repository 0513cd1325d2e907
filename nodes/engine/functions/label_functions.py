"""Functions of label sets: label_replace, label_join and sort_by_label, over distinct values where possible."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import ExecutionError
from filoray.nodes.data.frame import Frame, TimeGrid
from filoray.nodes.data.label_table import ABSENT, LabelColumn, LabelTable
from filoray.nodes.data.matching import METRIC_NAME
from filoray.nodes.engine.functions.evaluation import Evaluation, Handler, Value
from filoray.nodes.engine.functions.value_sorting import warn_of_range_sort
from filoray.nodes.engine.metric_names import merged_by_labels
from filoray.nodes.promql.ast import Call
from filoray.nodes.promql.quoting import is_valid_label_name
from filoray.nodes.promql.regex import RegexError, compile_regex

_LONG_NUMBER = 10  # digits; no regular expression has so many groups
_WORK_PER_LOOK = 10_000
_CHUNK = re.compile(r"\d+|\D+", re.ASCII)


def label_replace(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    target, template, source, pattern = (evaluation.string(arg) for arg in call.args[1:])
    try:
        regex = compile_regex(pattern)
    except RegexError:
        raise ExecutionError(f"invalid regular expression in label_replace(): {pattern}") from None
    if not is_valid_label_name(target):
        raise ExecutionError(f"invalid destination label name in label_replace(): {target}")
    frame = evaluation.vector(call.args[0], grid)
    labels = frame.labels
    column = labels.columns.get(source) or LabelColumn((), np.full(labels.count, ABSENT, np.int32))
    # One result for each distinct value; the last one is that of an absent label. None: does not match.
    parts = template_parts(template)
    room = _TextRoom(evaluation)
    results = [_replacement(regex, parts, value, room) for value in (*column.values, "")]
    matched = np.array([result is not None for result in results])[column.codes]
    if not matched.any():
        return frame
    new_labels = _with_mapped(labels, target, column, results, matched)
    drop_name = frame.drop_name & ~matched if target == METRIC_NAME else frame.drop_name
    relabelled = Frame(new_labels, frame.values, frame.valid, drop_name)
    return merged_by_labels(relabelled, at_any_step=not evaluation.delayed_names)


class _TextRoom:
    """What labels that a query makes may hold: a template that repeats a group, of a label that came of another, grows
    without end. Looks whether the query was canceled as it goes.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._unseen_work = 0

    def take(self, pieces: Sequence[str]) -> None:
        """Before they are joined. Raises LimitExceeded, and what a canceled query does."""
        self._unseen_work += 1 + len(pieces)
        if self._unseen_work >= _WORK_PER_LOOK:
            self._unseen_work = 0
            self._evaluation.cancel.check()
        self._evaluation.made_label_bytes += sum(map(len, pieces))
        self._evaluation.limits.check_label_bytes(self._evaluation.made_label_bytes)


def _replacement(regex: Any, parts: Sequence[str | Group], value: str, room: _TextRoom) -> str | None:
    match = regex.fullmatch(value)
    if match is None:
        return None
    groups = {part: _group_text(regex, match, part) for part in parts if not isinstance(part, str)}
    pieces = [part if isinstance(part, str) else groups[part] for part in parts]
    room.take(pieces)
    return "".join(pieces)


def _group_text(regex: Any, match: Any, group: Group) -> str:
    """Unknown groups and those that took no part are empty."""
    name = group.name
    if name.isascii() and name.isdigit() and (name == "0" or not name.startswith("0")):
        return (match.group(int(name)) or "") if len(name) < _LONG_NUMBER and int(name) <= regex.groups else ""
    return (match.group(name) or "") if name in regex.groupindex else ""


@dataclass(frozen=True, slots=True)
class Group:
    """A group of the match, by number or by name."""

    name: str


def template_parts(template: str) -> list[str | Group]:
    """The text and the groups of Go's Regexp.Expand: ``$1``, ``${1}``, ``$name``, and ``$$`` for a dollar sign.

    A name goes on over letters, digits and underscores of any script. A dollar sign that begins nothing is text.
    """
    parts: list[str | Group] = []
    head, *rest = template.split("$")
    parts.append(head)
    pieces = iter(rest)
    for piece in pieces:
        if not piece:
            # Two in a row, or one at the very end; what follows the second is text.
            parts += ("$", next(pieces, ""))
            continue
        braced = piece.startswith("{")
        start = end = 1 if braced else 0
        while end < len(piece) and _is_of_name(piece[end]):
            end += 1
        if end == start or (braced and not piece.startswith("}", end)):
            parts.append("$" + piece)
            continue
        parts += (Group(piece[start:end]), piece[end + braced :])
    return parts


def _is_of_name(character: str) -> bool:
    category = unicodedata.category(character)
    return category.startswith("L") or category == "Nd" or character == "_"


def _with_mapped(
    labels: LabelTable, target: str, source: LabelColumn, results: list[str | None], matched: NDArray[np.bool_]
) -> LabelTable:
    """``target`` set to each row's result where it matched."""
    dictionary: dict[str, int] = {}
    old = labels.columns.get(target)
    codes = np.full(labels.count, ABSENT, np.int32)
    if old is not None:
        dictionary.update((value, code) for code, value in enumerate(old.values))
        codes = old.codes.copy()
    new_codes = np.array(
        [dictionary.setdefault(result, len(dictionary)) if result else ABSENT for result in results], np.int32
    )
    codes[matched] = new_codes[source.codes[matched]]
    return labels.with_column(target, LabelColumn(tuple(dictionary), codes))


def label_join(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
    target, separator, *sources = (evaluation.string(arg) for arg in call.args[1:])
    for source in sources:
        if not is_valid_label_name(source):
            raise ExecutionError(f"invalid source label name in label_join(): {source}")
    if not is_valid_label_name(target):
        raise ExecutionError(f"invalid destination label name in label_join(): {target}")
    frame = evaluation.vector(call.args[0], grid)
    ids, distinct = frame.labels.keep(sources).grouped()
    room = _TextRoom(evaluation)
    joined = [
        _joined(separator, [labels.get(source, "") for source in sources], room) for labels in distinct.label_sets()
    ]
    labels = frame.labels.with_values(target, [joined[group] for group in ids.tolist()])
    drop_name = np.zeros(frame.series_count, np.bool_) if target == METRIC_NAME else frame.drop_name
    relabelled = Frame(labels, frame.values, frame.valid, drop_name)
    return merged_by_labels(relabelled, at_any_step=not evaluation.delayed_names)


def _joined(separator: str, values: list[str], room: _TextRoom) -> str:
    room.take(values)
    room.take([separator] * (len(values) - 1))
    return separator.join(values)


def sort_by_label(*, descending: bool) -> Handler:
    def handler(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
        frame = evaluation.vector(call.args[0], grid)
        if evaluation.is_range:
            warn_of_range_sort(evaluation, call)
            return frame
        by_labels = frame.labels.sorted_rows()
        rank = np.empty(frame.series_count, np.int64)
        rank[by_labels] = np.arange(frame.series_count)
        keys = [rank, *(_natural_ranks(frame.labels, evaluation.string(arg)) for arg in reversed(call.args[1:]))]
        order = np.lexsort(keys)
        return frame.take(order[::-1] if descending else order)

    return handler


def _natural_ranks(labels: LabelTable, name: str) -> NDArray[np.int64]:
    """Each row's place by one label, digits compared as numbers; an absent label is an empty string."""
    column = labels.columns.get(name)
    if column is None:
        return np.zeros(labels.count, np.int64)
    values = [*column.values, ""]
    by_value = functools.cmp_to_key(_natural_order)
    order = sorted(range(len(values)), key=lambda place: by_value(values[place]))
    ranks = np.empty(len(values), np.int64)
    ranks[order] = np.arange(len(values))
    return ranks[column.codes]


def _natural_order(left: str, right: str) -> int:
    """Prometheus's natural sort (facette/natsort): chunks of digits as numbers, others as text."""
    left_chunks, right_chunks = _CHUNK.findall(left), _CHUNK.findall(right)
    for one, other in zip(left_chunks, right_chunks, strict=False):
        if one.isdigit() and other.isdigit():
            # Not as Python's numbers, which take time as the square of their length and end at some.
            one, other = one.lstrip("0"), other.lstrip("0")
            if one != other:
                return -1 if (len(one), one) < (len(other), other) else 1
        elif one != other:
            return -1 if one < other else 1
    if len(left_chunks) != len(right_chunks):
        return -1 if len(left_chunks) < len(right_chunks) else 1
    return (left > right) - (left < right)
