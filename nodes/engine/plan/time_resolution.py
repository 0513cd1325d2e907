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
    Binary,
    Call,
    Expr,
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
from filoray.nodes.promql.subtrees import unwrap_parens

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
    match expr:
        case VectorSelector():
            return replace(expr, time=_resolve_time(expr.time, params))
        case MatrixSelector():
            return replace(expr, selector=replace(expr.selector, time=_resolve_time(expr.selector.time, params)))
        case Subquery():
            return replace(
                expr,
                expr=(yield _resolve(expr.expr, params)),
                step_ms=expr.step_ms or params.default_step_ms,
                time=_resolve_time(expr.time, params),
            )
        case Call():
            constant = spec_of(expr).constant
            if constant is not None:
                return NumberLiteral(constant(params), expr.position)
            args = yield all_of(_resolve(unwrap_parens(arg), params) for arg in expr.args)
            return replace(expr, args=tuple(args))
        case Aggregate():
            param = None if expr.param is None else (yield _resolve(unwrap_parens(expr.param), params))
            return replace(expr, expr=(yield _resolve(unwrap_parens(expr.expr), params)), param=param)
        case Binary():
            left = yield _resolve(expr.left, params)
            return replace(expr, left=left, right=(yield _resolve(expr.right, params)))
        case Unary() | Paren():
            return replace(expr, expr=(yield _resolve(expr.expr, params)))
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
        case Subquery():
            inner, invariant, _ = yield _wrap(expr.expr)
            pinned = expr.time.at_ms is not None
            return replace(expr, expr=_step_invariant(inner) if invariant else inner), pinned, False
        case Aggregate():
            inner, invariant, should_wrap = yield _wrap(expr.expr)
            if expr.param is None:
                return replace(expr, expr=inner), invariant, should_wrap
            param, param_invariant, param_wrap = yield _wrap(expr.param)
            if invariant and param_invariant:
                return replace(expr, expr=inner, param=param), True, True
            inner = _step_invariant(inner) if invariant and should_wrap else inner
            param = _step_invariant(param) if param_invariant and param_wrap else param
            return replace(expr, expr=inner, param=param), False, False
        case Binary():
            left, left_invariant, left_wrap = yield _wrap(expr.left)
            right, right_invariant, right_wrap = yield _wrap(expr.right)
            if left_invariant and right_invariant:
                return replace(expr, left=left, right=right), True, True
            left = _step_invariant(left) if left_invariant and left_wrap else left
            right = _step_invariant(right) if right_invariant and right_wrap else right
            return replace(expr, left=left, right=right), False, False
        case Call():
            parts: list[_Wrapped] = yield all_of(map(_wrap, expr.args))
            spec = spec_of(expr)
            if spec.at_gateway is AtGateway.INFO_SERIES:
                return _wrapped_info(expr, parts)
            if not spec.depends_on_time and all(invariant for _, invariant, _ in parts):
                return replace(expr, args=tuple(part[0] for part in parts)), True, True
            args = tuple(
                _step_invariant(arg) if invariant and should_wrap else arg for arg, invariant, should_wrap in parts
            )
            return replace(expr, args=args), False, False
        case Unary() | Paren():
            inner, invariant, should_wrap = yield _wrap(expr.expr)
            return replace(expr, expr=inner), invariant, should_wrap
        case NumberLiteral() | StringLiteral():
            return expr, True, isinstance(expr, NumberLiteral)
    return expr, False, False


def _wrapped_info(expr: Call, parts: list[_Wrapped]) -> _Wrapped:
    """Info series are looked at as of the first argument's time; the second argument is matchers, no vector."""
    base, invariant, should_wrap = parts[0]
    if invariant and info_time(base).at_ms is not None:
        return replace(expr, args=(base, *expr.args[1:])), True, True
    base = _step_invariant(base) if invariant and should_wrap else base
    return replace(expr, args=(base, *expr.args[1:])), False, False
