"""HOCON's characters to tokens: https://github.com/lightbend/config/blob/main/HOCON.md, "Syntax".

One pass, each token by one regular expression that never goes back: linear in the text. A number is a word here; what
is a number and what a text is decided where a value stands alone.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass

from filoray.cluster.config.hocon_tree import Path, Text
from filoray.cluster.config.parse_budget import ParseBudget
from filoray.cluster.errors import ConfigError


class Kind(enum.Enum):
    NEWLINE = "the end of the line"
    SPACE = "white space"
    WORD = "a word"
    QUOTED = "a quoted text"
    SUBSTITUTION = "a substitution"
    SIGN = "a sign"
    END = "the end of the text"


@dataclass(frozen=True, slots=True)
class Token:
    """``text``: a word's or sign's characters, a quoted text without quotes and escapes, a substitution's inside."""

    kind: Kind
    text: str
    offset: int


_TOKEN = re.compile(
    r"""
    (?P<newline>      \n )
  | (?P<space>        (?: [^\S\n] | \ufeff )+ )
  | (?P<comment>      (?: \# | // ) [^\n]* )
  | (?P<raw>          \"\"\" .*? \"\"\" "* )
  | (?P<quoted>       "(?!"") [^"\\\x00-\x1f]* (?: \\. [^"\\\x00-\x1f]* )* " )
  | (?P<substitution> \$\{ (?: "(?: [^"\\\n] | \\. )*" | [^"}\n] )* \} )
  | (?P<word>         (?: [^\s\ufeff$"{}\[\]:=,+\#`^?!@*&\\/] | /(?!/) | (?<=[0-9.][eE])\+(?=[0-9]) )+ )
  | (?P<sign>         \+= | [{}\[\]:=,] )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_KINDS = {"newline": Kind.NEWLINE, "space": Kind.SPACE, "word": Kind.WORD, "sign": Kind.SIGN}


def tokens(text: Text, budget: ParseBudget, start: int = 0, end: int | None = None) -> Iterator[Token]:
    """Comments are left out; the last token is END, again and again. Raises ConfigError for what is no token."""
    content = text.content
    offset = start
    end = len(content) if end is None else end
    while offset < end:
        match = _TOKEN.match(content, offset, end)
        budget.step()
        if match is None:
            raise ConfigError(f"{text.at(offset)}: cannot be parsed: {_problem(content, offset)}")
        group, found = str(match.lastgroup), match[0]
        if group in _KINDS:
            yield Token(_KINDS[group], found, offset)
        elif group == "raw":
            yield Token(Kind.QUOTED, found[3:-3], offset)
        elif group == "quoted":
            yield Token(Kind.QUOTED, _unescaped(found[1:-1], text, offset), offset)
        elif group == "substitution":
            yield Token(Kind.SUBSTITUTION, found[2:-1], offset)
        offset = match.end()
    while True:
        yield Token(Kind.END, "", offset)


def path_of(parts: list[Token], text: Text) -> Path:
    """``a."b.c".d`` as keys. ``parts``: words, quoted texts and the spaces between them, which belong to the keys."""
    keys: list[str] = []
    current, is_begun = "", False
    for part in parts:
        if part.kind is Kind.QUOTED:
            current, is_begun = current + part.text, True
            continue
        first, *others = part.text.split(".")
        current, is_begun = current + first, is_begun or bool(first)
        for other in others:
            if not is_begun:
                raise ConfigError(f"{text.at(part.offset)}: cannot be parsed: a key has nothing before its '.'")
            keys.append(current)
            current, is_begun = other, bool(other)
    if not is_begun:
        offset = parts[-1].offset if parts else 0
        raise ConfigError(
            f"{text.at(offset)}: cannot be parsed: a key is empty, or ends in '.'; quote it if it is meant"
        )
    return *keys, current


def _unescaped(inside: str, text: Text, offset: int) -> str:
    if "\\" not in inside:
        return inside

    def character(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] == "u" and len(code) == 5:
            return chr(int(code[1:], 16))
        if code not in _ESCAPES:
            where = text.at(offset + 1 + match.start())
            raise ConfigError(f"{where}: cannot be parsed: \\{code} is no escape; a backslash is \\\\")
        return _ESCAPES[code]

    unescaped = _ESCAPE.sub(character, inside)
    return _SURROGATES.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), unescaped)


def _problem(content: str, offset: int) -> str:
    rest = content[offset : offset + 40].split("\n")[0]
    if rest.startswith('"""'):
        return 'a text that begins with """ has no end'
    if rest.startswith('"'):
        return f"{rest!r} is a text that has no end on its line, or a control character (write \\n, \\t or \\u00..)"
    if rest.startswith("${"):
        return f"{rest!r} is a substitution that has no end"
    return f"unexpected {rest!r}; a text with {rest[0]!r} must be quoted"
