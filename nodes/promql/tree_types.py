"""Whether a tree of PromQL has in every field what the field's annotation says, and only words there are.

For trees off a wire: one is decoded by what its bytes claim, so a number may stand where text should. Evaluated, it
would fail somewhere deep, or make a kernel be compiled anew for its odd types. The walk is a loop: a deep tree costs no
stack.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from typing import Any

from filoray.cluster.errors import BadData
from filoray.nodes.promql.ast import Aggregate, Binary, Call, DurationExpr, Unary
from filoray.nodes.promql.function_table import AGGREGATIONS, FUNCTIONS
from filoray.nodes.promql.operators import DURATION_OPERATORS, PRECEDENCE

_Waiting = list[tuple[Any, "_Test"]]
_Test = Callable[[Any, _Waiting], bool]
"""Looks at one value; puts the values inside it on the list of those to be looked at."""


def check_types(root: Any, record: type) -> None:
    """Raises BadData unless ``root`` is such a ``record`` and all below it is as annotated."""
    waiting: _Waiting = [(root, _test_of(record))]
    while waiting:
        value, test = waiting.pop()
        if not test(value, waiting):
            shown = repr(value)[:80] if isinstance(value, int | float | str | bytes) else type(value).__name__
            raise BadData(f"a malformed data-plane message: {shown} stands where {record.__name__} has something else")


@functools.cache
def _test_of(hint: Any) -> _Test:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union_test(arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _tuple_test(arguments[0])
    if hint is float:
        return lambda value, waiting: type(value) in (float, int)
    if dataclasses.is_dataclass(hint):
        return _record_test(hint)
    assert isinstance(hint, type), f"no test for {hint}"
    return lambda value, waiting: type(value) is hint


def _union_test(members: tuple[Any, ...]) -> _Test:
    by_type = {type(None) if member is None else member: member for member in members}

    def test(value: Any, waiting: _Waiting) -> bool:
        kind = type(value)
        if kind is int and float in by_type:
            kind = float
        if kind not in by_type:
            return False
        if kind is not type(None):
            waiting.append((value, _test_of(by_type[kind])))
        return True

    return test


def _tuple_test(member: Any) -> _Test:
    def test(value: Any, waiting: _Waiting) -> bool:
        if type(value) is not tuple:
            return False
        inner = _test_of(member)
        waiting.extend([(one, inner) for one in value])
        return True

    return test


def _is_known_call(call: Call) -> bool:
    signature = FUNCTIONS.get(call.function)
    if signature is None:
        return False
    most = signature.args_max
    if len(call.args) < signature.args_min:
        return False
    return most is None or len(call.args) <= max(most, signature.planned_args_max)


_KNOWN: dict[type, Callable[[Any], bool]] = {
    Aggregate: lambda node: node.op in AGGREGATIONS,
    Binary: lambda node: node.op in PRECEDENCE,
    Call: _is_known_call,
    DurationExpr: lambda node: node.op in DURATION_OPERATORS,
    Unary: lambda node: node.op in ("+", "-"),
}
"""Of nodes with a word that is one of a few: whether theirs is."""


def _record_test(record: Any) -> _Test:
    is_known = _KNOWN.get(record)

    @functools.cache
    def fields() -> list[tuple[str, _Test]]:  # not before it is needed: records may hold their own kind
        hints = typing.get_type_hints(record)
        return [(field.name, _test_of(hints[field.name])) for field in dataclasses.fields(record)]

    def test(value: Any, waiting: _Waiting) -> bool:
        if type(value) is not record:
            return False
        waiting.extend([(getattr(value, name), inner) for name, inner in fields()])
        if is_known is None:
            return True
        word = value.function if record is Call else value.op
        return type(word) is str and is_known(value)

    return test
