"""Types of records (named tuples of arrays and numbers) for kernels' signatures: ``record_type(Runs, READ_I64, …)``.

numba's own type of a named tuple takes exactly the arrays that it names; where it says read-only, a writable array is
refused. A record's fields convert as arguments of their own do, so that one compilation serves both.

A record costs about 0.5 µs a call, and 0.05 µs for each field besides what an argument costs (numba 0.68): nothing for
a kernel that is called once for many series. Inside of kernels, hand the arrays on: each call with a record counts the
references of all its fields up and down.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core.datamodel.models import TupleModel
from numba.core.datamodel.registry import register_default
from numba.core.typeconv import Conversion


class RecordType(types.NamedTuple):
    """Of a class of named tuples, whatever types of the same layout its fields have."""

    def can_convert_from(self, typingctx: Any, other: Any) -> Conversion | None:
        """numba's question whether a value of the type ``other`` may be passed, and how good a match it is."""
        if not isinstance(other, types.NamedTuple | types.NamedUniTuple):
            return None
        if other.instance_class is not self.instance_class:
            return None
        fields = [typingctx.can_convert(given, taken) for given, taken in zip(other.types, self.types, strict=True)]
        return None if None in fields else max(Conversion.safe, *fields)


register_default(RecordType)(TupleModel)


def record_type(record: type[tuple[Any, ...]], *fields: Any) -> RecordType:
    """The type of ``record``, whose fields have these types, in order."""
    return RecordType(fields, record)  # type: ignore[no-untyped-call]  # numba's own
