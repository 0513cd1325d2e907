"""Durations in brackets and after ``offset``: plain ones, and the experimental arithmetic on them.

After ``offset`` a bare number or call ends the duration: ``foo offset -2^2`` is ``(foo offset -2)^2``, and a
sum needs parentheses. In brackets the arithmetic goes on to the closing bracket or colon.
"""

from __future__ import annotations

from dataclasses import replace

from filoray.nodes.promql.ast import DurationExpr, NumberLiteral, Position
from filoray.nodes.promql.durations import duration_out_of_range, parse_duration_ms
from filoray.nodes.promql.number_literals import parse_number
from filoray.nodes.promql.operator_chain import OperatorChain
from filoray.nodes.promql.operators import (
    DURATION_ARITHMETIC,
    DURATION_CHOICES,
    DURATION_CONSTANTS,
    MULTIPLICATIVE,
    PRECEDENCE,
    WRAPPED_DURATION,
)
from filoray.nodes.promql.positions import merge
from filoray.nodes.promql.token_reader import TokenReader
from filoray.nodes.promql.tokens import TokenKind

Duration = NumberLiteral | DurationExpr


class DurationParser(TokenReader):
    """The duration grammar; the rest of the parser builds on it."""

    def parse_number_or_duration(self) -> NumberLiteral:
        """The NUMBER or DURATION looked at, as seconds."""
        token = self.token
        if token.kind is TokenKind.NUMBER:
            try:
                value = parse_number(token.text)
            except ValueError as error:
                self.fail(token.start, f"error parsing number: {error}")
            self.advance()
            return NumberLiteral(value, token.position)
        if token.kind is TokenKind.DURATION:
            try:
                seconds = parse_duration_ms(token.text) / 1000
            except ValueError as error:
                self.fail(token.start, str(error))
            self.advance()
            return NumberLiteral(seconds, token.position, is_duration=True)
        return self.unexpected()

    def parse_signed_number(self) -> float:
        """A number or duration with an optional sign: ``@ -10``, ``fill(-1)``."""
        sign = self._sign()
        value = self.parse_number_or_duration().value
        return -value if sign == "-" else value

    def parse_positive_duration(self) -> Duration:
        """A range or step in brackets."""
        duration = self._sum(0)
        if isinstance(duration, NumberLiteral) and not duration.value > 0:
            self.fail(duration.position.start, "duration must be greater than 0")
        return duration

    def parse_offset_duration(self) -> Duration:
        """What follows ``offset``: at most one signed term, unless that starts with a parenthesis."""
        return self._sum(0) if self.at("(") else self._signed_term(None)

    def _sign(self) -> str:
        if self.token.kind is TokenKind.OPERATOR and self.token.text in ("+", "-"):
            return self.advance().text
        return ""

    def _sum(self, binding: int) -> Duration:
        """Terms and operators that bind at least as tightly as ``binding``."""
        self.enter()
        chain: OperatorChain[Duration, Position] = OperatorChain(self._signed_term(MULTIPLICATIVE + 1), self._combined)
        while self.token.kind is TokenKind.OPERATOR and self.token.text in DURATION_ARITHMETIC:
            operator = self.token.text
            if PRECEDENCE[operator] < binding:
                break
            position = self.advance().position
            chain.add_operator(operator, position)
            chain.add_operand(self._signed_term(MULTIPLICATIVE + 1))
        self.leave()
        return chain.tree()

    def _combined(self, operator: str, position: Position, left: Duration, right: Duration) -> Duration:
        self._require_experimental(left)
        if operator in "/%" and isinstance(right, NumberLiteral) and right.value == 0:
            self.fail(position.start, "division by zero" if operator == "/" else "modulo by zero")
        return DurationExpr(operator, left, right, position=merge(left.position, right.position))

    def _signed_term(self, operand_binding: int | None) -> Duration:
        """A term with an optional sign, whose operand takes operators from ``operand_binding`` up (None: none)."""
        sign = self.token
        if not self._sign():
            return self._term()
        self.enter()
        operand = self._signed_term(None) if operand_binding is None else self._sum(operand_binding)
        self.leave()
        position = merge(sign.position, operand.position)
        if isinstance(operand, NumberLiteral):
            value = -operand.value if sign.text == "-" else operand.value
            return replace(operand, value=value, position=position)
        if sign.text == "+":
            return operand
        return DurationExpr("-", None, operand, position=position)

    def _term(self) -> Duration:
        self.count_term()
        token = self.token
        if token.kind in (TokenKind.NUMBER, TokenKind.DURATION):
            literal = self.parse_number_or_duration()
            if duration_out_of_range(literal.value):
                self.fail(token.start, "duration out of range")
            return literal
        if self.at("("):
            return self._duration_in_parentheses()
        if self.at_word(*DURATION_CONSTANTS):
            self.advance()
            self.expect("(")
            end = self.expect(")").end
            constant = DurationExpr(token.word, None, None, position=Position(token.start, end))
            self._require_experimental(constant)
            return constant
        if self.at_word(*DURATION_CHOICES):
            return self._choice()
        return self.unexpected()

    def _duration_in_parentheses(self) -> DurationExpr:
        start = self.advance().start
        inner = self._sum(0)
        end = self.expect(")").end
        self._require_experimental(inner)
        position = Position(start, end)
        if isinstance(inner, DurationExpr) and not inner.wrapped:
            return replace(inner, wrapped=True, position=position)
        return DurationExpr(WRAPPED_DURATION, None, inner, wrapped=True, position=position)

    def _choice(self) -> DurationExpr:
        token = self.advance()
        self.expect("(")
        left = self._sum(0)
        self.expect(",")
        right = self._sum(0)
        end = self.expect(")").end
        choice = DurationExpr(DURATION_CHOICES[token.word], left, right, position=Position(token.start, end))
        self._require_experimental(choice)
        return choice

    def _require_experimental(self, duration: Duration) -> None:
        if not self.options.duration_expressions:
            self.fail(duration.position.start, "experimental duration expression is not enabled")
