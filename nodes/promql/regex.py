"""Label matchers' regular expressions: RE2, anchored, a dot matches newlines; errors and limits in Go's words.

Compiled ones are kept, the least recently used go first. What one may take in memory is known when it is compiled
(RE2's ``max_mem``, of which most is for the states that matching finds), and is what is counted, so that an expression
that was sent once does not stay expensive.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from typing import Any

import re2

from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.promql.quoting import is_valid_text

_GO_WORDS = {
    "missing ]": "missing closing ]",
    "missing )": "missing closing )",
    "trailing \\": "trailing backslash at end of expression",
    "no argument for repetition operator": "missing argument to repetition operator",
    "invalid repetition size": "invalid repeat count",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid named capture group": "invalid named capture",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "pattern too large - compile failed": "expression too large",
}
_MEMORY_BYTES = (1 << 20, 8 << 20, 128 << 20)
"""What RE2 may take, tried in this order: nearly all are content with the first; Go compiles nothing that needs more
than the last."""
_CACHED_BYTES_MAX = 256 << 20
_META = re.compile(r"[\\.+*?()|\[\]{}^$]")
_NEST_DEPTH_MAX = 1_000  # Go's
_UNUSUAL = re.compile(r"\\C|\{[0-9]*,?[0-9]{9}|\(\?P?<[^>]*[^0-9A-Za-z_>]")
_NAMED_GROUP = re.compile(r"\(\?P?<([^>]*)>")
_GROUP_NAME = re.compile(r"[0-9A-Za-z_]+")
_REPEAT = re.compile(r"\{([0-9]+)(?:,([0-9]*))?\}")
_REPEAT_DIGITS_MAX = 8  # Go gives up reading beyond; more than 1,000 is refused by both


class RegexError(ValueError):
    """``error parsing regexp: missing closing ): `a(` ``."""


class _Cache:
    """Compiled expressions by pattern, no more than so many bytes of them. Any thread may use it."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._entries: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        return self._bytes

    def get(self, pattern: str) -> tuple[Any, int]:
        """The compiled expression and what it may take in bytes."""
        with self._lock:
            entry = self._entries.get(pattern)
            if entry is not None:
                self._entries.move_to_end(pattern)
                return entry
        entry = _compiled(pattern)
        with self._lock:
            if pattern not in self._entries:
                self._entries[pattern] = entry
                self._bytes += entry[1]
            while self._bytes > self._bytes_max:
                _, (_, size_bytes) = self._entries.popitem(last=False)
                self._bytes -= size_bytes
        return entry


_cache = _Cache(_CACHED_BYTES_MAX)


def compile_regex(pattern: str) -> Any:
    """The RE2 object of an unanchored ``pattern``; use its ``fullmatch``. RegexError where Go refuses it."""
    return _cache.get(pattern)[0]


def regex_bytes(pattern: str) -> int:
    """What the compiled expression may take in memory. RegexError as above."""
    return _cache.get(pattern)[1]


def is_literal_of_bytes(pattern: str) -> bool:
    """Whether it is plain text that is not UTF-8: nothing is wrong with that, and no label has such a value."""
    return not is_valid_text(pattern) and _META.search(pattern) is None


def _compiled(pattern: str) -> tuple[Any, int]:
    _refuse_what_only_re2_takes(pattern)
    for memory_bytes in _MEMORY_BYTES:
        options = re2.Options()
        options.dot_nl = True
        options.log_errors = False
        options.max_mem = memory_bytes
        try:
            return re2.compile(pattern, options=options), memory_bytes + 2 * len(pattern)
        except UnicodeEncodeError:
            raise RegexError("error parsing regexp: invalid UTF-8") from None
        except re2.error as error:
            message = error.args[0] if error.args else ""
            text = message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)
            if not text.startswith("pattern too large"):
                raise RegexError(_go_message(text)) from None
    raise RegexError(_go_message(f"pattern too large - compile failed: {pattern}"))


def _go_message(text: str) -> str:
    code, _, detail = text.partition(": ")
    return f"error parsing regexp: {_GO_WORDS.get(code, code)}: `{detail}`"


def _refuse_what_only_re2_takes(pattern: str) -> None:
    """``\\C``, repeat counts of nine digits and more, groups with names beyond ASCII, and a thousand parentheses in
    each other."""
    if _UNUSUAL.search(pattern) is None and pattern.count("(") < _NEST_DEPTH_MAX:
        return
    place = depth = 0
    in_class = False
    while place < len(pattern):
        character = pattern[place]
        if character == "\\":
            escaped = pattern[place + 1 : place + 2]
            if escaped == "Q" and not in_class:
                end = pattern.find("\\E", place)
                place = len(pattern) if end < 0 else end + 2
                continue
            if escaped == "C":
                raise RegexError("error parsing regexp: invalid escape sequence: `\\C`")
            place += 2
            continue
        if in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
            # A bracket that comes first, behind ^ too, is one of the characters.
            place += pattern.startswith("^", place + 1)
            place += pattern.startswith("]", place + 1)
        elif character == "(":
            depth += 1
            if depth >= _NEST_DEPTH_MAX:
                raise RegexError(f"error parsing regexp: expression nests too deeply: `{pattern}`")
            named = _NAMED_GROUP.match(pattern, place)
            if named is not None and _GROUP_NAME.fullmatch(named[1]) is None:
                raise RegexError(f"error parsing regexp: invalid named capture: `{named[0]}`")
            if named is None and pattern.startswith("(?<", place):  # looking behind, for Go a name without an end
                raise RegexError(f"error parsing regexp: invalid named capture: `{pattern[place:]}`")
        elif character == ")":
            depth -= 1
        elif character == "{":
            repeat = _REPEAT.match(pattern, place)
            if repeat is not None and any(len(count or "") > _REPEAT_DIGITS_MAX for count in repeat.groups()):
                raise RegexError(f"error parsing regexp: invalid repeat count: `{repeat[0]}`")
        place += 1


def matches(matcher: LabelMatcher, value: str) -> bool:
    """Whether a label's value (``""``: absent) passes."""
    match matcher.op:
        case MatchOp.EQUAL:
            return value == matcher.value
        case MatchOp.NOT_EQUAL:
            return value != matcher.value
        case MatchOp.REGEX:
            return compile_regex(matcher.value).fullmatch(value) is not None
    return compile_regex(matcher.value).fullmatch(value) is None
