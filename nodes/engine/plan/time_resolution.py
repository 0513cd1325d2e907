"""Makes an expression's times absolute: what ``@``, default steps and the query's own range mean is filled in.

After this step an expression can be evaluated anywhere without knowing the query it came from. What is the
same at every step is wrapped in StepInvariant, by the rules of Prometheus's PreprocessExpr (promql/engine.go).
Duration expressions are resolved by ``filoray.nodes.promql.duration_resolution`` before.
"""

from __future__ import annotations

from dataclasses import replace

from filoray.nodes.engine.functions.function_spec import AtGateway
from filoray.nodes.engine.functions.function_specs import spec_of
from filoray.nodes.engine.plan.info_reference import info_time
from filoray.nodes.engine.query_params import QueryParams
from filoray.nodes.promql.ast import (
    Aggregate,
    AtPreprocessor,
    Call,
    Expr,
    FragmentRef,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StepInvariant,
    StringLiteral,
    Subquery,
    TimeModifier,
    Unary,
    VectorSelector,
)
from filoray.nodes.promql.deep_trees import Walk, all_of, walked
from filoray.nodes.promql.tree_walk import children, map_children, unwrap_parens, with_children

_Wrapped = tuple[Expr, bool, bool]

FARTHEST_MS = (1 << 63) - (1 << 54)
"""How far from 1970 an ``@`` may be: offsets and ranges (292 years at most each) still fit an int64 beside it, however
deep they nest. No sample is that far off."""


def resolve_times(expr: Expr, params: QueryParams) -> Expr:
    """The expression with absolute times, constants for ``start() end() step() range()``, and StepInvariants."""
    resolved = walked(_resolve(expr, params))
    wrapped, invariant, should_wrap = walked(_wrap(resolved))
    return _step_invariant(wrapped) if invariant and should_wrap else wrapped


def _resolve(expr: Expr, params: QueryParams) -> Walk[Expr]:
    if isinstance(expr, Call) and (constant := spec_of(expr).constant) is not None:
        return NumberLiteral(constant(params), expr.position)
    if isinstance(expr, VectorSelector):
        return replace(expr, time=_resolve_time(expr.time, params))
    takes_off_parens = isinstance(expr, Call | Aggregate)
    expr = yield map_children(expr, lambda child: _resolve(unwrap_parens(child) if takes_off_parens else child, params))
    if isinstance(expr, Subquery):
        step_ms = expr.step_ms or params.default_step_ms
        return replace(expr, step_ms=step_ms, time=_resolve_time(expr.time, params))
    return expr


def _resolve_time(time: TimeModifier, params: QueryParams) -> TimeModifier:
    if time.at_edge is not None:
        at_ms = params.start_ms if time.at_edge is AtPreprocessor.START else params.end_ms
        return replace(time, at_ms=at_ms, at_edge=None)
    if time.at_ms is None or abs(time.at_ms) <= FARTHEST_MS:
        return time
    return replace(time, at_ms=FARTHEST_MS if time.at_ms > 0 else -FARTHEST_MS)


def _step_invariant(expr: Expr) -> Expr:
    inner = unwrap_parens(expr)
    if isinstance(inner, NumberLiteral | StringLiteral | StepInvariant):
        return expr
    return StepInvariant(expr, expr.position)


def _wrap(expr: Expr) -> Walk[_Wrapped]:
    """(expression with invariant parts wrapped, it is itself invariant, it may be wrapped when invariant)."""
    match expr:
        case VectorSelector():
            pinned = expr.time.at_ms is not None
            return expr, pinned, pinned
        case MatrixSelector():
            return expr, expr.selector.time.at_ms is not None, False
        case NumberLiteral() | StringLiteral():
            return expr, True, isinstance(expr, NumberLiteral)
        case FragmentRef() | StepInvariant():
            return expr, False, False
    parts: list[_Wrapped] = yield all_of(map(_wrap, children(expr)))
    match expr:
        case Subquery():
            inner, invariant, _ = parts[0]
            inner = _step_invariant(inner) if invariant else inner
            return with_children(expr, (inner,)), expr.time.at_ms is not None, False
        case Unary() | Paren() | Aggregate(param=None):
            inner, invariant, should_wrap = parts[0]
            return with_children(expr, (inner,)), invariant, should_wrap
        case Call() if spec_of(expr).at_gateway is AtGateway.INFO_SERIES:
            return _wrapped_info(expr, parts)
    depends_on_time = isinstance(expr, Call) and spec_of(expr).depends_on_time
    if not depends_on_time and all(invariant for _, invariant, _ in parts):
        return with_children(expr, [part for part, _, _ in parts]), True, True
    wrapped = [_step_invariant(part) if invariant and should_wrap else part for part, invariant, should_wrap in parts]
    return with_children(expr, wrapped), False, False


def _wrapped_info(expr: Call, parts: list[_Wrapped]) -> _Wrapped:
    """Info series are looked at as of the first argument's time; the second argument is matchers, no vector."""
    base, invariant, should_wrap = parts[0]
    if invariant and info_time(base).at_ms is not None:
        return replace(expr, args=(base, *expr.args[1:])), True, True
    base = _step_invariant(base) if invariant and should_wrap else base
    return replace(expr, args=(base, *expr.args[1:])), False, False
