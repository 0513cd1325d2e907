"""Shards that move while they are served: which, where to, and what became of it. A part of the ShardManager.

Where all nodes share a shard's store, the node that is to have it follows it first, in its memory; when the leader says
that it is in sync, one switch makes it the owner, which has nothing to recover. Until then nothing changes for anybody
else. A move that does not come to that in time becomes an ordinary handing over; one whose node is gone is given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from filoray.cluster.control.copy_placement import CopyPlacement
from filoray.cluster.control.fences import ShardKey
from filoray.cluster.control.shard_map import ShardEntry
from filoray.cluster.control.shard_messages import ManagerCommand
from filoray.cluster.control.shard_table import KnownDataset, ShardTable


@dataclass(slots=True)
class WarmMove:
    """To ``node``, whose process is ``incarnation``, from the owner at ``epoch``. ``why``: for the shard's story.

    ``since_ms``: when it was looked at first; None: never yet.
    """

    node: str
    incarnation: int | None
    epoch: int
    why: str
    since_ms: int | None = None


class WarmMoves:
    def __init__(self, table: ShardTable, copies: CopyPlacement) -> None:
        self._table = table
        self._copies = copies
        self._moves: dict[ShardKey, WarmMove] = {}
        for dataset in table.datasets.values():
            if not dataset.config.is_replicated:  # then whoever follows does so because the shard moves there
                followed = (entry for entry in dataset.shard_map.shards if entry.copies.followers)
                for entry in followed:
                    self._note(dataset, entry, entry.copies.followers[0], "it was to move there")

    # ---- what can be asked

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._moves)

    def __iter__(self) -> Iterator[tuple[ShardKey, WarmMove]]:
        return iter(tuple(self._moves.items()))

    def __contains__(self, key: ShardKey) -> bool:
        return key in self._moves

    def get(self, key: ShardKey) -> WarmMove | None:
        return self._moves.get(key)

    def problem(self, dataset: KnownDataset, move: WarmMove) -> str:
        """Why the shard cannot go there any more, or ""."""
        table, node = self._table, move.node
        if table.members.get(node) != move.incarnation:
            return f"{node} is gone"
        if node in table.drained:
            return f"{node} is drained"
        if dataset.shard_map.load_of(node) >= dataset.config.owned_per_node_max:
            return f"{node} has no room any more"
        return ""

    # ---- changes

    def begin(self, dataset: KnownDataset, entries: Sequence[ShardEntry], node: str, why: str) -> list[ManagerCommand]:
        """Those go to ``node``, a member that does not own them, wherever they were to go before."""
        commands = self.give_up(
            dataset, [entry.shard for entry in entries if self._goes_elsewhere(dataset, entry, node)], why
        )
        for entry in entries:
            self._note(dataset, entry, node, why)
        return commands + self._copies.add_copy(dataset, [entry.shard for entry in entries], node, why)

    def give_up(self, dataset: KnownDataset, shards: Iterable[int], why: str) -> list[ManagerCommand]:
        """Those of ``shards`` that move stay where they are, and nobody follows them for that any more."""
        followed: dict[int, str] = {}
        for shard in shards:
            move = self._moves.pop((dataset.name, shard), None)
            if move is not None:
                self._table.tell(dataset, shard, f"it does not move to {move.node}: {why}")
                if not dataset.config.is_replicated:
                    followed[shard] = move.node
        return self._copies.drop(dataset, followed, why)

    def end(self, key: ShardKey) -> None:
        """It is over, whatever became of it."""
        self._moves.pop(key, None)

    def _note(self, dataset: KnownDataset, entry: ShardEntry, node: str, why: str) -> None:
        known = self._moves.get((dataset.name, entry.shard))
        if known is None or (known.node, known.epoch) != (node, entry.epoch):
            incarnation = self._table.members.get(node)
            self._moves[dataset.name, entry.shard] = WarmMove(node, incarnation, entry.epoch, why)

    def _goes_elsewhere(self, dataset: KnownDataset, entry: ShardEntry, node: str) -> bool:
        move = self._moves.get((dataset.name, entry.shard))
        return move is not None and move.node != node

    # ---- members

    def joined(self, node: str) -> list[ManagerCommand]:
        """Have it follow what is to move there, and tell it of what is to move away."""
        commands: list[ManagerCommand] = []
        for (name, shard), _ in self:
            dataset = self._table.datasets[name]
            entry = dataset.shard_map[shard]
            if entry.is_on(node) and not dataset.config.is_replicated:
                commands += [
                    *self._copies.follow(dataset, {shard: entry.copies.followers}),
                    *self._copies.tell(dataset, [entry]),
                ]
        return commands
