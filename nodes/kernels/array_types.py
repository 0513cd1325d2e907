"""Names of the array types that kernels' signatures are written with.

``READ_*`` also take read-only arrays (views of received bytes); all are C-contiguous and aligned.
"""

from __future__ import annotations

from numba import types

READ_U8 = types.Array(types.uint8, 1, "C", readonly=True)
READ_I32 = types.Array(types.int32, 1, "C", readonly=True)
READ_I64 = types.Array(types.int64, 1, "C", readonly=True)
READ_U64 = types.Array(types.uint64, 1, "C", readonly=True)
READ_F64 = types.Array(types.float64, 1, "C", readonly=True)

U8 = types.uint8[::1]
I32 = types.int32[::1]
I64 = types.int64[::1]
U64 = types.uint64[::1]
F64 = types.float64[::1]
I32_ROWS = types.int32[:, ::1]
U32_ROWS = types.uint32[:, ::1]
I64_ROWS = types.int64[:, ::1]
F64_ROWS = types.float64[:, ::1]
