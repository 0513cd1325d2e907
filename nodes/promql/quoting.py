r"""Go's string literals, which are PromQL's: quoting for messages and printing, unquoting for parsing.

A literal may spell bytes that are not UTF-8 (``"\xc5"``). Those become lone surrogates (U+DC80 + byte - 0x80,
Python's ``surrogateescape``), so that nothing is lost and ``quote`` writes them back as ``\xc5``. Such text must
not go to JSON or to an index: ``valid_text`` replaces them by U+FFFD first, as Go's JSON encoder does.
"""

from __future__ import annotations

import re

_ESCAPES = {
    "a": b"\a",
    "b": b"\b",
    "f": b"\f",
    "n": b"\n",
    "r": b"\r",
    "t": b"\t",
    "v": b"\v",
    "\\": b"\\",
    "'": b"'",
    '"': b'"',
}
_ESCAPE_OF = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\"}
_ESCAPE_SEQUENCE = re.compile(r"\\(?:([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_LEGACY_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")


def quote(text: str) -> str:
    """``strconv.Quote``: double quotes, Go escapes; and U+FFFD escaped, which the lexer takes for damaged text."""
    escaped = _escaped(text, '"').replace("\N{REPLACEMENT CHARACTER}", r"\ufffd")
    return f'"{escaped}"'


def quote_character(character: str) -> str:
    """``%q`` of a rune: ``'x'``; the end of input (``""``) is Go's rune -1, which shows as U+FFFD."""
    return f"'{_escaped(character or chr(0xFFFD), chr(39))}'"


def code_point(character: str) -> str:
    """``%#U`` of a rune: ``U+0041 'A'``."""
    shown = f" '{character}'" if character.isprintable() else ""
    return f"U+{ord(character):04X}{shown}"


def _escaped(text: str, delimiter: str) -> str:
    if text.isprintable() and "\\" not in text and delimiter not in text:
        return text
    return "".join(_escaped_character(one, delimiter) for one in text)


def _escaped_character(character: str, delimiter: str) -> str:
    if character == delimiter:
        return "\\" + character
    if character in _ESCAPE_OF:
        return _ESCAPE_OF[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unquote(literal: str) -> str:
    """The value of a literal that the lexer has accepted, quotes included: ``"a\\n"``, ``'a'`` or a raw string."""
    body = literal[1:-1]
    if literal[0] == "`" or "\\" not in body:
        return body
    parts: list[bytes] = []
    end = 0
    for match in _ESCAPE_SEQUENCE.finditer(body):
        parts.append(body[end : match.start()].encode())
        parts.append(_unescaped(match))
        end = match.end()
    parts.append(body[end:].encode())
    return b"".join(parts).decode("utf-8", "surrogateescape")


def _unescaped(match: re.Match[str]) -> bytes:
    octal, byte, short, long, single = match.groups()
    if octal is not None:
        return bytes([int(octal, 8)])
    if byte is not None:
        return bytes([int(byte, 16)])
    if single is not None:
        return _ESCAPES[single]
    return chr(int(short or long, 16)).encode()


def valid_text(text: str) -> str:
    """``text`` with what is not UTF-8 replaced by U+FFFD."""
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def is_valid_text(text: str) -> bool:
    return _SURROGATE.search(text) is None


def is_legacy_label_name(name: str) -> bool:
    """Whether a label name needs no quotes in PromQL text."""
    return _LEGACY_LABEL_NAME.match(name) is not None


def is_valid_label_name(name: str) -> bool:
    """Whether ``name`` may be a label name under Prometheus's UTF-8 rules: not empty, valid UTF-8."""
    return bool(name) and is_valid_text(name)


def label_name_text(name: str) -> str:
    """A label name as it stands in PromQL text: quoted where it must be."""
    return name if is_legacy_label_name(name) else quote(name)
