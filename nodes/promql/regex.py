"""Label matchers' regular expressions: RE2, anchored, a dot matches newlines; errors in Go's words."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import re2

_GO_WORDS = {
    "missing ]": "missing closing ]",
    "missing )": "missing closing )",
    "trailing \\": "trailing backslash at end of expression",
    "no argument for repetition operator": "missing argument to repetition operator",
    "invalid repetition size": "invalid repeat count",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid named capture group": "invalid named capture",
    "invalid perl operator": "invalid or unsupported Perl syntax",
}
_UNFINISHED_FLAGS = re.compile(r"\(\?[imsU-]*\Z")  # RE2 calls it bad Perl syntax, Go an open parenthesis
_CACHED_REGEXES = 1_024


class RegexError(ValueError):
    """``error parsing regexp: missing closing ): `a(` ``."""


def _options() -> Any:
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    return options


_OPTIONS = _options()


@lru_cache(maxsize=_CACHED_REGEXES)
def compile_regex(pattern: str) -> Any:
    """The RE2 object of an unanchored ``pattern``; use its ``fullmatch``. RegexError where RE2 refuses it."""
    try:
        return re2.compile(pattern, options=_OPTIONS)
    except UnicodeEncodeError:
        raise RegexError("error parsing regexp: invalid UTF-8") from None
    except re2.error as error:
        raise RegexError(_go_message(error.args[0])) from None


def _go_message(message: bytes | str) -> str:
    text = message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)
    code, _, detail = text.partition(": ")
    if _UNFINISHED_FLAGS.match(detail):
        code = "missing )"
    return f"error parsing regexp: {_GO_WORDS.get(code, code)}: `{detail}`"
