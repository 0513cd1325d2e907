"""The syntax tree of PromQL: plain frozen records with the positions they came from.

Times are milliseconds. Positions are byte offsets into the UTF-8 query text, as Prometheus counts
them, half-open. The shapes follow Prometheus's parser (promql/parser/ast.go) so that its error texts,
its formatter and its ``parse_query`` answer can be produced from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from filoray.nodes.data.matching import LabelMatcher

NO_POSITION_OFFSET = -1


class ValueType(Enum):
    """What an expression evaluates to; the values are Prometheus's names in messages."""

    SCALAR = "scalar"
    VECTOR = "instant vector"
    MATRIX = "range vector"
    STRING = "string"


@dataclass(frozen=True, slots=True)
class Position:
    start: int
    end: int


NO_POSITION = Position(NO_POSITION_OFFSET, NO_POSITION_OFFSET)


class AtPreprocessor(Enum):
    """``@ start()`` and ``@ end()``: resolved when the query's range is known."""

    START = "start"
    END = "end"


@dataclass(frozen=True, slots=True)
class NumberLiteral:
    value: float
    position: Position = NO_POSITION
    is_duration: bool = False  # written as 5m: printed back as a duration


@dataclass(frozen=True, slots=True)
class StringLiteral:
    value: str
    position: Position = NO_POSITION


@dataclass(frozen=True, slots=True)
class DurationExpr:
    """An arithmetic duration such as ``[5m * 2]`` or ``offset step()`` (experimental syntax).

    ``op`` is one of ``+ - * / % ^ step range min max`` or ``()`` for a wrapped one; operands are
    NumberLiteral or DurationExpr; unary operators have ``left`` None.
    """

    op: str
    left: DurationExpr | NumberLiteral | None
    right: DurationExpr | NumberLiteral | None
    wrapped: bool = False
    position: Position = NO_POSITION


@dataclass(frozen=True, slots=True)
class TimeModifier:
    """``offset`` and ``@``. ``at_ms`` and ``at_edge`` exclude each other; ``offset_expr`` is experimental."""

    offset_ms: int = 0
    offset_expr: DurationExpr | None = None
    at_ms: int | None = None
    at_edge: AtPreprocessor | None = None

    @property
    def is_pinned(self) -> bool:
        return self.at_ms is not None or self.at_edge is not None


@dataclass(frozen=True, slots=True)
class VectorSelector:
    """``name{matchers}``: the newest sample within the lookback. ``matchers`` includes ``__name__`` if named."""

    name: str
    matchers: tuple[LabelMatcher, ...]
    time: TimeModifier = TimeModifier()
    position: Position = NO_POSITION
    anchored: bool = False  # experimental
    smoothed: bool = False  # experimental


@dataclass(frozen=True, slots=True)
class MatrixSelector:
    """``selector[range]``: the samples of the left-open window (t - range, t]. The modifiers are the selector's."""

    selector: VectorSelector
    range_ms: int
    range_expr: DurationExpr | None = None
    position: Position = NO_POSITION


@dataclass(frozen=True, slots=True)
class Subquery:
    """``expr[range:step]``; ``step_ms`` 0 means the default evaluation interval."""

    expr: Expr
    range_ms: int
    step_ms: int = 0
    range_expr: DurationExpr | None = None
    step_expr: DurationExpr | None = None
    time: TimeModifier = TimeModifier()
    position: Position = NO_POSITION


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    args: tuple[Expr, ...]
    position: Position = NO_POSITION


@dataclass(frozen=True, slots=True)
class Aggregate:
    """``op by|without (grouping) (param, expr)``; ``op`` is in lower case."""

    op: str
    expr: Expr
    param: Expr | None = None
    grouping: tuple[str, ...] = ()
    without: bool = False
    position: Position = NO_POSITION


class Cardinality(Enum):
    ONE_TO_ONE = "one-to-one"
    MANY_TO_ONE = "many-to-one"  # group_left
    ONE_TO_MANY = "one-to-many"  # group_right
    MANY_TO_MANY = "many-to-many"  # and, or, unless


@dataclass(frozen=True, slots=True)
class VectorMatching:
    """How the sides of a vector-vector operation pair up. ``fill_*`` are the fill modifiers' values."""

    cardinality: Cardinality = Cardinality.ONE_TO_ONE
    labels: tuple[str, ...] = ()
    on: bool = False
    include: tuple[str, ...] = ()
    fill_left: float | None = None
    fill_right: float | None = None


@dataclass(frozen=True, slots=True)
class Binary:
    """``left op right``; ``matching`` is set exactly when both sides are vectors."""

    op: str
    left: Expr
    right: Expr
    matching: VectorMatching | None = None
    return_bool: bool = False
    position: Position = NO_POSITION


@dataclass(frozen=True, slots=True)
class Unary:
    op: str
    expr: Expr
    position: Position = NO_POSITION


@dataclass(frozen=True, slots=True)
class Paren:
    expr: Expr
    position: Position = NO_POSITION


@dataclass(frozen=True, slots=True)
class StepInvariant:
    """Put in by the planner around what is the same at every step (``@``): evaluated once, then repeated."""

    expr: Expr
    position: Position = NO_POSITION


@dataclass(frozen=True, slots=True)
class FragmentRef:
    """Put in by the planner where the nodes' answer to ``ExecPlan.fragments[index]`` takes a subtree's place."""

    index: int
    type: ValueType
    position: Position = NO_POSITION


Expr = (
    NumberLiteral
    | StringLiteral
    | VectorSelector
    | MatrixSelector
    | Subquery
    | Call
    | Aggregate
    | Binary
    | Unary
    | Paren
    | StepInvariant
    | FragmentRef
)
