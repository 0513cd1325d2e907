"""Decoded columns in the rows of one fixed arena; the row unused for longest is given away first.

Entries are the ids of chunks or of time columns. Whoever uses rows holds the owner's lock meanwhile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from filoray.nodes.memstore.chunk_codec import CHUNK_SAMPLES_MAX
from filoray.nodes.memstore.growing_column import GrowingColumn

NO_ROW = -1


class DecodedCache:
    def __init__(self, dtype: DTypeLike, rows: int) -> None:
        # Pages that nothing was written to take no memory, so the arena may as well be made whole at once.
        self.rows: NDArray[Any] = np.empty((rows, CHUNK_SAMPLES_MAX), dtype)
        self.row_of = GrowingColumn(np.int32, NO_ROW)
        self._entry_of = np.full(rows, -1, np.int32)
        self._used_at = np.zeros(rows, np.int64)
        self._clock = 0
        self._taken = 0

    def find(self, entries: NDArray[np.int32]) -> NDArray[np.int32]:
        """Rows of these distinct entries, NO_ROW where not decoded; those found count as used now."""
        if len(entries):
            self.row_of.reserve(int(entries.max()) + 1)
        rows: NDArray[np.int32] = self.row_of.data[entries]
        self._clock += 1
        self._used_at[rows[rows >= 0]] = self._clock
        return rows

    def place(self, entries: NDArray[np.int32]) -> NDArray[np.int32]:
        """Rows for entries that ``find`` (just called) did not find; they replace what was not used for longest.

        Together with the entries of that ``find`` they may not be more than there are rows.
        """
        count = len(entries)
        fresh = min(count, len(self._entry_of) - self._taken)
        rows = np.arange(self._taken, self._taken + fresh, dtype=np.int32)
        self._taken += fresh
        if fresh < count:
            more = count - fresh
            self._used_at[rows] = self._clock
            oldest = np.argpartition(self._used_at, more - 1)[:more].astype(np.int32)
            evicted = self._entry_of[oldest]
            self.row_of.data[evicted[evicted >= 0]] = NO_ROW
            rows = np.concatenate([rows, oldest])
        self.row_of.data[entries] = rows
        self._entry_of[rows] = entries
        self._used_at[rows] = self._clock
        return rows

    def forget(self, entries: NDArray[np.int32]) -> None:
        """These could not be decoded: their rows hold nothing."""
        rows = self.row_of.data[entries]
        self._entry_of[rows] = -1
        self._used_at[rows] = 0
        self.row_of.data[entries] = NO_ROW

    def clear(self) -> None:
        """Entries have new ids."""
        self.row_of.data[:] = NO_ROW
        self._entry_of[:] = -1
        self._used_at[:] = 0

    @property
    def nbytes(self) -> int:
        return int(self._taken * CHUNK_SAMPLES_MAX * self.rows.dtype.itemsize) + self.row_of.nbytes
