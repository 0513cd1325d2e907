"""Samples of a WriteRequest by shard, as columns of one container for each: a stable counting sort over series."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, types

from filoray.nodes.kernels.array_types import I32, I64, U64
from filoray.nodes.kernels.arrays import Int32s, Ints, UInt64s
from filoray.nodes.kernels.edge.remote_write import REQUEST_COLUMNS, RequestColumns
from filoray.nodes.kernels.edge.series_lookup import SERIES_COLUMNS, SeriesColumns
from filoray.nodes.kernels.record_type import record_type


class ShardGroups(NamedTuple):
    """Columns of the containers, shard after shard, and where each shard's part ends.

    hash_high, hash_low       uint64[series]   halves of the part keys' hashes
    counts                    int32[series]    samples of each
    rows                      int32[series]    of the gateway's table
    timestamps                int64[samples]   ms since 1970
    value_bits                uint64[samples]  the float64 values' bits
    series_ends, sample_ends  int64[shards]
    """

    hash_high: UInt64s
    hash_low: UInt64s
    counts: Int32s
    rows: Int32s
    timestamps: Ints
    value_bits: UInt64s
    series_ends: Ints
    sample_ends: Ints

    @classmethod
    def room_for(cls, series: int, samples: int, shards: int) -> ShardGroups:
        """So many, to be filled."""
        return cls(
            hash_high=np.empty(series, np.uint64),
            hash_low=np.empty(series, np.uint64),
            counts=np.empty(series, np.int32),
            rows=np.empty(series, np.int32),
            timestamps=np.empty(samples, np.int64),
            value_bits=np.empty(samples, np.uint64),
            series_ends=np.empty(shards, np.int64),
            sample_ends=np.empty(shards, np.int64),
        )


SHARD_GROUPS = record_type(ShardGroups, U64, U64, I32, I32, I64, U64, I64, I64)


@njit(types.void(I32, REQUEST_COLUMNS, SERIES_COLUMNS, SHARD_GROUPS), cache=True, nogil=True)
def group_by_shard(ids: Int32s, request: RequestColumns, table: SeriesColumns, groups: ShardGroups) -> None:
    """Samples in request order to samples by shard, in the order of the request within each.

    ids     int32[series]: row of each in the table; where its shard is negative the series is refused
    groups  out, room for all series and all samples

    Series without samples are left out.
    """
    counts, timestamps, value_bits = request.counts, request.timestamps, request.value_bits
    table_hash_high, table_hash_low, table_shards = table.hash_high, table.hash_low, table.shards
    hash_high, hash_low, grouped_counts, grouped_ids = groups.hash_high, groups.hash_low, groups.counts, groups.rows
    grouped_timestamps, grouped_value_bits = groups.timestamps, groups.value_bits
    series_ends, sample_ends = groups.series_ends, groups.sample_ends
    num_shards = len(series_ends)
    for shard in range(num_shards):
        series_ends[shard] = 0
        sample_ends[shard] = 0
    for i in range(len(ids)):
        shard = table_shards[ids[i]]
        if shard >= 0 and counts[i] > 0:
            series_ends[shard] += 1
            sample_ends[shard] += counts[i]
    series_before = 0
    samples_before = 0
    for shard in range(num_shards):
        series_count = series_ends[shard]
        sample_count = sample_ends[shard]
        series_ends[shard] = series_before
        sample_ends[shard] = samples_before
        series_before += series_count
        samples_before += sample_count
    source = 0
    for i in range(len(ids)):
        count = counts[i]
        row = ids[i]
        shard = table_shards[row]
        if shard >= 0 and count > 0:
            place = series_ends[shard]
            series_ends[shard] = place + 1
            hash_high[place] = table_hash_high[row]
            hash_low[place] = table_hash_low[row]
            grouped_counts[place] = count
            grouped_ids[place] = row
            target = sample_ends[shard]
            sample_ends[shard] = target + count
            for k in range(count):
                grouped_timestamps[target + k] = timestamps[source + k]
                grouped_value_bits[target + k] = value_bits[source + k]
        source += count
