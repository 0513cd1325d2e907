"""A tree to text over several lines, as Prometheus's ``Prettify`` (and so ``/format_query``) lays it out.

What fits into 100 bytes stays on one line; the rest is split at its operator, call or parenthesis, each
level indented by two spaces.
"""

from __future__ import annotations

from filoray.nodes.promql.ast import Aggregate, Binary, Call, Expr, Paren, Subquery, Unary
from filoray.nodes.promql.printer import aggregate_head, binary_head, subquery_suffix, to_text

_LINE_BYTES_MAX = 100
_INDENT = "  "


def pretty(expr: Expr) -> str:
    """The query text of a tree, laid out over lines."""
    return _pretty(expr, 0)


def _pretty(expr: Expr, level: int) -> str:
    indent = _INDENT * level
    if isinstance(expr, Unary):
        return f"{indent}{expr.op}{_pretty(expr.expr, level).strip()}"
    text = to_text(expr)
    if len(text.encode("utf-8", "surrogatepass")) <= _LINE_BYTES_MAX:
        return text if isinstance(expr, Subquery) else f"{indent}{text}"
    match expr:
        case Aggregate():
            param = "" if expr.param is None else f"{_pretty(expr.param, level + 1)},\n"
            return f"{indent}{aggregate_head(expr)}(\n{param}{_pretty(expr.expr, level + 1)}\n{indent})"
        case Binary():
            left, right = _pretty(expr.left, level + 1), _pretty(expr.right, level + 1)
            return f"{left}\n{indent}{binary_head(expr)}\n{right}"
        case Call():
            args = ",\n".join([_pretty(arg, level + 1) for arg in expr.args])
            return f"{indent}{expr.function}(\n{args}\n{indent})"
        case Paren():
            return f"{indent}(\n{_pretty(expr.expr, level + 1)}\n{indent})"
        case Subquery():
            return f"{_pretty(expr.expr, level)}{subquery_suffix(expr)}"
    return f"{indent}{text}"
