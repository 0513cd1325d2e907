"""How a shard keeps its data: FiloDB's ``sourceconfig.store`` block, with its key names, and ours beside them.

``conf/filoray-defaults.conf`` has the defaults, which hold where a data set's configuration is silent, and the reasons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from filoray.cluster.config.setting import Choice, Duration, Integer, Size

Durability = Literal["process", "power"]
"""``process``: an acknowledged write survives SIGKILL of everything. ``power``: also a power cut (fsync per commit)."""


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Settings of one dataset's shards."""

    flush_interval_ms: Annotated[int, Duration("flush-interval", minimum=100)]
    max_chunk_time_ms: Annotated[int | None, Duration("max-chunk-time", is_optional=True, at_least="flush-interval")]
    disk_time_to_live_ms: Annotated[int, Duration("disk-time-to-live", minimum=1000)]
    max_chunks_size: Annotated[int, Integer("max-chunks-size", minimum=2, maximum=65_536)]
    groups_per_shard: Annotated[int, Integer("groups-per-shard", minimum=1, maximum=1024)]
    shard_mem_bytes: Annotated[int, Size("shard-mem-size", minimum=1 << 20)]
    max_data_per_shard_query_bytes: Annotated[int, Size("max-data-per-shard-query", minimum=1024)]
    out_of_order_window_ms: Annotated[int, Duration("out-of-order-window")]
    durability: Annotated[Durability, Choice("durability", get_args(Durability))]
    max_series_per_shard: Annotated[int, Integer("max-series-per-shard", minimum=1)]
    decoded_chunk_cache_bytes: Annotated[int, Size("decoded-chunk-cache-size")]
    max_workspace_series_per_shard: Annotated[int, Integer("max-workspace-series-per-shard", minimum=1)]
    max_namespace_series_per_shard: Annotated[int, Integer("max-namespace-series-per-shard", minimum=1)]
    flush_when_idle_ms: Annotated[int, Duration("flush-when-idle", minimum=100)]
    clock_jump_wait_ms: Annotated[int, Duration("clock-jump-wait")]
    label_bytes_max: Annotated[int, Size("max-label-size-per-shard", minimum=1 << 16)]
    log_size_bytes_max: Annotated[int, Size("max-log-size", minimum=1 << 16)]
    max_future_ms: Annotated[int | None, Duration("max-future-time", minimum=1, is_optional=True)]
