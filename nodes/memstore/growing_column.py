"""A numpy array that grows at its end: ``data`` is the whole capacity, of which its owner uses the front."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_FIRST_CAPACITY = 64


class GrowingColumn:
    """Amortised appending, at most a quarter of waste once it is long. Old ``data`` stays valid for who reads it."""

    __slots__ = ("data", "fill")

    def __init__(self, dtype: DTypeLike, fill: int | float = 0) -> None:
        self.fill = fill
        self.data: NDArray[Any] = np.full(_FIRST_CAPACITY, fill, dtype)

    def reserve(self, count: int) -> None:
        """Make room for ``count`` elements in all; new ones hold ``fill``."""
        if count > len(self.data):
            grown = np.full(max(count, len(self.data) * 5 // 4 + _FIRST_CAPACITY), self.fill, self.data.dtype)
            grown[: len(self.data)] = self.data
            self.data = grown

    def write(self, position: int, values: NDArray[Any]) -> None:
        self.reserve(position + len(values))
        self.data[position : position + len(values)] = values

    def keep(self, count: int, kept: NDArray[np.bool_]) -> None:
        """Of the first ``count`` elements only those of the mask stay, closed up."""
        values = self.data[:count][kept]
        self.data = np.full(max(len(values), _FIRST_CAPACITY), self.fill, self.data.dtype)
        self.data[: len(values)] = values

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes)
