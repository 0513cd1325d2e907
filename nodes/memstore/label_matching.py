"""Which values of a label a matcher accepts.

Regular expressions are RE2's, anchored at both ends, and ``.`` matches newlines (Prometheus's
``^(?s:...)$``). Literal alternations and ``prefix.*`` need no regex engine.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import BadData
from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.promql.regex import RegexError, compile_regex, regex_bytes

_CACHED_PATTERNS_MAX = 256
_CACHED_CODES_MAX = 1 << 21
"""Of all patterns together, 8 MB: an alternation of pods matches a few, ``.+`` on a label with request ids all."""
_CACHED_REGEX_BYTES_MAX = 256 << 20
_META = re.compile(r"[\\.+*?()|\[\]{}^$]")
_ESCAPED_PUNCTUATION = re.compile(r"\\([.\-/:_+*?()|\[\]{}^$\\])")

Accepts = Callable[[str], bool]


def compile_anchored(pattern: str) -> Accepts:
    """Raises BadData if the pattern is none."""
    try:
        fullmatch = compile_regex(pattern).fullmatch
    except RegexError as error:
        raise BadData(str(error)) from None
    return lambda value: fullmatch(value) is not None


def literals_of(pattern: str) -> list[str] | None:
    """The strings of ``a|b|c`` if the pattern is nothing else, in order and each once."""
    literals: list[str] = []
    for part in pattern.split("|"):
        literal = _literal(part)
        if literal is None:
            return None
        literals.append(literal)
    return list(dict.fromkeys(literals))


def prefix_of(pattern: str) -> tuple[str, int] | None:
    """(prefix, fewest characters after it) of ``prefix.*`` or ``prefix.+``."""
    if len(pattern) < 2 or pattern[-2:] not in (".*", ".+") or pattern[-3:-2] == "\\":
        return None
    prefix = _literal(pattern[:-2])
    return None if prefix is None else (prefix, int(pattern[-1] == "+"))


def _literal(text: str) -> str | None:
    plain = _ESCAPED_PUNCTUATION.sub("", text)
    if _META.search(plain):
        return None
    return _ESCAPED_PUNCTUATION.sub(r"\1", text)


@dataclass(frozen=True, slots=True)
class _Seen:
    """``accepts`` was asked about ``checked`` values; ``codes`` matched. ``regex_bytes``: what it may take."""

    accepts: Accepts
    regex_bytes: int
    checked: int
    codes: NDArray[np.int32]


class RegexMatches:
    """Remembers, per label and pattern, which values match; asks only for those that are new since."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[int, str], _Seen] = OrderedDict()
        self._code_count = 0
        self._regex_bytes = 0

    def matching_codes(self, name_id: int, pattern: str, values: Sequence[str]) -> NDArray[np.int32]:
        """Codes (places in ``values``, which only grows between two ``clear``) of the values that match."""
        seen = self._forget(name_id, pattern) or _Seen(value_test(pattern), _test_bytes(pattern), 0, _NO_CODES)
        codes = seen.codes
        if seen.checked < len(values):
            fresh = values[seen.checked :] if seen.checked else values
            more = [code for code, value in enumerate(fresh, seen.checked) if seen.accepts(value)]
            if more:
                codes = np.concatenate([codes, np.array(more, np.int32)])
        self._seen[name_id, pattern] = _Seen(seen.accepts, seen.regex_bytes, len(values), codes)
        self._code_count += len(codes)
        self._regex_bytes += seen.regex_bytes
        while (
            len(self._seen) > _CACHED_PATTERNS_MAX
            or self._code_count > _CACHED_CODES_MAX
            or self._regex_bytes > _CACHED_REGEX_BYTES_MAX
        ):
            self._forget(*next(iter(self._seen)))
        return codes

    def _forget(self, name_id: int, pattern: str) -> _Seen | None:
        seen = self._seen.pop((name_id, pattern), None)
        if seen is not None:
            self._code_count -= len(seen.codes)
            self._regex_bytes -= seen.regex_bytes
        return seen

    def checked_count(self, name_id: int, pattern: str) -> int:
        """Of how many values it is known whether they match."""
        seen = self._seen.get((name_id, pattern))
        return 0 if seen is None else seen.checked

    def remember(self, name_id: int, pattern: str, accepts: Accepts, checked: int, codes: NDArray[np.int32]) -> None:
        """What was found beside ``matching_codes``: of the first ``checked`` values those with ``codes`` match."""
        self._forget(name_id, pattern)
        seen = self._seen[name_id, pattern] = _Seen(accepts, _test_bytes(pattern), checked, codes)
        self._code_count += len(codes)
        self._regex_bytes += seen.regex_bytes

    def clear(self) -> None:
        self._seen.clear()
        self._code_count = self._regex_bytes = 0

    @property
    def nbytes(self) -> int:
        """Without the compiled expressions, which all shards of a process share."""
        return 4 * self._code_count + 1000 * len(self._seen)


_NO_CODES: NDArray[np.int32] = np.empty(0, np.int32)


def value_test(pattern: str) -> Accepts:
    """The quickest test for an anchored pattern."""
    prefix = prefix_of(pattern)
    if prefix is not None:
        start, more = prefix
        return lambda value: value.startswith(start) and len(value) >= len(start) + more
    return compile_anchored(pattern)


def _test_bytes(pattern: str) -> int:
    return 0 if prefix_of(pattern) is not None else regex_bytes(pattern)


def accepts_absent(matcher: LabelMatcher) -> bool:
    """Whether the matcher accepts ``""``, that is, a series without the label."""
    if matcher.op is MatchOp.EQUAL:
        return matcher.value == ""
    if matcher.op is MatchOp.NOT_EQUAL:
        return matcher.value != ""
    matches = value_test(matcher.value)("")
    return matches if matcher.op is MatchOp.REGEX else not matches
