"""What comes to a follower of its leader's shard, until it is a shard here: a file of its own, or rows in memory."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Protocol

from filoray.cluster.control.node_effects import OpenShard
from filoray.nodes.host.shard_files import ShardFiles
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.shard_spec import ShardSpec
from filoray.nodes.memstore.store.snapshot import SnapshotFile
from filoray.nodes.memstore.store.warm_store import SnapshotRows


class Joining(Protocol):
    """One thread at a time."""

    def held(self, unwanted: threading.Event) -> list[tuple[int, int]]:
        """(batch id, checksum) of what need not come, as it is here. Raises Unavailable once ``unwanted`` is set."""
        ...

    def add(self, piece: bytes) -> None:
        """See ``SnapshotFile.add``."""
        ...

    def open(self) -> Shard:
        """All came, and what was here before is closed. If it raises, all is as after ``abort``."""
        ...

    def abort(self) -> None: ...


def begin_joining(files: ShardFiles, order: OpenShard) -> Joining:
    """For a follower of that order. Raises Unavailable."""
    return _OwnFile(files, order) if order.config.has_copies else _Rows(files, order)


class _OwnFile:
    """It takes the place of the file that was here before."""

    def __init__(self, files: ShardFiles, order: OpenShard) -> None:
        self._files = files
        self._order = order
        path = files.path(order.config, order.shard)
        self._file = SnapshotFile(path, order.epoch, order.config.store.durability)
        self.held = self._file.held
        self.add = self._file.add
        self.abort = self._file.abort

    def open(self) -> Shard:
        try:
            self._file.install()
        except BaseException:
            self._file.abort()
            raise
        self._files.describe(self._order.config)
        return Shard.open(_spec(self._files, self._order))


class _Rows:
    """The store is the leader's, and within reach."""

    def __init__(self, files: ShardFiles, order: OpenShard) -> None:
        self._spec = _spec(files, order)
        self._rows = SnapshotRows(self._spec.name)
        self.add = self._rows.add

    def held(self, unwanted: threading.Event) -> list[tuple[int, int]]:
        return []

    def open(self) -> Shard:
        return Shard.keep_warm(self._spec, self._rows)

    def abort(self) -> None:
        """What came goes with this."""


def _spec(files: ShardFiles, order: OpenShard) -> ShardSpec:
    return replace(files.spec(order), was_open=True)
