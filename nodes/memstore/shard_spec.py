"""What a shard is opened with, and what it says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from filoray.cluster.config.dataset import storage_name
from filoray.cluster.config.store_config import StoreConfig


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """``epoch``: the owner's; ``path``: the shard's file, whose folder is made if it is missing."""

    dataset: str
    shard: int
    epoch: int
    path: Path
    store: StoreConfig
    log_bytes_max: int = 64 << 20
    """A longer log makes flushes due (or 120 samples of every series, if that is more): it bounds recovery."""
    column_store_url: str | None = None
    """The PostgreSQL where the shard is stored; None: in the file at ``path``."""
    generation: int = 0
    """The dataset's: a later one of its name has other rows."""
    was_open: bool = False
    """It was open before: what it stored must be there. An empty store in its place would hide that it is not."""
    is_copy: bool = False
    """Others may have what is missing here, so not even a file that is known to have been lost is made anew."""

    @property
    def storage_name(self) -> str:
        return storage_name(self.dataset, self.generation)

    @property
    def name(self) -> str:
        return f"dataset {self.dataset} shard {self.shard}"


@dataclass(frozen=True, slots=True)
class ShardStats:
    """``memory_bytes`` has all but ``cache_bytes``, the decoded chunks."""

    series: int
    buffered_samples: int
    samples: int
    chunks: int
    resident_chunk_bytes: int
    memory_bytes: int
    cache_bytes: int
    log_bytes: int
    stored_bytes: int
    next_offset: int
    damages: tuple[str, ...]
