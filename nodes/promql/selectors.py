"""Selectors on their own: the ``match[]`` parameters of the series, labels and federation APIs."""

from __future__ import annotations

from collections.abc import Iterable

from filoray.nodes.data.matching import LabelMatcher
from filoray.nodes.promql.checker import matches_empty
from filoray.nodes.promql.options import DEFAULT, ParserOptions
from filoray.nodes.promql.selector_parser import SelectorParser


def parse_metric_selector(text: str, options: ParserOptions = DEFAULT) -> tuple[LabelMatcher, ...]:
    """The matchers of ``name{a="b"}``. Raises PromqlError; ``{}`` is allowed (see ``selects_everything``)."""
    parser = SelectorParser(text, options)
    selector = parser.parse_vector_selector()
    if not parser.at_end():
        parser.unexpected()
    return selector.matchers


def selects_everything(matchers: Iterable[LabelMatcher]) -> bool:
    """Whether all matchers pass series without their label; the API refuses such a ``match[]`` parameter with
    ``match[] must contain at least one non-empty matcher``."""
    return all(map(matches_empty, matchers))
