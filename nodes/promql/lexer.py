"""Text to tokens, one at a time, with Prometheus's error texts (the states of promql/parser/lex.go).

Three states: statements, inside braces (words are never keywords there) and the start of a duration in
brackets. ``next_token`` never raises: bad text is an ERROR token whose ``word`` is the message, and the last
token. Numbers and durations are only cut out here; the parser says whether they mean anything.
"""

from __future__ import annotations

import re

from filoray.nodes.promql.operators import DURATION_ARITHMETIC, DURATION_CHOICES, DURATION_CONSTANTS
from filoray.nodes.promql.positions import byte_offsets
from filoray.nodes.promql.quoting import code_point, quote, quote_character
from filoray.nodes.promql.tokens import FILL_WORDS, WORD_KINDS, Token, TokenKind

_DIGITS = frozenset("0123456789")
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_ALPHANUMERIC = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789")
_SKIPPED = re.compile(r"(?:[ \t\n\r]+|#[^\r\n]*)+")
_SPACE_RUN = re.compile(r"[ \t\n\r]+")
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_DURATION_WORD = re.compile(r"[a-zA-Z_]+")
_PLAIN_NUMBER = re.compile(r"(?:[1-9][0-9]*|0)(?:\.[0-9]+)?(?![0-9a-zA-Z_.])")
_PLAIN_STRING = re.compile(r"\"[^\"\\\n\ufffd\ud800-\udfff]*\"|'[^'\\\n\ufffd\ud800-\udfff]*'")
_OPERATOR = re.compile(r"==|!=|<=|>=|</|>/|[-+*/%^<>@]")
_UNREADABLE = re.compile("[\ufffd\ud800-\udfff]")
_DURATION_WORDS = frozenset((*DURATION_CONSTANTS, *DURATION_CHOICES))
_OCTAL = frozenset("01234567")
_MAX_RUNE = 0x10FFFF


class _LexError(Exception):
    """Carries the message up to ``next_token``, which knows the position."""


class Lexer:
    """Tokens of ``text``. After an ERROR or EOF token it only repeats it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._offsets = None if text.isascii() else byte_offsets(text)
        self._start = 0  # character index where the token being read starts
        self._end = 0  # ... and where it ends so far
        self._paren_depth = 0
        self._in_braces = False
        self._in_brackets = False
        self._at_duration = False
        self._got_colon = False
        self._got_duration = False
        self._last: Token | None = None

    def next_token(self) -> Token:
        if self._last is not None:
            return self._last
        try:
            if self._in_braces:
                token = self._inside_braces()
            elif self._at_duration:
                token = self._duration_start()
            else:
                token = self._statement()
        except _LexError as error:
            start = self._byte_offset(self._start)
            token = Token(TokenKind.ERROR, "", str(error), start, start)
        if token.kind in (TokenKind.EOF, TokenKind.ERROR):
            self._last = token
        return token

    def _byte_offset(self, index: int) -> int:
        return index if self._offsets is None else self._offsets[index]

    def _peek(self) -> str:
        return self._text[self._end : self._end + 1]

    def _emit(self, kind: TokenKind, word: str | None = None) -> Token:
        text = self._text[self._start : self._end]
        token = Token(
            kind, text, text if word is None else word, self._byte_offset(self._start), self._byte_offset(self._end)
        )
        self._start = self._end
        return token

    def _emit_length(self, kind: TokenKind, length: int) -> Token:
        self._end = self._start + length
        return self._emit(kind)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        """Moves to the next token and returns its first character, empty at the end of input."""
        skipped = pattern.match(self._text, self._start)
        if skipped is not None:
            self._start = skipped.end()
        self._end = self._start
        return self._peek()

    def _statement(self) -> Token:
        first = self._skip(_SKIPPED)
        if not first:
            return self._end_of_input()
        if (first in _ALPHANUMERIC and first not in _DIGITS) or first == ":":
            return self._bracket_word(first) if self._in_brackets else self._word()
        if first in _DIGITS or (first == "." and self._text[self._end + 1 : self._end + 2] in _DIGITS):
            return self._number_or_duration()
        if first in "\"'`":
            return self._string(first)
        operator = _OPERATOR.match(self._text, self._start)
        if operator is not None:
            self._end = operator.end()
            return self._emit(TokenKind.OPERATOR)
        match first:
            case ",":
                return self._emit_length(TokenKind.PUNCTUATION, 1)
            case "=":
                return self._equals()
            case "!":
                following = self._text[self._end + 1 : self._end + 2]
                raise _LexError(f"unexpected character after '!': {quote_character(following)}")
            case "(" | ")":
                return self._parenthesis(first)
            case "{":
                self._in_braces = True
                return self._emit_length(TokenKind.PUNCTUATION, 1)
            case "[" | "]":
                return self._bracket(first)
        raise _LexError(f"unexpected character: {quote_character(first)}")

    def _end_of_input(self) -> Token:
        if self._paren_depth:
            raise _LexError("unclosed left parenthesis")
        if self._in_brackets:
            raise _LexError("unclosed left bracket")
        return self._emit(TokenKind.EOF)

    def _equals(self) -> Token:
        following = self._text[self._end + 1 : self._end + 2]
        if following == "~":
            raise _LexError("unexpected character after '=': '~'")
        return self._emit_length(TokenKind.PUNCTUATION, 1)

    def _parenthesis(self, first: str) -> Token:
        token = self._emit_length(TokenKind.PUNCTUATION, 1)
        self._paren_depth += 1 if first == "(" else -1
        if self._paren_depth < 0:
            raise _LexError("unexpected right parenthesis ')'")
        return token

    def _bracket(self, first: str) -> Token:
        if first == "[":
            if self._in_brackets:
                raise _LexError("unexpected left bracket '['")
            self._got_colon = False
            self._got_duration = False
            self._in_brackets = True
            self._at_duration = True
            return self._emit_length(TokenKind.PUNCTUATION, 1)
        if not self._in_brackets:
            raise _LexError("unexpected right bracket ']'")
        self._in_brackets = False
        self._at_duration = False
        return self._emit_length(TokenKind.PUNCTUATION, 1)

    def _bracket_word(self, first: str) -> Token:
        """A word or a colon between brackets, after a number."""
        if first == ":":
            if self._got_colon:
                raise _LexError("unexpected colon ':'")
            self._got_colon = True
            return self._emit_length(TokenKind.PUNCTUATION, 1)
        token = self._duration_word()
        if token is None:
            raise _LexError(f"unexpected character: {quote_character(first)}, expected ':'")
        return token

    def _duration_word(self) -> Token | None:
        match = _DURATION_WORD.match(self._text, self._start)
        if match is None or match[0].lower() not in _DURATION_WORDS:
            return None
        self._end = match.end()
        self._got_duration = True
        word = match[0].lower()
        return self._emit(WORD_KINDS[word], word)

    def _duration_start(self) -> Token:
        first = self._skip(_SPACE_RUN)
        if not first:
            raise _LexError("unexpected end of input in duration expression")
        if first in _DIGITS or (first == "." and self._text[self._end + 1 : self._end + 2] in _DIGITS):
            self._got_duration = True
            self._at_duration = False
            return self._number_or_duration()
        if first in "]":
            return self._bracket(first)
        if first == ":":
            token = self._emit_length(TokenKind.PUNCTUATION, 1)
            if not self._got_duration:
                raise _LexError("unexpected colon before duration in duration expression")
            if self._got_colon:
                raise _LexError("unexpected repeated colon in duration expression")
            self._got_colon = True
            return token
        if first in "()":
            return self._parenthesis(first)
        if first in DURATION_ARITHMETIC:
            return self._emit_length(TokenKind.OPERATOR, 1)
        if first == ",":
            return self._emit_length(TokenKind.PUNCTUATION, 1)
        word = self._duration_word()
        if word is None:
            raise _LexError(f"unexpected character in duration expression: {quote_character(first)}")
        return word

    def _inside_braces(self) -> Token:
        first = self._skip(_SKIPPED)
        if not first:
            raise _LexError("unexpected end of input inside braces")
        label = _LABEL.match(self._text, self._start)
        if label is not None:
            self._end = label.end()
            return self._emit(TokenKind.IDENTIFIER)
        if first in "\"'`":
            return self._string(first)
        following = self._text[self._end + 1 : self._end + 2]
        match first:
            case ",":
                return self._emit_length(TokenKind.PUNCTUATION, 1)
            case "=":
                if following == "~":
                    return self._emit_length(TokenKind.OPERATOR, 2)
                return self._emit_length(TokenKind.PUNCTUATION, 1)
            case "!":
                if following and following in "=~":
                    return self._emit_length(TokenKind.OPERATOR, 2)
                raise _LexError(f"unexpected character after '!' inside braces: {quote_character(following)}")
            case "{":
                raise _LexError("unexpected left brace '{'")
            case "}":
                self._in_braces = False
                return self._emit_length(TokenKind.PUNCTUATION, 1)
        raise _LexError(f"unexpected character inside braces: {quote_character(first)}")

    def _word(self) -> Token:
        match = _WORD.match(self._text, self._start)
        assert match is not None
        self._end = match.end()
        word = match[0].lower()
        kind = WORD_KINDS.get(word)
        if kind is None:
            return self._emit(TokenKind.METRIC_IDENTIFIER if ":" in word else TokenKind.IDENTIFIER)
        if word in FILL_WORDS and not self._before_left_parenthesis():
            return self._emit(TokenKind.IDENTIFIER)  # so that metrics of that name go on working
        return self._emit(kind, word)

    def _before_left_parenthesis(self) -> bool:
        spaces = _SPACE_RUN.match(self._text, self._end)
        after = spaces.end() if spaces is not None else self._end
        return self._text.startswith("(", after)

    def _accept(self, characters: frozenset[str] | str) -> bool:
        following = self._peek()
        if following and following in characters:
            self._end += 1
            return True
        return False

    def _number_or_duration(self) -> Token:
        plain = _PLAIN_NUMBER.match(self._text, self._start)
        if plain is not None:
            self._end = plain.end()
            return self._emit(TokenKind.NUMBER)
        if self._scan_number():
            return self._emit(TokenKind.NUMBER)
        if self._scan_rest_of_duration():
            return self._emit(TokenKind.DURATION)
        raise _LexError(f"bad number or duration syntax: {quote(self._text[self._start : self._end])}")

    def _scan_rest_of_duration(self) -> bool:
        """Reads on after the digits that are no number; whether it is a duration. Units are checked later."""
        if not self._accept("smhdwy"):
            return False
        self._accept("s")
        while self._accept(_DIGITS):
            while self._accept(_DIGITS):
                pass
            if not self._accept("smhdw"):
                return False
            self._accept("s")
        return not self._accept(_ALPHANUMERIC)

    def _scan_number(self) -> bool:
        """Reads a number in any of Go's forms; False leaves ``_end`` behind what was read so far."""
        digits = _DIGITS
        if self._accept("0") and self._accept("xX"):
            self._accept("_")
            digits = _HEX_DIGITS
        self._accept(".")
        self._accept(digits)
        got_dot = got_exponent = False
        while (following := self._peek()) and (following in digits or following in "._eE"):
            if following == ".":
                self._end += 1
                if got_dot or self._accept("_.") or digits is _HEX_DIGITS:
                    return False
                got_dot = True
            elif following in digits:
                self._end += 1
            elif following in "eE":
                self._end += 1
                if got_exponent:
                    return False
                got_exponent = True
                self._accept("+-")
                if self._accept("._eE") or not self._peek():
                    return False
            else:
                self._end += 1
                if self._accept("._eE") or not self._peek():
                    return False
        following = self._peek()
        return not following or following not in _ALPHANUMERIC

    def _string(self, delimiter: str) -> Token:
        plain = _PLAIN_STRING.match(self._text, self._start)
        if plain is not None:
            self._end = plain.end()
            return self._emit(TokenKind.STRING)
        self._end = self._start + 1
        if delimiter == "`":
            self._scan_raw_string()
        else:
            self._scan_string(delimiter)
        return self._emit(TokenKind.STRING)

    def _scan_raw_string(self) -> None:
        close = self._text.find("`", self._end)
        body_end = close if close >= 0 else len(self._text)
        if _UNREADABLE.search(self._text, self._end, body_end):
            raise _LexError("invalid UTF-8 rune")
        if close < 0:
            raise _LexError("unterminated raw string")
        self._end = close + 1

    def _scan_string(self, delimiter: str) -> None:
        while True:
            character = self._peek()
            if character in ("", "\n"):
                raise _LexError("unterminated quoted string")
            self._end += 1
            if character == delimiter:
                return
            if character == "\\":
                self._scan_escape(delimiter)
            elif _UNREADABLE.match(character):
                raise _LexError("invalid UTF-8 rune")

    def _scan_escape(self, delimiter: str) -> None:
        """Checks one escape sequence as Go's scanner does; the backslash has been read."""
        character = self._peek()
        if not character:
            raise _LexError("escape sequence not terminated")
        self._end += 1
        if character in "abfnrtv\\" or character == delimiter:
            return
        if character in _OCTAL:
            self._end -= 1
            count, base, largest = 3, 8, 255
        elif character in "xuU":
            count, base, largest = {"x": (2, 16, 255), "u": (4, 16, _MAX_RUNE), "U": (8, 16, _MAX_RUNE)}[character]
        else:
            raise _LexError(f"unknown escape sequence {code_point(character)}")
        value = 0
        for _ in range(count):
            digit = self._peek()
            if not digit:
                raise _LexError("escape sequence not terminated")
            if digit not in (_OCTAL if base == 8 else _HEX_DIGITS):
                raise _LexError(f"illegal character {code_point(digit)} in escape sequence")
            self._end += 1
            value = value * base + int(digit, base)
        if value > largest or 0xD800 <= value < 0xE000:
            raise _LexError("escape sequence is an invalid Unicode code point")
