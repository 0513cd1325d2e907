"""Decoded columns in the rows of fixed arenas; the row unused for longest is given away first.

Entries are the ids of chunks or of time columns. Whoever uses rows holds the owner's lock meanwhile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from filoray.nodes.kernels.storage.chunk_gather import find_whole, keep_narrow
from filoray.nodes.memstore.chunks.chunk_codec import CHUNK_SAMPLES_MAX
from filoray.nodes.memstore.growing_column import GrowingColumn

NO_ROW = -1


class DecodedCache:
    """Rows of one type."""

    def __init__(self, dtype: DTypeLike, rows: int) -> None:
        # Pages that nothing was written to take no memory, so the arena may as well be made whole at once.
        self.dtype = np.dtype(dtype)
        self.rows: NDArray[Any] = np.empty((rows, CHUNK_SAMPLES_MAX), dtype)
        self.row_of = GrowingColumn(np.int32, NO_ROW)
        self._entry_of = np.full(rows, -1, np.int32)
        self._used_at = np.zeros(rows, np.int64)
        self._clock = 0
        self._taken = 0

    @property
    def row_count(self) -> int:
        return len(self.rows)

    def find(self, entries: NDArray[np.int32]) -> NDArray[np.int32]:
        """Rows of these distinct entries, NO_ROW where not decoded; those found count as used now."""
        if len(entries):
            self.row_of.reserve(int(entries.max()) + 1)
        rows: NDArray[np.int32] = self.row_of.data[entries]
        self._clock += 1
        self._used_at[rows[rows >= 0]] = self._clock
        return rows

    def place(self, entries: NDArray[np.int32]) -> NDArray[np.int32]:
        """Rows for entries that the last ``find`` did not find; they replace what was not used for longest.

        Together with the entries of that ``find``, and with others placed since, they may not be more than there are
        rows.
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

    def keep(
        self, entries: NDArray[np.int32], decoded: NDArray[Any], sample_counts: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """``place`` with what goes there: ``decoded`` [n, CHUNK_SAMPLES_MAX], of which the counts are in use."""
        rows = self.place(entries)
        self.rows[rows] = decoded
        return rows

    def clear(self) -> None:
        """Entries have new ids."""
        self.row_of.data[:] = NO_ROW
        self._entry_of[:] = -1
        self._used_at[:] = 0

    @property
    def nbytes(self) -> int:
        return int(self._taken * CHUNK_SAMPLES_MAX * self.rows.dtype.itemsize) + self.row_of.nbytes


class DecodedValues:
    """Chunks' values: float64 rows, and rows of half the size for chunks of whole numbers, as most counters have.

    Each kind may take half of the bytes. Rows are numbered as ``filoray.nodes.kernels.storage.chunk_gather`` says.
    """

    dtype = np.dtype(np.float64)

    def __init__(self, wide_rows: int) -> None:
        half = max(1, wide_rows // 2)
        self._wide = DecodedCache(np.float64, half)
        self._narrow = DecodedCache(np.int32, 2 * half)

    @property
    def arenas(self) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        return self._wide.rows, self._narrow.rows

    @property
    def row_count(self) -> int:
        """So many chunks fit whatever their values are."""
        return self._wide.row_count

    def find(self, entries: NDArray[np.int32]) -> NDArray[np.int32]:
        """See DecodedCache."""
        rows = self._wide.find(entries)
        narrow = self._narrow.find(entries)
        return np.where(narrow >= 0, -2 - narrow, rows)

    def keep(
        self, entries: NDArray[np.int32], decoded: NDArray[Any], sample_counts: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """See DecodedCache."""
        is_whole = np.empty(len(entries), np.uint8)
        find_whole(decoded, sample_counts, is_whole)
        whole, others = np.flatnonzero(is_whole), np.flatnonzero(is_whole == 0)
        rows = np.empty(len(entries), np.int32)
        rows[others] = self._wide.keep(entries[others], decoded[others], sample_counts[others])
        narrow = self._narrow.place(entries[whole])
        keep_narrow(decoded, whole, sample_counts, narrow, self._narrow.rows)
        rows[whole] = -2 - narrow
        return rows

    def clear(self) -> None:
        """See DecodedCache."""
        self._wide.clear()
        self._narrow.clear()

    @property
    def nbytes(self) -> int:
        return self._wide.nbytes + self._narrow.nbytes
