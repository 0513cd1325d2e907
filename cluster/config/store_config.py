"""How a shard keeps its data: FiloDB's ``sourceconfig.store`` block, with its key names, and ours beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

from filoray.cluster.config.config_section import ConfigSection

Durability = Literal["process", "power"]
"""``process``: an acknowledged write survives SIGKILL of everything. ``power``: also a power cut (fsync per commit)."""


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Settings of one dataset's shards. ``conf/filoray-defaults.conf`` says what each is for."""

    flush_interval_ms: int
    disk_time_to_live_ms: int
    max_chunks_size: int
    max_chunk_time_ms: int | None
    groups_per_shard: int
    shard_mem_bytes: int
    max_data_per_shard_query_bytes: int
    out_of_order_window_ms: int
    durability: Durability
    max_series_per_shard: int
    decoded_chunk_cache_bytes: int
    max_workspace_series_per_shard: int = 2_000_000
    max_namespace_series_per_shard: int = 2_000_000
    flush_when_idle_ms: int = 5_000
    clock_jump_wait_ms: int = 3_600_000
    max_future_ms: int | None = 600_000
    label_bytes_max: int = 256 << 20
    log_size_bytes_max: int = 512 << 20


def read_store_config(section: ConfigSection) -> StoreConfig:
    """Read every key of a complete ``store`` block; raises ConfigError naming key and place. Does not ``finish``."""
    flush_interval_ms = section.duration_ms("flush-interval", minimum=100)
    max_chunk_time_ms = (
        section.duration_ms("max-chunk-time", minimum=flush_interval_ms) if section.has("max-chunk-time") else None
    )
    return StoreConfig(
        flush_interval_ms=flush_interval_ms,
        disk_time_to_live_ms=section.duration_ms("disk-time-to-live", minimum=1000),
        max_chunks_size=section.integer("max-chunks-size", minimum=2, maximum=65_536),
        max_chunk_time_ms=max_chunk_time_ms,
        groups_per_shard=section.integer("groups-per-shard", minimum=1, maximum=1024),
        shard_mem_bytes=section.size_bytes("shard-mem-size", minimum=1 << 20),
        max_data_per_shard_query_bytes=section.size_bytes("max-data-per-shard-query", minimum=1024),
        out_of_order_window_ms=section.duration_ms("out-of-order-window"),
        durability=cast(Durability, section.choice("durability", get_args(Durability))),
        max_series_per_shard=section.integer("max-series-per-shard", minimum=1),
        decoded_chunk_cache_bytes=section.size_bytes("decoded-chunk-cache-size"),
        max_workspace_series_per_shard=section.integer("max-workspace-series-per-shard", minimum=1),
        max_namespace_series_per_shard=section.integer("max-namespace-series-per-shard", minimum=1),
        flush_when_idle_ms=section.duration_ms("flush-when-idle", minimum=100),
        clock_jump_wait_ms=section.duration_ms("clock-jump-wait"),
        label_bytes_max=section.size_bytes("max-label-size-per-shard", minimum=1 << 16),
        log_size_bytes_max=section.size_bytes("max-log-size", minimum=1 << 16),
        max_future_ms=section.duration_ms("max-future-time", minimum=1) if section.has("max-future-time") else None,
    )
