"""What all parts of the parser stand on: one token of lookahead, the limits, and the ``unexpected`` errors.

Prometheus's grammar has 24 places that can take an ``error`` token, each with its own words; a syntax error is
reported by the innermost one that is still open when it happens. ``contexts`` is that stack: grammar parts
push their words while they are open. The first error ends the parse: Prometheus collects more, but shows
the first only.
"""

from __future__ import annotations

from typing import NoReturn

from filoray.nodes.promql.deep_trees import make_room
from filoray.nodes.promql.errors import PromqlError
from filoray.nodes.promql.lexer import Lexer
from filoray.nodes.promql.options import ParserOptions
from filoray.nodes.promql.tokens import Token, TokenKind

_CLOSING = frozenset((")", "]", "}"))


class TokenReader:
    """``token`` is the one to look at; ``closing_end`` the byte offset behind the last number or closing bracket."""

    def __init__(self, text: str, options: ParserOptions) -> None:
        self.text = text
        self.options = options
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > options.max_query_bytes:
            raise PromqlError(
                text,
                0,
                f"query has {size} bytes, more than the limit of {options.max_query_bytes} "
                "(filoray.query.max-query-size)",
            )
        self._lexer = Lexer(text)
        self._terms = 0
        self._nesting = 0
        self._regex_bytes = 0
        self.contexts: list[tuple[str, str]] = []
        self.closing_end = 0
        self.token = self._lexer.next_token()

    def advance(self) -> Token:
        """The token looked at; moves on to the next one."""
        token = self.token
        if token.kind in (TokenKind.NUMBER, TokenKind.DURATION) or (
            token.kind is TokenKind.PUNCTUATION and token.text in _CLOSING
        ):
            self.closing_end = token.end
        self.token = self._lexer.next_token()
        return token

    def at(self, punctuation: str) -> bool:
        """Whether the token looked at is this bracket, comma, colon or equals sign."""
        return self.token.kind is TokenKind.PUNCTUATION and self.token.text == punctuation

    def at_end(self) -> bool:
        return self.token.kind is TokenKind.EOF

    def at_word(self, *words: str) -> bool:
        """Whether the token looked at is one of these reserved words (or operators)."""
        return self.token.word in words and self.token.kind in (
            TokenKind.KEYWORD,
            TokenKind.OPERATOR,
            TokenKind.AGGREGATOR,
            TokenKind.QUERY_FUNCTION,
        )

    def expect(self, punctuation: str) -> Token:
        if not self.at(punctuation):
            self.unexpected()
        return self.advance()

    def fail(self, offset: int, reason: str) -> NoReturn:
        raise PromqlError(self.text, offset, reason)

    def unexpected(self, context: str | None = None, expected: str = "") -> NoReturn:
        """Reports the token looked at, in the words of the innermost open context unless some are given."""
        token = self.token
        if token.kind is TokenKind.ERROR:
            self.fail(token.start, token.word)
        if context is None:
            context, expected = self.contexts[-1] if self.contexts else ("", "")
        where = f" in {context}" if context else ""
        wanted = f", expected {expected}" if expected else ""
        self.fail(token.start, f"unexpected {token.describe()}{where}{wanted}")

    def count_term(self) -> None:
        """One more leaf, call, parenthesis or subquery."""
        self._terms += 1
        if self._terms > self.options.max_terms:
            self.fail(self.token.start, f"query has more than {self.options.max_terms} terms (filoray.query.max-terms)")

    def enter(self) -> None:
        """One level deeper into brackets, calls or signs; pair with ``leave``. The terms of a chain are one level."""
        self._nesting += 1
        if self._nesting > self.options.max_depth:
            self.fail(
                self.token.start, f"query nests deeper than {self.options.max_depth} levels (filoray.query.max-depth)"
            )
        make_room(self._nesting)

    def leave(self) -> None:
        self._nesting -= 1
