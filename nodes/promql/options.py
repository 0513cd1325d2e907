"""What the parser accepts: experimental syntax by flag, and the limits that keep every later stage safe.

``max_depth`` bounds how deep calls, parentheses and signs nest, which what reads and evaluates queries recurses over.
The terms of a chain ``a + b + c`` are no depth (see ``deep_trees``); their number is bounded by ``max_terms``. Parser
limits raise PromqlError (400) like bad syntax.
"""

from __future__ import annotations

from dataclasses import dataclass

from filoray.cluster.config.request_config import QueryConfig


@dataclass(frozen=True, slots=True)
class ParserOptions:
    """The flags are Prometheus's ``--enable-feature`` values of the same names (``promql-...``).

    ``experimental_functions`` also allows the ``fill`` modifiers (``promql-binop-fill-modifiers``).
    ``max_terms`` is the number of leaves, matchers, calls, parentheses and subqueries.
    ``max_regex_bytes``: what the compiled regular expressions of all matchers together may take in memory.
    """

    experimental_functions: bool = False
    duration_expressions: bool = False
    extended_range_selectors: bool = False
    max_query_bytes: int = 1_048_576
    max_depth: int = 200
    max_terms: int = 5_000
    max_regex_bytes: int = 512 << 20

    @classmethod
    def of_config(cls, config: QueryConfig) -> ParserOptions:
        return cls(
            config.experimental_functions,
            config.duration_expressions,
            config.extended_range_selectors,
            config.max_query_bytes,
            config.max_depth,
            config.max_terms,
            config.max_regex_bytes,
        )


DEFAULT = ParserOptions()
EXPERIMENTAL = ParserOptions(experimental_functions=True, duration_expressions=True, extended_range_selectors=True)
