"""Which processes may still hold which shards, though they do not own them any more: a part of the ShardManager.

A shard with a fence is handed on to nobody. A fence ends when its process says that it holds the shard no more at that
epoch, or a later one, or when the process is certainly gone.
"""

from __future__ import annotations

from collections.abc import Iterable

ShardKey = tuple[str, int]
Process = tuple[str, int]
"""(node, incarnation)."""


class Fences:
    def __init__(self) -> None:
        self._epochs: dict[ShardKey, dict[Process, int]] = {}

    def __contains__(self, key: ShardKey) -> bool:
        return key in self._epochs

    def nodes(self, keys: Iterable[ShardKey]) -> frozenset[str]:
        """That may still hold one of those shards."""
        return frozenset(node for key in keys for node, _ in self._epochs.get(key, ()))

    def has_node(self, node: str) -> bool:
        """Whether it may still hold some shard."""
        return any(node == holder for fence in self._epochs.values() for holder, _ in fence)

    def put(self, key: ShardKey, epoch: int, process: Process) -> None:
        """``process`` may hold that shard at that epoch: nobody else gets it before it let go or is gone."""
        self._epochs.setdefault(key, {})[process] = epoch

    def let_go(self, process: Process, shards: Iterable[tuple[ShardKey, int]]) -> list[ShardKey]:
        """It holds those shards no more at those epochs; returns those of which that is news.

        A late word on an earlier epoch says nothing of a later one.
        """
        news = []
        for key, epoch in shards:
            fenced = self._epochs.get(key, {}).get(process)
            if fenced is not None and fenced <= epoch:
                self._lift(key, process)
                news.append(key)
        return news

    def closed(self, process: Process, keys: Iterable[ShardKey]) -> None:
        """It holds those shards no more, at whatever epoch."""
        for key in keys:
            self._lift(key, process)

    def gone(self, process: Process) -> None:
        self.closed(process, list(self._epochs))

    def _lift(self, key: ShardKey, process: Process) -> None:
        fence = self._epochs.get(key, {})
        fence.pop(process, None)
        if not fence:
            self._epochs.pop(key, None)
