"""Which healthy shards may move, and which of them is to move next: a part of the ShardManager.

It gives ``spreading.py`` and ``copy_spreading.py`` what each node has, and what may leave it, and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from filoray.cluster.control.copy_placement import CopyPlacement
from filoray.cluster.control.copy_spreading import next_switch
from filoray.cluster.control.fences import ShardKey
from filoray.cluster.control.shard_map import ShardEntry
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.control.shard_table import KnownDataset, ShardTable
from filoray.cluster.control.spreading import DatasetSpread, Move, next_move, room_elsewhere
from filoray.cluster.errors import BadData


class MovableShards:
    """``bound_for``: who is to have shards that are on their way; ``by_hand``: those that are where operators put them.

    Both are the ShardPlacement's, as they are at any moment.
    """

    def __init__(
        self,
        table: ShardTable,
        copies: CopyPlacement,
        bound_for: Mapping[ShardKey, str],
        by_hand: AbstractSet[ShardKey],
    ) -> None:
        self._table = table
        self._copies = copies
        self._bound_for = bound_for
        self._by_hand = by_hand

    def check_drain(self, nodes: Sequence[str]) -> None:
        """Whether all of them can be drained, one after the other. Raises BadData."""
        table, text = self._table, ", ".join(nodes)
        for node in nodes:
            table.check_member(node)
        open_nodes = table.open_nodes - set(nodes)
        if not open_nodes:
            raise BadData(f"without {text} no node is left that may have shards")
        for spread in self._spreads(counts_moves=False):
            leaving = sum(spread.owned.get(drained, 0) for drained in table.drained.union(nodes))
            room = room_elsewhere(spread, open_nodes)
            if leaving > room:
                raise BadData(
                    f"{text} cannot be drained: {leaving} shards of dataset {spread.dataset} would have to go to nodes "
                    f"that have room for {room}; a node may have {spread.capacity}"
                )

    def next_move(self, *, evens_out: bool) -> Move | None:
        """Of shards, or of leaders of those that have copies."""
        table = self._table
        for dataset in table.copied_datasets:
            name = dataset.name
            movable = [entry for entry in dataset.shard_map.shards if self._is_movable(name, entry)]
            leads = {node: dataset.shard_map.load_of(node) for node in table.members}
            switchable = self._copies.switchable(dataset, movable)
            if move := next_switch(name, switchable, leads, table.open_nodes, evens_out=evens_out):
                return move
        return next_move(self._spreads(), table.members, table.drained, evens_out=evens_out)

    def _spreads(self, *, counts_moves: bool = True) -> list[DatasetSpread]:
        """What is on its way to a node counts as that node's; what it only follows yet, if ``counts_moves``.

        What is not well, or was given to a node by hand, leaves it only if that is drained.
        """
        spreads = []
        for name, dataset in self._table.datasets.items():
            owned: Counter[str] = Counter()
            movable: dict[str, list[int]] = {}
            for entry in dataset.shard_map.shards:
                node = entry.node
                if node is None or counts_moves:
                    node = self._bound_for.get((name, entry.shard), node)
                if node is None:
                    continue
                owned[node] += 1
                if dataset.config.is_replicated and self._is_switched(dataset, entry):
                    continue
                if self._is_movable(name, entry):
                    movable.setdefault(node, []).append(entry.shard)
            spreads.append(DatasetSpread(name, dataset.config.shards_per_node_max, owned, movable))
        return spreads

    def _is_switched(self, dataset: KnownDataset, entry: ShardEntry) -> bool:
        """Whether a shard that others follow moves by a change of leaders only.

        Not one of a drained node where any node may lead, and none of those that follow it is ready.
        """
        open_nodes = self._table.open_nodes
        if dataset.config.has_copies or entry.node in open_nodes:
            return True
        return any(node in open_nodes for node in entry.copies.in_sync if node != entry.node)

    def _is_movable(self, name: str, entry: ShardEntry) -> bool:
        kind, is_leaving, key = entry.status.kind, entry.node in self._table.drained, (name, entry.shard)
        if kind is not StatusKind.ACTIVE and not (is_leaving and kind is StatusKind.ERROR):
            return False
        return key not in self._bound_for and (is_leaving or key not in self._by_hand)
