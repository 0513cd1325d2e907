"""Vector selectors and label lists: metric names, ``{...}`` matchers, ``by (...)``, with UTF-8 names in quotes."""

from __future__ import annotations

from filoray.nodes.data.matching import METRIC_NAME, LabelMatcher, MatchOp
from filoray.nodes.promql.ast import Position, VectorSelector
from filoray.nodes.promql.duration_parser import DurationParser
from filoray.nodes.promql.quoting import is_valid_label_name, quote, unquote, valid_text
from filoray.nodes.promql.regex import RegexError, is_literal_of_bytes, regex_bytes
from filoray.nodes.promql.tokens import LABEL_WORDS, METRIC_NAME_WORDS, Token, TokenKind

_MATCH_OPS = {op.value: op for op in MatchOp}
_MATCHING = "label matching"
_GROUPING = "grouping opts"
_NAME_KINDS = (TokenKind.IDENTIFIER, TokenKind.METRIC_IDENTIFIER)


class SelectorParser(DurationParser):
    """The grammar of selectors and of lists of labels."""

    def at_metric_name(self) -> bool:
        token = self.token
        if token.kind in _NAME_KINDS:
            return True
        return token.word in METRIC_NAME_WORDS and token.kind in (
            TokenKind.AGGREGATOR,
            TokenKind.KEYWORD,
            TokenKind.OPERATOR,
            TokenKind.QUERY_FUNCTION,
        )

    def parse_vector_selector(self) -> VectorSelector:
        """``name``, ``name{...}`` or ``{...}``, without modifiers."""
        self.count_term()
        start = self.token.start
        if self.at("{"):
            matchers = self._matchers()
            return VectorSelector("", matchers, position=Position(start, self.closing_end))
        if not self.at_metric_name():
            self.unexpected()
        token = self.advance()
        name_matcher = LabelMatcher(METRIC_NAME, MatchOp.EQUAL, token.text)
        if self.at("{"):
            matchers = self._matchers()
            return VectorSelector(token.text, (*matchers, name_matcher), position=Position(start, self.closing_end))
        return VectorSelector(token.text, (name_matcher,), position=token.position)

    def _matchers(self) -> tuple[LabelMatcher, ...]:
        self.expect("{")
        matchers: list[LabelMatcher] = []
        while not self.at("}"):
            matchers.append(self._matcher())
            if self.at(","):
                self.advance()
            elif not self.at("}"):
                self.unexpected(_MATCHING, '"," or "}"')
        self.advance()
        return tuple(matchers)

    def _matcher(self) -> LabelMatcher:
        self.count_term()
        name = self.token
        if name.kind not in (TokenKind.IDENTIFIER, TokenKind.STRING):
            self.unexpected(_MATCHING, 'identifier or "}"')
        self.advance()
        op = _MATCH_OPS.get(self.token.text) if self.token.kind is not TokenKind.STRING else None
        if op is None:
            if name.kind is TokenKind.STRING:
                return LabelMatcher(METRIC_NAME, MatchOp.EQUAL, valid_text(unquote(name.text)))
            self.unexpected(_MATCHING, "label matching operator")
        self.advance()
        if self.token.kind is not TokenKind.STRING:
            self.unexpected(_MATCHING, "string")
        value = unquote(self.advance().text)
        label = unquote(name.text) if name.kind is TokenKind.STRING else name.text
        if op in (MatchOp.REGEX, MatchOp.NOT_REGEX) and not is_literal_of_bytes(value):
            self._check_regex(value, name.start)
        return LabelMatcher(valid_text(label), op, valid_text(value))

    def _check_regex(self, pattern: str, offset: int) -> None:
        try:
            self._regex_bytes += regex_bytes(pattern)
        except RegexError as error:
            self.fail(offset, str(error))
        if self._regex_bytes > self.options.max_regex_bytes:
            self.fail(
                offset,
                f"the regular expressions of the query may take {self._regex_bytes} bytes of memory, more than "
                f"{self.options.max_regex_bytes} (filoray.query.max-regex-size)",
            )

    def parse_grouping_labels(self) -> tuple[str, ...]:
        """``(a, "b.c", )``: the labels of by, without, on, ignoring and group_*."""
        if not self.at("("):
            self.unexpected(_GROUPING, '"("')
        self.advance()
        labels: list[str] = []
        while not self.at(")"):
            labels.append(self._grouping_label())
            if self.at(","):
                self.advance()
            elif not self.at(")"):
                self.unexpected(_GROUPING, '"," or ")"')
        self.advance()
        return tuple(labels)

    def _grouping_label(self) -> str:
        token = self.token
        if token.kind is TokenKind.STRING:
            label = unquote(token.text)
        elif self._is_label(token):
            label = token.text
        else:
            self.unexpected(_GROUPING, "label")
        if not is_valid_label_name(label):
            self.fail(token.start, f"invalid label name for grouping: {quote(label)}")
        self.advance()
        return label

    @staticmethod
    def _is_label(token: Token) -> bool:
        if token.kind in _NAME_KINDS:
            return True
        return token.word in LABEL_WORDS and token.kind in (
            TokenKind.AGGREGATOR,
            TokenKind.KEYWORD,
            TokenKind.OPERATOR,
            TokenKind.QUERY_FUNCTION,
        )
