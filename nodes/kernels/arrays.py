"""The arrays that kernels take, and bringing others into the one form that kernels are compiled for.

Frames that were sliced, transposed or received over the wire may be strided or unaligned; compiled code takes none
of that. What already fits is passed on as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Int32s = NDArray[np.int32]
UInt32s = NDArray[np.uint32]
UInt64s = NDArray[np.uint64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
"""What kernels take, of any number of dimensions, for the type checker; numba's signatures say the rest."""

_FLOAT64, _INT64, _INT32, _BOOL = np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.int32), np.dtype(np.bool_)
_UINT64 = np.dtype(np.uint64)


def floats(array: NDArray[Any]) -> NDArray[np.float64]:
    """The array as aligned, C-contiguous float64, copied only if it is not."""
    return array if _fits(array, _FLOAT64) else np.require(array, np.float64, ["C", "A"])


def ints(array: NDArray[Any]) -> NDArray[np.int64]:
    """The array as aligned, C-contiguous int64, copied only if it is not."""
    return array if _fits(array, _INT64) else np.require(array, np.int64, ["C", "A"])


def int32s(array: NDArray[Any]) -> NDArray[np.int32]:
    """The array as aligned, C-contiguous int32, copied only if it is not."""
    return array if _fits(array, _INT32) else np.require(array, np.int32, ["C", "A"])


def uint64s(array: NDArray[Any]) -> NDArray[np.uint64]:
    """The array as aligned, C-contiguous uint64, copied only if it is not."""
    return array if _fits(array, _UINT64) else np.require(array, np.uint64, ["C", "A"])


def bools(array: NDArray[Any]) -> NDArray[np.bool_]:
    """The array as C-contiguous bool, copied only if it is not."""
    return array if _fits(array, _BOOL) else np.require(array, np.bool_, ["C", "A"])


def _fits(array: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    """What ``np.require`` finds out as well, in a third of the time: small queries are made of such calls."""
    flags = array.flags
    return flags.c_contiguous and flags.aligned and array.dtype == dtype
