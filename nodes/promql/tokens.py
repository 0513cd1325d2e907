"""The tokens of PromQL and how error messages name them (Prometheus's promql/parser/lex.go)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from filoray.nodes.promql.ast import Position
from filoray.nodes.promql.function_table import AGGREGATIONS
from filoray.nodes.promql.quoting import quote

_SHOWN_CHARACTERS_MAX = 10


class TokenKind(Enum):
    EOF = "end of input"
    ERROR = "error"
    IDENTIFIER = "identifier"
    METRIC_IDENTIFIER = "metric identifier"  # with a colon: cannot be a label or a function
    STRING = "string"
    NUMBER = "number"
    DURATION = "duration"
    OPERATOR = "operator"  # + - * / % ^ == != < <= > >= =~ !~ </ >/ @ and or unless atan2
    PUNCTUATION = "punctuation"  # ( ) { } [ ] , = :
    AGGREGATOR = "aggregator"
    KEYWORD = "keyword"
    QUERY_FUNCTION = "query function"  # start end step range min_of max_of: words with a meaning in some places


AGGREGATOR_WORDS = frozenset(AGGREGATIONS)
OPERATOR_WORDS = frozenset(("and", "or", "unless", "atan2"))
KEYWORD_WORDS = frozenset(
    (
        *("offset", "smoothed", "anchored", "by", "without", "on", "ignoring", "group_left", "group_right", "bool"),
        *("fill", "fill_left", "fill_right"),
    )
)
FILL_WORDS = frozenset(("fill", "fill_left", "fill_right"))
QUERY_FUNCTION_WORDS = frozenset(("start", "end", "step", "range", "min_of", "max_of"))
NUMBER_WORDS = frozenset(("inf", "nan"))

WORD_KINDS: dict[str, TokenKind] = {
    **dict.fromkeys(AGGREGATOR_WORDS, TokenKind.AGGREGATOR),
    **dict.fromkeys(OPERATOR_WORDS, TokenKind.OPERATOR),
    **dict.fromkeys(KEYWORD_WORDS, TokenKind.KEYWORD),
    **dict.fromkeys(QUERY_FUNCTION_WORDS, TokenKind.QUERY_FUNCTION),
    **dict.fromkeys(NUMBER_WORDS, TokenKind.NUMBER),
}

METRIC_NAME_WORDS = (
    AGGREGATOR_WORDS
    | QUERY_FUNCTION_WORDS
    | frozenset(("and", "or", "unless", "by", "without", "offset", "anchored", "smoothed"))
)
"""Reserved words that may also be metric names where a metric can stand."""

LABEL_WORDS = (AGGREGATOR_WORDS | QUERY_FUNCTION_WORDS | OPERATOR_WORDS | KEYWORD_WORDS) - {"without"}
"""Reserved words that may be labels in by(), on() and the like; Prometheus leaves out ``without``."""


@dataclass(slots=True)
class Token:
    """``text`` is as written; ``word`` what it means: in lower case for words, the message for an ERROR.

    ``start`` and ``end`` are byte offsets. Not frozen: thousands are made per query and none is kept.
    """

    kind: TokenKind
    text: str
    word: str
    start: int
    end: int

    @property
    def position(self) -> Position:
        return Position(self.start, self.end)

    def describe(self) -> str:
        """How ``unexpected ...`` messages name it."""
        match self.kind:
            case TokenKind.EOF:
                return "end of input"
            case TokenKind.KEYWORD:
                return f"<{self.text}>"
            case TokenKind.OPERATOR:
                return f"<op:{self.text}>"
            case TokenKind.AGGREGATOR:
                return f"<aggr:{self.text}>"
            case TokenKind.IDENTIFIER | TokenKind.METRIC_IDENTIFIER:
                return f"{self.kind.value} {quote(self.text)}"
            case TokenKind.STRING | TokenKind.NUMBER | TokenKind.DURATION:
                return f"{self.kind.value} {self._shown()}"
            case _:
                return self._shown()

    def _shown(self) -> str:
        if len(self.text.encode("utf-8", "surrogatepass")) > _SHOWN_CHARACTERS_MAX:
            return f"{quote(self.text[:_SHOWN_CHARACTERS_MAX])}..."
        return quote(self.text)
