"""Samples that the write buffers alone cannot place: older than what is buffered, or 49 days after it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.memstore.append_result import AppendResult
from filoray.nodes.memstore.refusal_text import sample_text
from filoray.nodes.memstore.sample_reader import SampleReader
from filoray.nodes.memstore.shard_memory import ShardMemory


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
        result: AppendResult,
    ) -> int:
        """Place n samples, in their order of arrival; counts go to ``result``. Returns how many are new."""
        order = np.lexsort((np.arange(len(times)), times, partitions))
        partitions, times, values = partitions[order], times[order], values[order]
        bits = values.view(np.int64)
        is_present, present_bits = self._present_bits(partitions, times)
        # A time that is twice among the samples: the first counts, as if it had been there.
        repeats = np.zeros(len(times), np.bool_)
        repeats[1:] = (partitions[1:] == partitions[:-1]) & (times[1:] == times[:-1])
        for i in np.flatnonzero(repeats & ~is_present).tolist():
            is_present[i] = True
            present_bits[i] = present_bits[i - 1] if is_present[i - 1] else bits[i - 1]
        same = is_present & (present_bits == bits)
        different = is_present & ~same
        newest = self._memory.buffers.newest_ms.data[partitions]
        fresh = ~is_present
        ahead = fresh & (times > newest)
        behind = newest.astype(np.uint64) - times.astype(np.uint64)
        too_old = fresh & ~ahead & (behind > np.uint64(self._window_ms))
        taken = fresh & ~ahead & ~too_old
        result.accepted += int(same.sum() + taken.sum())
        result.refused.too_old += int(too_old.sum())
        result.refused.duplicates_different += int(different.sum())
        self._example(
            different,
            "has another value than the sample that is there at this time",
            order,
            partitions,
            times,
            values,
            result,
        )
        self._example(
            too_old,
            "is older than the out-of-order window of its series allows",
            order,
            partitions,
            times,
            values,
            result,
        )
        if taken.any():
            with self._memory.lock:
                self._memory.late.add(partitions[taken], times[taken], values[taken])
                np.minimum.at(self._memory.buffers.oldest_ms.data, partitions[taken], times[taken])
        added = int(taken.sum())
        if ahead.any():
            added += self._far_ahead(partitions[ahead], times[ahead], values[ahead], result)
        return added

    def _present_bits(
        self, partitions: NDArray[np.int32], times: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Whether each (partition, time), sorted, is there already, and its value's bits."""
        series, inverse = np.unique(partitions, return_inverse=True)
        offsets, have_times, have_values, _ = self._reader.read(series, int(times.min()), int(times.max()))
        # In batches of one series, so that the binary search is numpy's.
        is_present = np.zeros(len(times), np.bool_)
        bits = np.zeros(len(times), np.int64)
        starts = np.searchsorted(inverse, np.arange(len(series) + 1)).tolist()
        for owner in range(len(series)):
            wanted = slice(starts[owner], starts[owner + 1])
            have = slice(offsets[owner], offsets[owner + 1])
            if have.start == have.stop:
                continue
            at = np.searchsorted(have_times[have], times[wanted])
            at[at == have.stop - have.start] = 0
            is_present[wanted] = have_times[have][at] == times[wanted]
            bits[wanted] = have_values[have].view(np.int64)[at]
        return is_present, bits

    def _far_ahead(
        self,
        partitions: NDArray[np.int32],
        times: NDArray[np.int64],
        values: NDArray[np.float64],
        result: AppendResult,
    ) -> int:
        """Samples beyond a buffer's span: seal the buffers, then append again, as often as it takes."""
        memory = self._memory
        added = 0
        while len(times):
            memory.seal(np.unique(partitions))
            ones = np.ones(len(times), np.int32)
            with memory.lock:
                outcome = memory.buffers.append(partitions, ones, times, values, self._window_ms, memory.chunk_samples)
            added += outcome.accepted
            result.accepted += outcome.accepted
            partitions, times, values = partitions[outcome.late], times[outcome.late], values[outcome.late]
        return added

    def _example(
        self,
        chosen: NDArray[np.bool_],
        reason: str,
        order: NDArray[np.int64],
        partitions: NDArray[np.int32],
        times: NDArray[np.int64],
        values: NDArray[np.float64],
        result: AppendResult,
    ) -> None:
        if chosen.any() and not result.refused.example:
            first = int(np.flatnonzero(chosen)[np.argmin(order[chosen])])
            result.refused.example = sample_text(
                self._memory, int(partitions[first]), times[first], values[first], reason
            )
