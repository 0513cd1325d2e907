"""A data directory with copies of shards, made by a leader and followers as the nodes have them, without a cluster."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from shards import NOW_MS, STORE, container

from filoray.cluster.config.dataset import LOG_STREAM_FACTORY, DatasetConfig
from filoray.cluster.config.dataset_file import write_dataset_file
from filoray.cluster.control.copy_set import CopySet
from filoray.cluster.control.shard_status import ShardStatus, StatusKind
from filoray.cluster.store.meta_store import MetaStore
from filoray.nodes.memstore.replica_entries import CommitEntry, ReplicaEntry, decode_entry, encode_entry
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.shard_spec import ShardSpec

REPLICATED = DatasetConfig("prom", "g", 2, 1, LOG_STREAM_FACTORY, 1, {}, STORE, num_replicas=2, min_in_sync_replicas=1)
SERIES = 5


def copy_path(data_dir: Path, node: str, shard: int, config: DatasetConfig = REPLICATED) -> Path:
    return data_dir / "copies" / node / config.storage_name / f"shard-{shard}.db"


class CopiedShard:
    """The first node leads. Nodes in ``away`` get nothing; entries to those in ``late`` wait for ``deliver``."""

    def __init__(
        self,
        data_dir: Path,
        shard: int,
        nodes: Sequence[str],
        epoch: int = 1,
        config: DatasetConfig = REPLICATED,
        first_step: int = 0,
    ) -> None:
        self.away: set[str] = set()
        self.late: dict[str, list[ReplicaEntry]] = {}
        self._step = first_step
        self._shards = {}
        for node in nodes:
            path = copy_path(data_dir, node, shard, config)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_dataset_file(path.parent, config)
            self._shards[node] = Shard.open(ShardSpec(config.name, shard, epoch, path, config.store))
        self._leader, *_ = self._shards.values()
        self._leader.on_entry = self._send
        self._followers = {node: shard for node, shard in self._shards.items() if shard is not self._leader}

    def write(self, count: int = 1, *, is_flushed: bool = True) -> None:
        """A sample of each series, so many times."""
        for _ in range(count):
            self._step += 1
            series = [({"__name__": "m", "i": str(i)}, [(NOW_MS + self._step * 1000, float(i))]) for i in range(SERIES)]
            appended = self._leader.begin_append([container(series)], NOW_MS)
            assert appended.commit is not None
            self._send(CommitEntry(appended.commit))
            self._leader.finish_append(appended)
            if is_flushed:
                self._leader.flush_all(NOW_MS, NOW_MS)

    def deliver(self, node: str) -> None:
        for entry in self.late.pop(node):
            self._followers[node].follow(entry)

    def close(self) -> None:
        for shard in self._shards.values():
            shard.close()

    def _send(self, entry: ReplicaEntry) -> None:
        for node, follower in self._followers.items():
            if node in self.late:
                self.late[node].append(entry)
            elif node not in self.away:
                follower.follow(decode_entry(encode_entry(entry), "an entry"))


def put_copies(
    data_dir: Path, in_sync: Mapping[int, Sequence[str]], *, epoch: int, config: DatasetConfig = REPLICATED
) -> None:
    """Have the coordinator's store say so of shards; one that began before."""
    store = MetaStore.open(None, data_dir)
    store.put_dataset(config, is_deleting=False)
    ((_, shard_map),) = store.restored_state({}).shard_maps
    store.put_shard_map(
        shard_map.with_entries(
            dataclasses.replace(
                shard_map[shard],
                status=ShardStatus(StatusKind.DOWN),
                epoch=epoch,
                copies=CopySet(7, tuple(nodes[1:]), tuple(nodes)),
            )
            for shard, nodes in in_sync.items()
        )
    )
    store.next_generation()
    store.close()
