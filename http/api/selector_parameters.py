"""``match[]``: series selectors of the metadata endpoints, parsed and checked as Prometheus does."""

from __future__ import annotations

from filoray.cluster.errors import BadData
from filoray.http.server.parameters import Parameters, invalid_parameter
from filoray.nodes.data.matching import LabelMatcher
from filoray.nodes.promql.options import ParserOptions
from filoray.nodes.promql.selectors import parse_metric_selector, selects_everything

MATCH = "match[]"


def read_selectors(parameters: Parameters, options: ParserOptions, *, needed: bool) -> list[tuple[LabelMatcher, ...]]:
    """All ``match[]`` selectors. ``needed``: at least one. Raises BadData."""
    texts = parameters.all(MATCH)
    if needed and not texts:
        raise BadData("no match[] parameter provided")
    selectors: list[tuple[LabelMatcher, ...]] = []
    for text in texts:
        try:
            matchers = parse_metric_selector(text, options)
        except BadData as error:
            raise invalid_parameter(MATCH, error.message) from None
        if selects_everything(matchers):
            raise invalid_parameter(MATCH, "match[] must contain at least one non-empty matcher")
        selectors.append(matchers)
    return selectors
