"""What the parser accepts: experimental syntax by flag, and the limits that keep every later stage safe.

A syntax tree is walked recursively by the printer, the codec, the planner and the evaluator, and CPython
stops at 1,000 frames. ``max_depth`` therefore bounds the height of the tree itself, in which a chain
``a + b + c`` of left-associative operators counts one level a term: at 150 levels a consumer may spend five
frames on each and still leave 250 to whoever called it. Parser limits raise PromqlError (400) like bad syntax.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ParserOptions:
    """The flags are Prometheus's ``--enable-feature`` values of the same names (``promql-...``).

    ``experimental_functions`` also allows the ``fill`` modifiers (``promql-binop-fill-modifiers``).
    ``max_depth`` is the height of the tree, ``max_terms`` the number of its leaves, calls and parentheses.
    """

    experimental_functions: bool = False
    duration_expressions: bool = False
    extended_range_selectors: bool = False
    max_query_bytes: int = 131_072
    max_depth: int = 150
    max_terms: int = 5_000


DEFAULT = ParserOptions()
EXPERIMENTAL = ParserOptions(experimental_functions=True, duration_expressions=True, extended_range_selectors=True)
