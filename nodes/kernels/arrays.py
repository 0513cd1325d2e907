"""Bringing arrays into the one form that kernels are compiled for.

Frames that were sliced, transposed or received over the wire may be strided or unaligned; compiled code takes none
of that. What already fits is passed on as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def floats(array: NDArray[Any]) -> NDArray[np.float64]:
    """The array as aligned, C-contiguous float64, copied only if it is not."""
    return np.require(array, np.float64, ["C", "A"])


def ints(array: NDArray[Any]) -> NDArray[np.int64]:
    """The array as aligned, C-contiguous int64, copied only if it is not."""
    return np.require(array, np.int64, ["C", "A"])


def bools(array: NDArray[Any]) -> NDArray[np.bool_]:
    """The array as C-contiguous bool, copied only if it is not."""
    return np.require(array, np.bool_, ["C", "A"])
