"""PromQL text to a checked syntax tree: a Pratt parser of Prometheus 3's whole grammar.

The grammar and its error texts are those of Prometheus's promql/parser/generated_parser.y; what binds how
tightly is in ``operators``, what an expression may be combined with is checked afterwards, in ``checker``.
Deep or long queries are refused while they are read (``options``), so nothing here can run out of stack.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NoReturn

from filoray.nodes.promql.ast import (
    Aggregate,
    AtPreprocessor,
    Binary,
    Call,
    Cardinality,
    DurationExpr,
    Expr,
    MatrixSelector,
    NumberLiteral,
    Paren,
    Position,
    StringLiteral,
    Subquery,
    Unary,
    VectorMatching,
    VectorSelector,
)
from filoray.nodes.promql.checker import checked
from filoray.nodes.promql.duration_parser import Duration
from filoray.nodes.promql.durations import duration_ms_of_seconds
from filoray.nodes.promql.errors import PromqlError
from filoray.nodes.promql.function_table import AGGREGATIONS, FUNCTIONS
from filoray.nodes.promql.modifiers import (
    ModifierError,
    with_extension,
    with_offset,
    with_query_edge,
    with_timestamp,
)
from filoray.nodes.promql.operator_chain import OperatorChain
from filoray.nodes.promql.operators import MULTIPLICATIVE, PRECEDENCE
from filoray.nodes.promql.options import DEFAULT, EXPERIMENTAL, ParserOptions
from filoray.nodes.promql.positions import merge
from filoray.nodes.promql.quoting import quote, unquote
from filoray.nodes.promql.selector_parser import SelectorParser
from filoray.nodes.promql.tokens import Token, TokenKind

__all__ = ["DEFAULT", "EXPERIMENTAL", "ParserOptions", "PromqlError", "parse"]

_OFFSET_WANTED = "number, duration, step(), or range()"
_STEP_WANTED = 'number, duration, step(), range(), or "]"'
_REMEMBERED_TREES = 512
_REMEMBERED_CHARACTERS_MAX = 2_048
_Modifiers = tuple[VectorMatching, bool]
_NAMING_KINDS = (TokenKind.IDENTIFIER, TokenKind.AGGREGATOR, TokenKind.QUERY_FUNCTION)
_FILLS = ("fill", "fill_left", "fill_right")


def parse(text: str, options: ParserOptions = DEFAULT) -> Expr:
    """The checked tree of a query. Raises PromqlError (400), worded as Prometheus words it.

    ``matching`` of a Binary is set exactly when both sides are vectors, and set operators are many-to-many.
    Trees are immutable, so those of short queries are remembered: dashboards ask the same ones again and again.
    """
    return _remembered(text, options) if len(text) <= _REMEMBERED_CHARACTERS_MAX else _parsed(text, options)


def _parsed(text: str, options: ParserOptions) -> Expr:
    parser = _Parser(text, options)
    if parser.at_end():
        parser.fail(0, "no expression found in input")
    expr = parser.parse_expression()
    if not parser.at_end():
        parser.unexpected()
    return checked(expr, text)


_remembered = lru_cache(maxsize=_REMEMBERED_TREES)(_parsed)


class _Parser(SelectorParser):
    def parse_expression(self, binding: int = 0) -> Expr:
        """An expression whose operators all bind at least as tightly as ``binding``."""
        self.enter()
        chain: OperatorChain[Expr, _Modifiers] = OperatorChain(self._operand(), self._binary)
        while self.token.kind is TokenKind.OPERATOR:
            operator = self.token.word
            if PRECEDENCE.get(operator, -1) < max(binding, 0):
                break
            self.advance()
            chain.add_operator(operator, self._binary_modifiers())
            chain.add_operand(self._operand())
        tree = chain.tree()
        self.leave()
        return tree

    def _binary(self, operator: str, modifiers: _Modifiers, left: Expr, right: Expr) -> Expr:
        matching, return_bool = modifiers
        position = merge(left.position, right.position)
        if (matching.fill_left, matching.fill_right) != (None, None) and not self.options.experimental_functions:
            self.fail(position.start, "binop fill modifiers are experimental and not enabled")
        return Binary(operator, left, right, matching, return_bool, position)

    def _operand(self) -> Expr:
        """A signed operand, or a primary with the modifiers behind it."""
        token = self.token
        if token.kind is TokenKind.OPERATOR and token.text in ("+", "-"):
            return self._signed()
        if token.kind is TokenKind.PUNCTUATION and token.text == "(":
            expr: Expr = self._parenthesised()
        else:
            expr = self._leaf()
            if isinstance(expr, VectorSelector) and token.kind in _NAMING_KINDS and expr.position.end == token.end:
                if token.kind is TokenKind.AGGREGATOR and (self.at("(") or self.at_word("by", "without")):
                    expr = self._aggregate(token)
                elif token.kind is not TokenKind.AGGREGATOR and self.at("("):
                    expr = self._call(token)
        while True:
            if self.at("["):
                expr = self._range_or_subquery(expr)
            elif self.token.kind is TokenKind.KEYWORD and self.token.word == "offset":
                expr = self._offset(expr)
            elif self.token.kind is TokenKind.OPERATOR and self.token.text == "@":
                expr = self._at(expr)
            elif self.token.kind is TokenKind.KEYWORD and self.token.word in ("anchored", "smoothed"):
                expr = self._extension(expr)
            else:
                return expr

    def _signed(self) -> Expr:
        sign = self.advance()
        operand = self.parse_expression(MULTIPLICATIVE + 1)
        position = Position(sign.start, operand.position.end)
        if isinstance(operand, NumberLiteral):
            return replace(operand, value=-operand.value if sign.text == "-" else operand.value, position=position)
        return Unary(sign.text, operand, position)

    def _leaf(self) -> Expr:
        """A literal or a selector; the name of a call or an aggregation reads as a selector at first."""
        token = self.token
        if token.kind in (TokenKind.NUMBER, TokenKind.DURATION):
            self.count_term()
            return self.parse_number_or_duration()
        if token.kind is TokenKind.STRING:
            self.count_term()
            self.advance()
            return StringLiteral(unquote(token.text), token.position)
        return self.parse_vector_selector()

    def _parenthesised(self) -> Paren:
        self.count_term()
        start = self.advance().start
        inner = self.parse_expression()
        end = self.expect(")").end
        return Paren(inner, Position(start, end))

    def _aggregate(self, operator_token: Token) -> Aggregate:
        operator = operator_token.word
        self.contexts.append(("aggregation", ""))
        without, grouping = False, None
        if not self.at("("):
            without, grouping = self._grouping()
        if not self.at("("):
            self.unexpected()
        args = self._arguments()
        if grouping is None and self.at_word("by", "without"):
            without, grouping = self._grouping()
        self.contexts.pop()
        position = Position(operator_token.start, self.closing_end)
        signature = AGGREGATIONS[operator]
        if not args:
            self.fail(position.start, "no arguments for aggregate expression provided")
        if signature.experimental and not self.options.experimental_functions:
            self.fail(
                position.start,
                f"{operator}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
            )
        wanted = 1 if signature.param_type is None else 2
        if len(args) != wanted:
            self.fail(
                position.start,
                f"wrong number of arguments for aggregate expression provided, expected {wanted}, got {len(args)}",
            )
        param = args[0] if wanted == 2 else None
        return Aggregate(operator, args[-1], param, grouping or (), without, position)

    def _grouping(self) -> tuple[bool, tuple[str, ...]]:
        without = self.advance().word == "without"
        return without, self.parse_grouping_labels()

    def _call(self, name: Token) -> Call:
        function = name.word  # in lower case for the words that the lexer knows: start, end, ...
        args = self._arguments()
        signature = FUNCTIONS.get(function)
        if signature is None:
            self.fail(name.start, f"unknown function with name {quote(name.text)}")
        if signature.experimental and not self.options.experimental_functions:
            self.fail(name.start, f"function {quote(name.text)} is not enabled")
        return Call(function, args, Position(name.start, self.closing_end))

    def _arguments(self) -> tuple[Expr, ...]:
        """``(a, b)``."""
        self.expect("(")
        args: list[Expr] = []
        while not self.at(")"):
            args.append(self.parse_expression())
            if not self.at(","):
                break
            comma = self.advance()
            if self.token.kind is not TokenKind.ERROR and not self._starts_expression():
                self.fail(comma.start, "trailing commas not allowed in function call args")
        self.expect(")")
        return tuple(args)

    def _starts_expression(self) -> bool:
        match self.token.kind:
            case TokenKind.NUMBER | TokenKind.DURATION | TokenKind.STRING:
                return True
            case TokenKind.PUNCTUATION:
                return self.token.text in ("(", "{")
            case TokenKind.OPERATOR if self.token.text in ("+", "-"):
                return True
        return self.at_metric_name()

    def _binary_modifiers(self) -> tuple[VectorMatching, bool]:
        """``bool``, on/ignoring, group_left/group_right and fill, in this order."""
        return_bool = self.at_word("bool")
        if return_bool:
            self.advance()
        matching = VectorMatching()
        if self.at_word("on", "ignoring"):
            on = self.advance().word == "on"
            matching = replace(matching, on=on, labels=self.parse_grouping_labels())
            if self.at_word("group_left", "group_right"):
                left = self.advance().word == "group_left"
                include: tuple[str, ...] = ()
                may_follow = self.at_word(*_FILLS) or self._starts_expression() or self.token.kind is TokenKind.ERROR
                if self.at("(") or not may_follow:
                    include = self.parse_grouping_labels()
                cardinality = Cardinality.MANY_TO_ONE if left else Cardinality.ONE_TO_MANY
                matching = replace(matching, cardinality=cardinality, include=include)
        if self.at_word(*_FILLS):
            matching = self._fills(matching)
        return matching, return_bool

    def _fills(self, matching: VectorMatching) -> VectorMatching:
        """``fill(x)``, or ``fill_left(x)`` and ``fill_right(y)`` in either order."""
        word = self.advance().word
        value = self._fill_value()
        if word == "fill":
            return replace(matching, fill_left=value, fill_right=value)
        other = "fill_right" if word == "fill_left" else "fill_left"
        values: dict[str, float | None] = {word: value, other: None}
        if self.at_word(other):
            self.advance()
            values[other] = self._fill_value()
        return replace(matching, fill_left=values["fill_left"], fill_right=values["fill_right"])

    def _fill_value(self) -> float:
        self.expect("(")
        value = self.parse_signed_number()
        self.expect(")")
        return value

    def _offset(self, expr: Expr) -> Expr:
        self.advance()
        self.contexts.append(("offset", _OFFSET_WANTED))
        duration = self.parse_offset_duration()
        self.contexts.pop()
        try:
            return with_offset(expr, duration, self.closing_end)
        except ModifierError as error:
            self._fail_at(expr, error)

    def _at(self, expr: Expr) -> Expr:
        self.advance()
        self.contexts.append(("@", "timestamp"))
        try:
            if self.token.kind is TokenKind.QUERY_FUNCTION and self.token.word in ("start", "end"):
                edge = AtPreprocessor(self.advance().word)
                self.expect("(")
                self.expect(")")
                self.contexts.pop()
                return with_query_edge(expr, edge, self.closing_end)
            timestamp_s = self.parse_signed_number()
            self.contexts.pop()
            return with_timestamp(expr, timestamp_s, self.closing_end)
        except ModifierError as error:
            self._fail_at(expr, error)

    def _extension(self, expr: Expr) -> Expr:
        token = self.advance()
        word = token.word
        if not self.options.extended_range_selectors:
            self.fail(expr.position.start, f"{word} modifier is experimental and not enabled")
        try:
            return with_extension(expr, word, token.end)
        except ModifierError as error:
            self._fail_at(expr, error)

    def _range_or_subquery(self, expr: Expr) -> Expr:
        self.count_term()
        bracket = self.advance()
        self.contexts.append(("subquery or range selector", _OFFSET_WANTED))
        range_ = self.parse_positive_duration()
        self.contexts.pop()
        if self.at(":"):
            self.advance()
            return self._subquery(expr, range_)
        if not self.at("]"):
            self.unexpected("subquery or range", '":" or "]"')
        end = self.advance().end
        if not isinstance(expr, VectorSelector):
            self.fail(bracket.start, "ranges only allowed for vector selectors")
        if expr.time.offset_ms:
            self.fail(bracket.start, "no offset modifiers allowed before range")
        if expr.time.at_ms is not None:
            self.fail(bracket.start, "no @ modifiers allowed before range")
        range_ms, range_expr = _split(range_)
        return MatrixSelector(expr, range_ms, range_expr, Position(expr.position.start, end))

    def _subquery(self, expr: Expr, range_: Duration) -> Subquery:
        step_ms, step_expr = 0, None
        if not self.at("]"):
            self.contexts.append(("subquery selector", _STEP_WANTED))
            step_ms, step_expr = _split(self.parse_positive_duration())
            self.contexts.pop()
            if not self.at("]"):
                self.unexpected("subquery selector", '"]"')
        end = self.advance().end
        range_ms, range_expr = _split(range_)
        return Subquery(expr, range_ms, step_ms, range_expr, step_expr, position=Position(expr.position.start, end))

    def _fail_at(self, expr: Expr, error: ModifierError) -> NoReturn:
        self.fail(expr.position.start, str(error))


def _split(duration: Duration) -> tuple[int, DurationExpr | None]:
    """Milliseconds of a plain duration, or 0 and the expression that will tell."""
    if isinstance(duration, DurationExpr):
        return 0, duration
    return duration_ms_of_seconds(duration.value), None
