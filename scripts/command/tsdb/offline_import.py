"""Writes series straight into the shard files of a data directory whose cluster is stopped."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import TracebackType

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.process.clocks import steady_ms, wall_ms
from filoray.command.tsdb.database_copy import check_not_in_use
from filoray.command.tsdb.series_blocks import containers_of
from filoray.command.tsdb.shard_files import ShardFile
from filoray.command.tsdb.stored_shard import StoredShard
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.data.write_outcome import UnknownSeries, WriteOutcome
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.shard_spec import ShardSpec

_ANY_AGE_MS = 1 << 62


class OfflineImport:
    """Use as a context manager. Samples of any time are taken; each shard keeps its owner's epoch.

    Raises Unavailable if a running cluster has one of the files open.
    """

    def __init__(self, data_dir: Path, config: DatasetConfig) -> None:
        self._config = config
        self._paths = [data_dir / config.storage_name / f"shard-{shard}.db" for shard in range(config.num_shards)]
        self._shards: dict[int, Shard] = {}
        self.outcome = WriteOutcome()
        for path in self._paths:
            if path.exists():
                check_not_in_use(path)

    def __enter__(self) -> OfflineImport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush and close; after an error what was written stays in the log."""
        for shard in self._shards.values():
            if kind is None:
                self._finish(shard)
            shard.close()

    def write(self, batch: SeriesBatch) -> None:
        """Durable when it returns. Raises BadData for labels that cannot be stored."""
        for number, container in containers_of(batch, self._config.num_shards, self._config.spread).items():
            shard = self._shard(number)
            (result,) = shard.append([container.encode()])
            assert not isinstance(result, UnknownSeries), "all part keys are along"
            self.outcome.add(result)
            while shard.upkeep(steady_ms(), wall_ms()):
                pass

    def _finish(self, shard: Shard) -> None:
        """Into chunks with all of it, and the room of the log back to the file system."""
        shard.flush_all(steady_ms(), wall_ms())
        shard.upkeep(steady_ms(), wall_ms())
        quiet_ms = self._config.store.flush_when_idle_ms + 1  # as if nothing had come for long, for nothing will
        while shard.upkeep(steady_ms() + quiet_ms, wall_ms()):
            pass

    def _shard(self, number: int) -> Shard:
        if number not in self._shards:
            path = self._paths[number]
            epoch = 0
            if path.exists():
                with StoredShard(ShardFile(self._config.name, number, path)) as stored:
                    epoch = stored.state.epoch
            # What is older than a day's retention was written just now: its time on disk begins here.
            store = dataclasses.replace(self._config.store, out_of_order_window_ms=_ANY_AGE_MS, max_future_ms=None)
            self._shards[number] = Shard.open(ShardSpec(self._config.name, number, epoch, path, store))
        return self._shards[number]
