"""What a kernel's annotations say is what its signature makes numba hold it to."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import GenericAlias
from typing import get_type_hints

import numpy as np
import pytest
from numba.core import types
from numba.core.dispatcher import Dispatcher

from filoray.nodes.kernels import edge, query, storage
from filoray.nodes.kernels.arrays import Bools, Bytes, Floats, Int32s, Ints, UInt32s, UInt64s
from filoray.nodes.kernels.record_type import RecordType

ARRAYS = {
    types.int64: Ints,
    types.int32: Int32s,
    types.uint32: UInt32s,
    types.uint64: UInt64s,
    types.float64: Floats,
    types.boolean: Bools,
    types.uint8: Bytes,
}


def named_values() -> Iterator[tuple[str, str, object]]:
    """(module, name, value) of everything that the kernels' modules know."""
    for package in (edge, query, storage):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for name, value in vars(importlib.import_module(module.name)).items():
                yield module.name, f"{module.name.removeprefix('filoray.nodes.kernels.')}.{name}", value


KERNELS = {
    name: value
    for module, name, value in named_values()
    if isinstance(value, Dispatcher) and value.signatures and value.py_func.__module__ == module
}
RECORDS = {name: value for _, name, value in named_values() if isinstance(value, RecordType)}


def allowed(kind: types.Type) -> tuple[object, ...]:
    """A number is what Python gives and gets; unsigned ones, which are no ints inside, may be said to be such."""
    if isinstance(kind, types.Array):
        return (ARRAYS[kind.dtype],)
    if isinstance(kind, RecordType):
        return (kind.instance_class,)
    if isinstance(kind, types.BaseTuple):
        return (GenericAlias(tuple, tuple(allowed(inner)[-1] for inner in kind)),)
    if kind == types.uint64:
        return (int, np.uint64)
    if isinstance(kind, types.Integer):
        return (int,)
    return ({types.float64: float, types.boolean: bool, types.none: type(None)}[kind],)


@pytest.mark.parametrize("name", KERNELS)
def test_annotations_say_what_the_signature_says(name: str) -> None:
    kernel = KERNELS[name]
    (signature,) = kernel.signatures
    hints = get_type_hints(kernel.py_func)
    returned = hints.pop("return")
    assert len(hints) == len(signature)
    for (argument, hint), kind in zip(hints.items(), signature, strict=True):
        assert hint in allowed(kind), f"{argument}: {kind}"
    assert returned in allowed(kernel.overloads[signature].signature.return_type)


@pytest.mark.parametrize("name", RECORDS)
def test_fields_of_records_are_of_the_types_that_are_given_for_them(name: str) -> None:
    hints = get_type_hints(RECORDS[name].instance_class)
    for (field, hint), kind in zip(hints.items(), RECORDS[name].types, strict=True):
        assert hint in allowed(kind), f"{field}: {kind}"


def test_they_are_found() -> None:
    assert len(KERNELS) > 60
    assert len(RECORDS) > 10
