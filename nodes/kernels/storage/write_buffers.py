"""Write buffers: the newest samples of every series, sorted by time, in chains of small blocks from one pool.

All but a chain's last block are full. Who calls makes sure that the pool has blocks enough.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, types

from filoray.nodes.kernels.array_types import F64_ROWS, I32, I64, READ_F64, READ_I32, READ_I64, U32_ROWS
from filoray.nodes.kernels.arrays import Floats, Int32s, Ints, UInt32s
from filoray.nodes.kernels.record_type import record_type
from filoray.nodes.kernels.storage.samples import OUT_SAMPLES, CountedSamples

NO_BLOCK = -1
SPAN_MS_MAX = 0xFFFFFFFF
NOTHING_YET_MS = np.iinfo(np.int64).min

ACCEPTED, SAME, TOO_OLD, DIFFERENT, LATE_COUNT, FULL_COUNT, TOO_OLD_EXAMPLE, DIFFERENT_EXAMPLE = range(8)
"""Places in the ``outcome`` int64[8] of ``append_samples``; examples are sample indices, -1 for none."""


class BlockPool(NamedTuple):
    """Blocks of B samples each.

    times        uint32[blocks, B]   ms after the ``base_ms`` of the block's series
    values       float64[blocks, B]
    next_block   int32[blocks]       the next of the chain, NO_BLOCK at its end
    free_blocks  int32[blocks]       a stack of the blocks that were given back
    usage        int64[2]            length of that stack, blocks ever used
    """

    times: UInt32s
    values: Floats
    next_block: Int32s
    free_blocks: Int32s
    usage: Ints


BLOCK_POOL = record_type(BlockPool, U32_ROWS, F64_ROWS, I32, I32, I64)


class BufferChains(NamedTuple):
    """What is known of each series, by partition id.

    first_block, last_block  int32   ends of its chain, NO_BLOCK where that is empty
    counts                   int32   samples in the chain
    base_ms                  int64   time of the first of them
    newest_ms, oldest_ms     int64   over everything the series ever had; NOTHING_YET_MS and INT64_MAX: nothing yet
    """

    first_block: Int32s
    last_block: Int32s
    counts: Int32s
    base_ms: Ints
    newest_ms: Ints
    oldest_ms: Ints


BUFFER_CHAINS = record_type(BufferChains, I32, I32, I32, I64, I64, I64)


class NewSamples(NamedTuple):
    """Samples that arrive for n series, one's after the other's, in any order of time.

    partitions  int32[n]        -1: this series is passed over
    counts      int32[n]        samples of each
    times       int64[total]    ms since 1970
    values      float64[total]
    """

    partitions: Int32s
    counts: Int32s
    times: Ints
    values: Floats


NEW_SAMPLES = record_type(NewSamples, READ_I32, READ_I32, READ_I64, READ_F64)


# Its arrays one by one: handing a record on costs a count of references for each, as much as the block itself.
@njit(types.int32(I32, I32, I64), cache=True, nogil=True)
def take_block(next_block: Int32s, free_blocks: Int32s, usage: Ints) -> int:
    """A block of the pool, at the end of no chain."""
    if usage[0] > 0:
        usage[0] -= 1
        block = free_blocks[usage[0]]
    else:
        block = types.int32(usage[1])
        usage[1] += 1
    next_block[block] = NO_BLOCK
    return block


@njit(
    types.void(NEW_SAMPLES, types.uint64, types.int64, types.int64, BLOCK_POOL, BUFFER_CHAINS, I32, I32, I64),
    cache=True,
    nogil=True,
)
def append_samples(
    new: NewSamples,
    window_ms: int,
    full_count: int,
    shut_ms: int,
    pool: BlockPool,
    chains: BufferChains,
    late: Int32s,
    full: Int32s,
    outcome: Ints,
) -> None:
    """Put the samples into their series' buffers.

    In order: appended. Between buffered samples: inserted if not older than newest - ``window_ms`` (any age where
    newest is later than ``shut_ms``); there already: SAME if the bits are equal, else DIFFERENT. What the buffer alone
    cannot decide (before its first sample, or too far after it) goes by sample index to ``late`` int32[total]; so does
    what would be inserted into a buffer that is full, as each insertion goes through all of it. Series whose buffer
    reaches ``full_count`` go to ``full`` int32[n].
    """
    partitions, sample_counts, times, values = new
    block_times, block_values, next_block, free_blocks, usage = pool
    first_block, last_block, counts, base_ms, newest_ms, oldest_ms = chains
    outcome[:] = 0
    outcome[TOO_OLD_EXAMPLE] = -1
    outcome[DIFFERENT_EXAMPLE] = -1
    bits = values.view(np.int64)
    block_bits = block_values.view(np.int64)
    block_size = block_times.shape[1]
    late_count = 0
    filled = 0
    at = 0
    for i in range(len(partitions)):
        partition = partitions[i]
        end = at + sample_counts[i]
        if partition < 0:
            at = end
            continue
        while at < end:
            time = times[at]
            newest = newest_ms[partition]
            count = counts[partition]
            if newest == NOTHING_YET_MS or time > newest:
                if count == 0:
                    block = take_block(next_block, free_blocks, usage)
                    first_block[partition] = block
                    last_block[partition] = block
                    base_ms[partition] = time
                elif types.uint64(time) - types.uint64(base_ms[partition]) > types.uint64(SPAN_MS_MAX):
                    late[late_count] = at
                    late_count += 1
                    at += 1
                    continue
                elif count % block_size == 0:
                    block = take_block(next_block, free_blocks, usage)
                    next_block[last_block[partition]] = block
                    last_block[partition] = block
                block = last_block[partition]
                slot = count % block_size
                block_times[block, slot] = types.uint32(types.uint64(time) - types.uint64(base_ms[partition]))
                block_values[block, slot] = values[at]
                counts[partition] = count + 1
                if newest == NOTHING_YET_MS:
                    oldest_ms[partition] = time
                newest_ms[partition] = time
                outcome[ACCEPTED] += 1
                if count + 1 == full_count:
                    full[filled] = partition
                    filled += 1
                at += 1
                continue
            if count == 0 or count >= full_count or time < base_ms[partition]:
                late[late_count] = at
                late_count += 1
                at += 1
                continue
            # Not after the newest, not before the first: find its place in the chain.
            delta = types.uint32(types.uint64(time) - types.uint64(base_ms[partition]))
            block = first_block[partition]
            passed = 0
            while next_block[block] != NO_BLOCK and block_times[block, block_size - 1] < delta:
                block = next_block[block]
                passed += block_size
            slot = 0
            used = min(block_size, count - passed)
            while slot < used and block_times[block, slot] < delta:
                slot += 1
            if slot < used and block_times[block, slot] == delta:
                if block_bits[block, slot] == bits[at]:
                    outcome[SAME] += 1
                else:
                    outcome[DIFFERENT] += 1
                    if outcome[DIFFERENT_EXAMPLE] < 0:
                        outcome[DIFFERENT_EXAMPLE] = at
                at += 1
                continue
            if newest <= shut_ms and types.uint64(newest) - types.uint64(time) > window_ms:
                outcome[TOO_OLD] += 1
                if outcome[TOO_OLD_EXAMPLE] < 0:
                    outcome[TOO_OLD_EXAMPLE] = at
                at += 1
                continue
            carried_time = delta
            carried_value = values[at]
            position = passed + slot
            while position < count:
                if slot == block_size:
                    block = next_block[block]
                    slot = 0
                carried_time, block_times[block, slot] = block_times[block, slot], carried_time
                moved = block_values[block, slot]
                block_values[block, slot] = carried_value
                carried_value = moved
                slot += 1
                position += 1
            if count % block_size == 0:
                block = take_block(next_block, free_blocks, usage)
                next_block[last_block[partition]] = block
                last_block[partition] = block
            block = last_block[partition]
            block_times[block, count % block_size] = carried_time
            block_values[block, count % block_size] = carried_value
            counts[partition] = count + 1
            outcome[ACCEPTED] += 1
            if count + 1 == full_count:
                full[filled] = partition
                filled += 1
            at += 1
    outcome[LATE_COUNT] = late_count
    outcome[FULL_COUNT] = filled


@njit(types.int64(READ_I32, types.int64, types.int64, BLOCK_POOL, BUFFER_CHAINS, I64), cache=True, nogil=True)
def count_buffered(
    partitions: Int32s, start_ms: int, end_ms: int, pool: BlockPool, chains: BufferChains, out: Ints
) -> int:
    """``out`` int64[n]: how many buffered samples of each series have ``start_ms <= time <= end_ms``.

    Returns how many there are in all.
    """
    total = 0
    block_times, next_block = pool.times, pool.next_block
    first_block, counts, base_ms = chains.first_block, chains.counts, chains.base_ms
    block_size = block_times.shape[1]
    for i in range(len(partitions)):
        partition = partitions[i]
        remaining = counts[partition]
        found = 0
        if remaining > 0:
            base = base_ms[partition]
            block = first_block[partition]
            while remaining > 0:
                used = min(block_size, remaining)
                low = base + types.int64(block_times[block, 0])
                high = base + types.int64(block_times[block, used - 1])
                if low >= start_ms and high <= end_ms:
                    found += used
                elif high >= start_ms and low <= end_ms:
                    for slot in range(used):
                        time = base + types.int64(block_times[block, slot])
                        if start_ms <= time <= end_ms:
                            found += 1
                remaining -= used
                block = next_block[block]
        out[i] = found
        total += found
    return total


@njit(types.void(READ_I32, types.int64, types.int64, BLOCK_POOL, BUFFER_CHAINS, OUT_SAMPLES), cache=True, nogil=True)
def copy_buffered(
    partitions: Int32s, start_ms: int, end_ms: int, pool: BlockPool, chains: BufferChains, out: CountedSamples
) -> None:
    """Fill ``out`` with what ``count_buffered`` counted."""
    block_times, block_values, next_block = pool.times, pool.values, pool.next_block
    first_block, counts, base_ms = chains.first_block, chains.counts, chains.base_ms
    _, out_times, out_values = out
    at = 0
    block_size = block_times.shape[1]
    for i in range(len(partitions)):
        partition = partitions[i]
        remaining = counts[partition]
        if remaining > 0:
            base = base_ms[partition]
            block = first_block[partition]
            while remaining > 0:
                used = min(block_size, remaining)
                low = base + types.int64(block_times[block, 0])
                high = base + types.int64(block_times[block, used - 1])
                if low >= start_ms and high <= end_ms:
                    to_times, to_values = out_times[at : at + used], out_values[at : at + used]
                    for slot in range(used):
                        to_times[slot] = base + types.int64(block_times[block, slot])
                        to_values[slot] = block_values[block, slot]
                    at += used
                elif high >= start_ms and low <= end_ms:
                    for slot in range(used):
                        time = base + types.int64(block_times[block, slot])
                        if start_ms <= time <= end_ms:
                            out_times[at] = time
                            out_values[at] = block_values[block, slot]
                            at += 1
                remaining -= used
                block = next_block[block]


@njit(types.void(READ_I32, BLOCK_POOL, BUFFER_CHAINS), cache=True, nogil=True)
def clear_buffers(partitions: Int32s, pool: BlockPool, chains: BufferChains) -> None:
    """Give the blocks of these series back to the pool; their buffers are empty then."""
    next_block, free_blocks, usage = pool.next_block, pool.free_blocks, pool.usage
    first_block, last_block, counts = chains.first_block, chains.last_block, chains.counts
    for i in range(len(partitions)):
        partition = partitions[i]
        if counts[partition] > 0:
            block = first_block[partition]
            while block != NO_BLOCK:
                free_blocks[usage[0]] = block
                usage[0] += 1
                block = next_block[block]
            counts[partition] = 0
            first_block[partition] = NO_BLOCK
            last_block[partition] = NO_BLOCK
