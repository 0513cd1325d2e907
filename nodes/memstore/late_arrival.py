"""Samples that the write buffers alone cannot place: older than what is buffered, or 49 days after it.

All of a call are judged at once, by sorted columns: n samples cost n log n, whatever their order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.write_outcome import RefusalReason, WriteOutcome
from filoray.nodes.kernels.storage.write_buffers import SPAN_MS_MAX, NewSamples
from filoray.nodes.memstore.refusal_text import sample_text
from filoray.nodes.memstore.sample_points import present_bits
from filoray.nodes.memstore.sample_reader import SampleReader
from filoray.nodes.memstore.shard_memory import ShardMemory
from filoray.nodes.memstore.store.log_record import NEVER_SHUT_MS
from filoray.nodes.memstore.write_buffers import AppendRules


class LateArrival:
    def __init__(self, memory: ShardMemory, reader: SampleReader, window_ms: int) -> None:
        self._memory = memory
        self._reader = reader
        self._window_ms = window_ms

    def apply(
        self,
        partitions: NDArray[np.int32],
        times: NDArray[np.int64],
        values: NDArray[np.float64],
        shut_ms: int,
        outcome: WriteOutcome,
    ) -> int:
        """Place n samples, in their order of arrival; counts go to ``outcome``. Returns how many are new.

        ``shut_ms``: nothing is too old for a series whose newest sample is later than this.
        """
        order = np.lexsort((times, partitions))
        partitions, times, values = partitions[order], times[order], values[order]
        bits = values.view(np.int64)
        is_present, there = present_bits(self._memory, self._reader, partitions, times)
        # A time that is twice among the samples: the first counts, as if it had been there.
        repeats = np.zeros(len(times), np.bool_)
        repeats[1:] = (partitions[1:] == partitions[:-1]) & (times[1:] == times[:-1])
        first = np.maximum.accumulate(np.where(repeats, 0, np.arange(len(times))))
        there = np.where(is_present[first], there[first], bits[first])
        is_present = is_present[first] | repeats
        same = is_present & (there == bits)
        different = is_present & ~same
        newest = self._memory.buffers.newest_ms.data[partitions]
        fresh = ~is_present
        ahead = fresh & (times > newest)
        behind = newest.astype(np.uint64) - times.astype(np.uint64)
        too_old = fresh & ~ahead & (newest <= shut_ms) & (behind > np.uint64(self._window_ms))
        taken = fresh & ~ahead & ~too_old
        outcome.accepted += int(same.sum() + taken.sum())
        for reason, chosen in ((RefusalReason.DIFFERENT_VALUE, different), (RefusalReason.TOO_OLD, too_old)):
            outcome.refuse(reason, int(chosen.sum()))
            if chosen.any() and not outcome.example:
                at = int(np.flatnonzero(chosen)[np.argmin(order[chosen])])
                outcome.example = sample_text(self._memory, int(partitions[at]), times[at], values[at], reason)
        self._add(partitions[taken], times[taken], values[taken])
        added = int(taken.sum())
        if ahead.any():
            added += self._far_ahead(partitions[ahead], times[ahead], values[ahead], outcome)
        return added

    def _add(self, partitions: NDArray[np.int32], times: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        if len(times):
            with self._memory.lock:
                self._memory.late.add(partitions, times, values)
                np.minimum.at(self._memory.buffers.oldest_ms.data, partitions, times)

    def _far_ahead(
        self,
        partitions: NDArray[np.int32],
        times: NDArray[np.int64],
        values: NDArray[np.float64],
        outcome: WriteOutcome,
    ) -> int:
        """Samples beyond the span of their series' buffer, sorted: the last of them begin it anew, where they fit."""
        memory = self._memory
        memory.seal(np.unique(partitions))
        last = np.searchsorted(partitions, partitions, side="right") - 1
        fits = times[last].astype(np.uint64) - times.astype(np.uint64) <= np.uint64(SPAN_MS_MAX)
        self._add(partitions[~fits], times[~fits], values[~fits])
        ones = np.ones(int(fits.sum()), np.int32)
        new = NewSamples(partitions[fits], ones, times[fits], values[fits])
        with memory.lock:
            appended = memory.buffers.append(new, AppendRules(self._window_ms, memory.chunk_samples, NEVER_SHUT_MS))
        assert appended.accepted == len(ones), "they rise, each within the span of the first"
        if len(appended.full):
            memory.seal(np.unique(appended.full))
        outcome.accepted += len(times)
        return len(times)
