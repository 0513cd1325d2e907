"""A HOCON text as a tree, before substitutions are resolved.

An object keeps, for each key, every definition in the order of the text: a later one may look back at an earlier one
(``path = ${path}":/x"``), objects merge, and an optional substitution that finds nothing leaves the earlier one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from filoray.cluster.units import PlainValue

Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Plain:
    """A text, number, boolean or null. ``text``: its characters as they are written, for joining with others.

    ``is_space``: white space between two values, which counts only between texts.
    """

    value: PlainValue
    text: str
    is_space: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """``{ … }``: the definitions of each key, in order."""

    fields: dict[str, list[Node]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """``[ … ]``"""

    items: list[Node]
    offset: int


@dataclass(frozen=True, slots=True, eq=False)
class Substitution:
    """``${path}`` or ``${?path}`` at ``offset`` of the text named ``place``.

    ``prefixes``: where the blocks are into which the text was included: paths are looked up there first.
    """

    path: Path
    is_optional: bool
    offset: int
    text: Text
    prefixes: tuple[Path, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Values side by side: ``"a"${b}c``, ``${list} [x]``, ``${base} { … }``."""

    pieces: list[Node]
    offset: int
    text: Text


@dataclass(frozen=True, slots=True, eq=False)
class Appended:
    """``key += item``"""

    item: Node
    offset: int
    text: Text


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """One text and its name; errors say where in it."""

    content: str
    place: str

    def at(self, offset: int) -> str:
        """``place:line:column``"""
        line = self.content.count("\n", 0, offset) + 1
        column = offset - (self.content.rfind("\n", 0, offset) + 1) + 1
        return f"{self.place}:{line}:{column}"


Node: TypeAlias = Plain | Block | Items | Substitution | Joined | Appended
