"""Which series are meant: a label's name, how it is compared, and with what.

The words that queries, selectors of the API and the storage's index share. Nothing here compares: which values a
matcher accepts is found out where there are values (``memstore.label_matching``) or none (the parser's checks).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

METRIC_NAME = "__name__"
"""The label that is a metric's name."""


class MatchOp(Enum):
    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


@dataclass(frozen=True, slots=True)
class LabelMatcher:
    """``name op "value"``. Regexes are RE2 and anchored at both ends. An absent label is ``""``."""

    name: str
    op: MatchOp
    value: str
