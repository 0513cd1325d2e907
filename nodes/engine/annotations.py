"""Warnings and infos of an evaluation: kept as kind, arguments and place until the gateway renders them.

The texts, the deduplication and the caps are those of Prometheus's util/annotations. What an evaluation
on several nodes notices several times is one annotation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from filoray.nodes.promql.ast import NO_POSITION, Position

MAX_RENDERED_PER_LEVEL = 10
_UNUSUAL_NAME_HINT = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:"


class AnnotationKind(Enum):
    """Value: (is a warning, template over the arguments)."""

    INVALID_QUANTILE = (True, "quantile value should be between 0 and 1, got {0}")
    INVALID_RATIO = (True, "ratio value should be between -1 and 1, got {0}, capping to {1}")
    BAD_BUCKET_LABEL = (True, 'bucket label "le" is missing or has a malformed value of "{0}"{1}')
    INEFFECTIVE_SORT = (True, "sort is ineffective for range queries since results are always ordered by labels")
    POSSIBLE_NON_COUNTER = (False, _UNUSUAL_NAME_HINT + ' "{0}"')
    INCOMPATIBLE_TYPES = (False, 'incompatible sample types encountered for binary operator "{0}": float {0} float')
    FORCED_MONOTONICITY = (
        False,
        "input to histogram_quantile needed to be fixed for monotonicity (see "
        "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){0}, {1}",
    )
    STORAGE_WARNING = (True, "{0}")


_UNPREFIXED = (AnnotationKind.STORAGE_WARNING,)


@dataclass(frozen=True, slots=True)
class Annotation:
    """``position`` is of the query text; annotations without one (of the storage) render without a place."""

    kind: AnnotationKind
    args: tuple[str, ...] = ()
    position: Position = NO_POSITION

    def text(self, query: str) -> str:
        is_warning, template = self.kind.value
        body = template.format(*self.args)
        if self.kind in _UNPREFIXED:
            return body
        prefix = "PromQL warning: " if is_warning else "PromQL info: "
        return f"{prefix}{body}{_place(query, self.position)}"


class Annotations:
    """An ordered set of annotations."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[Annotation] = ()) -> None:
        self._items: dict[Annotation, None] = dict.fromkeys(items)

    def __iter__(self) -> Any:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Annotations) and set(self._items) == set(other._items)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Annotations({list(self._items)!r})"

    def add(self, kind: AnnotationKind, *args: str, position: Position = NO_POSITION) -> None:
        self._items[Annotation(kind, args, position)] = None

    def merge(self, other: Annotations) -> None:
        self._items.update(other._items)

    def render(self, query: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(warnings, infos) as the API shows them: sorted, at most ten of each, then how many more there are."""
        levels: dict[bool, set[str]] = {True: set(), False: set()}
        for item in self._items:
            levels[item.kind.value[0]].add(item.text(query))
        return _capped(levels[True], "warning"), _capped(levels[False], "info")

    def to_plain(self) -> list[Any]:
        return [[item.kind.name, list(item.args), item.position.start, item.position.end] for item in self._items]

    @classmethod
    def from_plain(cls, plain: list[Any]) -> Annotations:
        return cls(
            Annotation(AnnotationKind[name], tuple(args), Position(start, end)) for name, args, start, end in plain
        )


def _capped(texts: set[str], level: str) -> tuple[str, ...]:
    ordered = sorted(texts)
    rest = len(ordered) - MAX_RENDERED_PER_LEVEL
    if rest <= 0:
        return tuple(ordered)
    return (*ordered[:MAX_RENDERED_PER_LEVEL], f"{rest} more {level} annotations omitted")


def _place(query: str, position: Position) -> str:
    """`` (line:column)`` of the first byte, both from 1, columns in bytes."""
    if position.start < 0:
        return ""
    before = query.encode()[: position.start]
    line_start = before.rfind(b"\n") + 1
    return f" ({before.count(10) + 1}:{len(before) - line_start + 1})"
