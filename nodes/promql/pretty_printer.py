"""A tree to text over several lines, as Prometheus's ``Prettify`` (and so ``/format_query``) lays it out.

What fits into 100 bytes stays on one line; the rest is split at its operator, call or parenthesis, each
level indented by two spaces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from filoray.nodes.promql.ast import Aggregate, Binary, Call, Expr, Paren, Subquery, Unary
from filoray.nodes.promql.deep_trees import Walk, walked
from filoray.nodes.promql.printer import aggregate_head, binary_head, short_text, subquery_suffix, to_text
from filoray.nodes.promql.tree_walk import children, subtrees

_LINE_BYTES_MAX = 100
_INDENT = "  "
_INDENTS_MAX = 100  # a chain indents each of its terms further; beyond this its text would grow with its square


def pretty(expr: Expr) -> str:
    """The query text of a tree, laid out over lines."""
    pieces: list[str] = []
    walked(_write(expr, 0, _short_texts(expr), pieces.append))
    return "".join(pieces)


def _short_texts(expr: Expr) -> dict[int, str]:
    """The one-line texts of the subtrees that have a short one, by the tree's id. What holds a long one is long."""
    texts: dict[int, str] = {}
    for one in reversed(subtrees(expr)):
        if all(id(child) in texts for child in children(one)):
            text = short_text(one, _LINE_BYTES_MAX)
            if text is not None:
                texts[id(one)] = text
    return texts


def _write(
    expr: Expr, level: int, short_texts: Mapping[int, str], add: Callable[[str], None], *, indented: bool = True
) -> Walk[None]:
    """``indented``: whether the first line is (behind a sign it is not)."""
    indent = _INDENT * min(level, _INDENTS_MAX)
    first_indent = indent if indented else ""
    if isinstance(expr, Unary):
        add(f"{first_indent}{expr.op}")
        yield _write(expr.expr, level, short_texts, add, indented=False)
        return
    text = short_texts.get(id(expr))
    if text is not None:
        add(text if isinstance(expr, Subquery) else f"{first_indent}{text}")
        return
    match expr:
        case Aggregate():
            add(f"{first_indent}{aggregate_head(expr)}(\n")
            if expr.param is not None:
                yield _write(expr.param, level + 1, short_texts, add)
                add(",\n")
            yield _write(expr.expr, level + 1, short_texts, add)
            add(f"\n{indent})")
        case Binary():
            yield _write(expr.left, level + 1, short_texts, add, indented=indented)
            add(f"\n{indent}{binary_head(expr)}\n")
            yield _write(expr.right, level + 1, short_texts, add)
        case Call():
            add(f"{first_indent}{expr.function}(\n")
            for index, arg in enumerate(expr.args):
                if index:
                    add(",\n")
                yield _write(arg, level + 1, short_texts, add)
            add(f"\n{indent})")
        case Paren():
            add(f"{first_indent}(\n")
            yield _write(expr.expr, level + 1, short_texts, add)
            add(f"\n{indent})")
        case Subquery():
            yield _write(expr.expr, level, short_texts, add, indented=indented)
            add(subquery_suffix(expr))
        case _:
            add(f"{first_indent}{to_text(expr)}")
