"""What may be combined with what: Prometheus's type checks (parse.go, checkAST), in its order, in its words.

The first offence found by a walk from the left raises. The tree that comes back is the given one, except
that a Binary has ``matching`` only between vectors, and set operators match many-to-many.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

from filoray.nodes.data.matching import METRIC_NAME, LabelMatcher
from filoray.nodes.promql.ast import (
    Aggregate,
    Binary,
    Call,
    Cardinality,
    Expr,
    MatrixSelector,
    Paren,
    Subquery,
    Unary,
    ValueType,
    VectorMatching,
    VectorSelector,
)
from filoray.nodes.promql.deep_trees import Walk, walked
from filoray.nodes.promql.errors import PromqlError
from filoray.nodes.promql.function_table import AGGREGATIONS, FUNCTIONS, FunctionSignature
from filoray.nodes.promql.operators import COMPARISONS, SET_OPERATORS
from filoray.nodes.promql.quoting import quote
from filoray.nodes.promql.regex import matches
from filoray.nodes.promql.tree_walk import with_children
from filoray.nodes.promql.types import api_name, value_type

_OPERAND_TYPES = (ValueType.SCALAR, ValueType.VECTOR)
_GROUPING_CARDINALITIES = (Cardinality.MANY_TO_ONE, Cardinality.ONE_TO_MANY)
_SPACES = b" \t\r\n"


def checked(expr: Expr, query: str) -> Expr:
    """The tree, checked. Raises PromqlError with the place in ``query``, the text it was parsed from."""
    return walked(_Checker(query).check(expr))[0]


def matches_empty(matcher: LabelMatcher) -> bool:
    """Whether a series without the label passes: such matchers alone would select everything."""
    return matches(matcher, "")


class _Checker:
    def __init__(self, query: str) -> None:
        self._query = query

    def check(self, expr: Expr) -> Walk[tuple[Expr, ValueType]]:
        match expr:
            case VectorSelector():
                self._selector(expr, needs_matcher=True)
                return expr, ValueType.VECTOR
            case MatrixSelector():
                self._selector(expr.selector, needs_matcher=True)
                return expr, ValueType.MATRIX
            case Binary():
                checked: tuple[Expr, ValueType] = yield self._binary(expr)
                return checked
            case Call():
                checked = yield self._call(expr)
                return checked
            case Aggregate():
                return (yield self._aggregate(expr)), ValueType.VECTOR
            case Paren():
                inner, type_ = yield self.check(expr.expr)
                return with_children(expr, (inner,)), type_
            case Unary():
                checked = yield self._unary(expr)
                return checked
            case Subquery():
                return (yield self._subquery(expr)), ValueType.MATRIX
        return expr, value_type(expr)

    def _fail(self, offset: int, reason: str) -> NoReturn:
        raise PromqlError(self._query, offset, reason)

    def _expect(self, expr: Expr, wanted: ValueType, context: str) -> Walk[Expr]:
        inner: Expr
        inner, found = yield self.check(expr)
        if found is not wanted:
            self._fail(expr.position.start, f"expected type {wanted.value} in {context}, got {found.value}")
        return inner

    def _aggregate(self, expr: Aggregate) -> Walk[Expr]:
        inner = yield self._expect(expr.expr, ValueType.VECTOR, "aggregation expression")
        param, param_type = expr.param, AGGREGATIONS[expr.op].param_type
        if param is not None and param_type is not None:
            param = yield self._expect(param, param_type, "aggregation parameter")
        return with_children(expr, (inner,) if param is None else (param, inner))

    def _unary(self, expr: Unary) -> Walk[tuple[Expr, ValueType]]:
        inner, type_ = yield self.check(expr.expr)
        if type_ not in _OPERAND_TYPES:
            self._fail(
                expr.position.start,
                "unary expression only allowed on expressions of type scalar or instant vector,"
                f" got {quote(type_.value)}",
            )
        return with_children(expr, (inner,)), type_

    def _subquery(self, expr: Subquery) -> Walk[Expr]:
        inner, type_ = yield self.check(expr.expr)
        if type_ is not ValueType.VECTOR:
            self._fail(
                expr.position.start, f"subquery is only allowed on instant vector, got {api_name(type_)} instead"
            )
        return with_children(expr, (inner,))

    def _binary(self, expr: Binary) -> Walk[tuple[Binary, ValueType]]:
        left, left_type = yield self.check(expr.left)
        right, right_type = yield self.check(expr.right)
        matching = expr.matching or VectorMatching()
        is_comparison = expr.op in COMPARISONS
        scalars = (left_type is ValueType.SCALAR) + (right_type is ValueType.SCALAR)
        if expr.return_bool and not is_comparison:
            self._fail(self._operator_offset(expr), "bool modifier can only be used on comparison operators")
        if is_comparison and not expr.return_bool and scalars == 2:
            self._fail(self._operator_offset(expr), "comparisons between scalars must use BOOL modifier")
        if matching.on:
            for label in matching.labels:
                if label in matching.include:
                    self._fail(
                        self._operator_offset(expr),
                        f"label {quote(label)} must not occur in ON and GROUP clause at once",
                    )
        for side, type_ in ((left, left_type), (right, right_type)):
            if type_ not in _OPERAND_TYPES:
                self._fail(side.position.start, "binary expression must contain only scalar and instant vector types")
        kept: VectorMatching | None = None
        if scalars:
            self._refuse_matching(expr, matching)
        else:
            kept = self._vector_matching(expr, matching)
        if scalars and expr.op in SET_OPERATORS:
            self._fail(expr.position.start, f"set operator {quote(expr.op)} not allowed in binary scalar expression")
        type_ = ValueType.SCALAR if scalars == 2 else ValueType.VECTOR
        return replace(expr, left=left, right=right, matching=kept), type_

    def _refuse_matching(self, expr: Binary, matching: VectorMatching) -> None:
        if matching.labels:
            self._fail(expr.position.start, "vector matching only allowed between instant vectors")
        if matching.fill_left is not None or matching.fill_right is not None:
            self._fail(expr.position.start, "filling in missing series only allowed between instant vectors")

    def _vector_matching(self, expr: Binary, matching: VectorMatching) -> VectorMatching:
        if expr.op not in SET_OPERATORS:
            return matching
        if matching.cardinality in _GROUPING_CARDINALITIES:
            self._fail(expr.position.start, f"no grouping allowed for {quote(expr.op)} operation")
        if matching.fill_left is not None or matching.fill_right is not None:
            self._fail(expr.position.start, "filling in missing series not allowed for set operators")
        return replace(matching, cardinality=Cardinality.MANY_TO_MANY)

    def _operator_offset(self, expr: Binary) -> int:
        """Where the operator stands: behind the left side and the spaces after it."""
        text = self._query.encode("utf-8", "surrogatepass")
        offset = expr.left.position.end
        while offset < len(text) and text[offset] in _SPACES:
            offset += 1
        return offset

    def _call(self, expr: Call) -> Walk[tuple[Expr, ValueType]]:
        signature = FUNCTIONS[expr.function]
        self._argument_count(expr, signature)
        selector = signature.selector_argument
        if selector is not None and len(expr.args) > selector:
            self._bare_selector(expr, expr.args[selector])
        context = f"call to function {quote(expr.function)}"
        args: list[Expr] = []
        for index, arg in enumerate(expr.args):
            if index == selector:
                args.append(arg)
                continue
            args.append((yield self._expect(arg, signature.type_of_argument(index), context)))
        return with_children(expr, args), signature.return_type

    def _argument_count(self, expr: Call, signature: FunctionSignature) -> None:
        found, function = len(expr.args), quote(expr.function)
        least, most = signature.args_min, signature.args_max
        if least == most:
            if found != least:
                self._fail(expr.position.start, f"expected {least} argument(s) in call to {function}, got {found}")
            return
        if found < least:
            self._fail(expr.position.start, f"expected at least {least} argument(s) in call to {function}, got {found}")
        if most is not None and found > most:
            self._fail(expr.position.start, f"expected at most {most} argument(s) in call to {function}, got {found}")

    def _bare_selector(self, expr: Call, selector: Expr) -> None:
        """An argument that is no vector but matchers: ``{...}``, which may match everything."""
        if (found := value_type(selector)) is not ValueType.VECTOR:
            self._fail(
                expr.position.start,
                f"expected type instant vector in call to function {quote(expr.function)}, got {found.value}",
            )
        if not isinstance(selector, VectorSelector):
            self._fail(selector.position.start, "expected label selectors only")
        if selector.name:
            self._fail(selector.position.start, "expected label selectors only, got vector selector instead")
        self._selector(selector, needs_matcher=False)

    def _selector(self, selector: VectorSelector, *, needs_matcher: bool) -> None:
        if selector.name:
            for matcher in selector.matchers[:-1]:
                if matcher.name == METRIC_NAME:
                    self._fail(
                        selector.position.start,
                        f"metric name must not be set twice: {quote(selector.name)} or {quote(matcher.value)}",
                    )
        elif needs_matcher and all(map(matches_empty, selector.matchers)):
            self._fail(selector.position.start, "vector selector must contain at least one non-empty matcher")
