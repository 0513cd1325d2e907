"""The one error of this room: a query that is no PromQL, worded as Prometheus words it."""

from __future__ import annotations

from filoray.cluster.errors import BadData
from filoray.nodes.promql.positions import line_and_column


class PromqlError(BadData):
    """``1:5: parse error: <reason>``: the text, ``offset`` (bytes into the query) and the bare ``reason``."""

    def __init__(self, query: str, offset: int, reason: str) -> None:
        super().__init__(f"{line_and_column(query, offset)}: parse error: {reason}")
        self.offset = offset
        self.reason = reason
