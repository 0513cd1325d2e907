"""The argument types that the query kernels have in common.

Inputs are declared read-only, so that both ordinary arrays and views of received messages are accepted without a
second compilation. Every kernel is compiled at import for exactly one set of types and then comes from numba's
cache; ``KERNEL_OPTIONS`` are the same everywhere.
"""

from __future__ import annotations

from typing import Any

from numba import types

INTS = types.Array(types.int64, 1, "C", readonly=True)
FLOATS = types.Array(types.float64, 1, "C", readonly=True)
FLOAT_MATRIX = types.Array(types.float64, 2, "C", readonly=True)
BOOL_MATRIX = types.Array(types.boolean, 2, "C", readonly=True)
FLAG = types.Array(types.uint8, 1, "C", readonly=True)
"""uint8[1], set to 1 by another thread to make a kernel return early; what it has written by then is void."""

OUT_INTS = types.Array(types.int64, 1, "C")
OUT_FLOATS = types.Array(types.float64, 1, "C")
OUT_FLOAT_MATRIX = types.Array(types.float64, 2, "C")
OUT_BOOL_MATRIX = types.Array(types.boolean, 2, "C")

KERNEL_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}
"""numpy's error model: a division by zero is an infinity or NaN, as it is in Prometheus, and costs no branch."""
