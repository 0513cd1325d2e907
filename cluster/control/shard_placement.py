"""Which node gets which shard, and taking shards from their owners: a part of the ShardManager.

A shard that is taken from its owner is fenced until that has closed it; then it goes to the node that it is bound for,
or, if that cannot have it any more or none was chosen, to one that has it warm in its memory, or else to the one that
``assignment.py`` chooses. Which healthy shards move by themselves is ``spreading.py``'s to say; here is when. Where the
node that is to have one can follow it first, it does (``warm_moves.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from filoray.cluster.control.assignment import NodeLoad, assign_shards, node_order
from filoray.cluster.control.copy_placement import CopyPlacement
from filoray.cluster.control.copy_set import InSyncProposed
from filoray.cluster.control.fences import ShardKey
from filoray.cluster.control.movable_shards import MovableShards
from filoray.cluster.control.shard_map import ShardEntry
from filoray.cluster.control.shard_messages import (
    ManagerCommand,
    MemberJoined,
    PersistDrained,
    PersistShardMap,
    SpreadDue,
    StartShards,
    StopShards,
)
from filoray.cluster.control.shard_status import (
    HandoverStarted,
    IngestionStopped,
    ShardAssignmentStarted,
    ShardEvent,
    StatusKind,
    next_status,
)
from filoray.cluster.control.shard_table import KnownDataset, ShardTable
from filoray.cluster.control.spreading import Move
from filoray.cluster.control.warm_moves import WarmMoves
from filoray.cluster.errors import BadData, Unavailable
from filoray.cluster.node_protocol import ShardEpoch

_AWAITS_OWNER = (StatusKind.UNASSIGNED, StatusKind.DOWN)
_ON_ITS_WAY = (StatusKind.ASSIGNED, StatusKind.RECOVERY)


class ShardPlacement:
    def __init__(self, table: ShardTable) -> None:
        self._table = table
        self._bound_for: dict[ShardKey, str] = {}
        """Of shards that move, or were taken from their owner: who is to have them, if it still can by then."""
        self._by_hand: set[ShardKey] = set()
        """Shards that an operator gave to a node since the last one came or went: they stay there."""
        self._to_lead: dict[ShardKey, str] = {}
        """Of shards with copies that an operator moves: who is to lead once it is in sync."""
        self.copies = CopyPlacement(table)
        self._moves = WarmMoves(table, self.copies)
        self._bound_for |= {key: move.node for key, move in self._moves}
        self.movable = MovableShards(table, self.copies, self._bound_for, self._by_hand)
        self._is_even = False

    # ---- what can be asked

    @property
    def is_even(self) -> bool:
        """Whether no shard is on its way and none is to move."""
        return self._is_even and not self._unsettled() and not self._moves

    def unowned(self, dataset: KnownDataset) -> tuple[int, ...]:
        """Shards that may be given to a node now."""
        entries = dataset.shard_map.with_status(*_AWAITS_OWNER)
        return tuple(entry.shard for entry in entries if (dataset.name, entry.shard) not in self._table.fences)

    def without_room(self, dataset: KnownDataset) -> tuple[int, ...]:
        """Shards that wait for a node as every member is full; not those that wait for one that has a copy."""
        if self._table.unconfirmed:
            return ()
        waiting = self.unowned(dataset)  # whatever could be given out was
        if dataset.config.shares_store:
            return waiting
        return tuple(shard for shard in waiting if not dataset.shard_map[shard].copies.in_sync)

    # ---- giving

    def assign_all(self, why: str) -> list[ManagerCommand]:
        return [
            command
            for dataset in self._table.datasets.values()
            for command in (
                *self.assign(dataset, why),
                *self._ask_others_to_lead(dataset),
                *self.copies.complete(dataset),
            )
        ]

    def _ask_others_to_lead(self, dataset: KnownDataset) -> list[ManagerCommand]:
        """Shards whose leaders cannot open what they have, where another has it too."""
        if not dataset.config.is_replicated or self._table.unconfirmed:
            return []
        commands: list[ManagerCommand] = []
        for entry in dataset.shard_map.with_status(StatusKind.ERROR):
            node = None if entry.status.is_open else self.copies.next_candidate(dataset, entry)
            if node is not None:
                commands += self._switch(dataset, node, [entry], f"{entry.node} cannot open what it has")
        return commands

    def assign(self, dataset: KnownDataset, why: str) -> list[ManagerCommand]:
        """Give shards without an owner to nodes with room. Nobody is chosen before a restart is sorted out."""
        waiting = self.unowned(dataset)
        if self._table.unconfirmed or not waiting:
            return []
        if dataset.config.has_copies:
            return self._assign_leaders(dataset, waiting, why)
        return self._assign_anywhere(dataset, waiting, why)

    def _assign_leaders(self, dataset: KnownDataset, waiting: Sequence[int], why: str) -> list[ManagerCommand]:
        """Shards that have data to nodes that have it, the others to any."""
        fresh = []
        commands: list[ManagerCommand] = []
        chosen: dict[int, str] = {}
        for shard in waiting:
            candidates = self.copies.candidates(dataset, dataset.shard_map[shard])
            if candidates is None:
                fresh.append(shard)
            elif candidates:
                bound_for = self._bound_for.get((dataset.name, shard))
                chosen[shard] = bound_for if bound_for in candidates else candidates[0]
        if chosen:
            commands += self.hand_over(dataset, chosen, why)
        return commands + (self._assign_anywhere(dataset, fresh, why) if fresh else [])

    def _assign_anywhere(self, dataset: KnownDataset, waiting: Sequence[int], why: str) -> list[ManagerCommand]:
        config, open_nodes = dataset.config, self._table.open_nodes
        totals = Counter({node: self._table.load_of(node) for node in open_nodes})
        of_dataset = Counter({node: dataset.shard_map.load_of(node) for node in open_nodes})
        chosen: dict[int, str] = {}
        for shard in waiting:
            entry = dataset.shard_map[shard]
            warm = self.copies.warm(dataset, entry) if entry.copies.followers else ()
            for node in (self._bound_for.get((dataset.name, shard)), *warm):
                if node in open_nodes and of_dataset[node] < config.owned_per_node_max:
                    chosen[shard] = node
                    of_dataset[node] += 1
                    totals[node] += 1
                    break
        loads = {node: NodeLoad(of_dataset[node], totals[node]) for node in open_nodes}
        others = (shard for shard in waiting if shard not in chosen)
        chosen |= assign_shards(others, loads, config.shards_per_node_max)
        return self.hand_over(dataset, chosen, why) if chosen else []

    def hand_over(self, dataset: KnownDataset, chosen: Mapping[int, str], why: str) -> list[ManagerCommand]:
        """Each shard of ``chosen``, which nobody has, to its node, at its next epoch."""
        table, changed = self._table, []
        by_node: dict[str, list[ShardEpoch]] = {}
        left: dict[int, tuple[str, ...]] = {}
        """Who followed for a move, and does not lead."""
        for shard, node in chosen.items():
            entry, key = dataset.shard_map[shard], (dataset.name, shard)
            self._bound_for.pop(key, None)
            self._moves.end(key)
            epoch = table.epochs.next(key)
            status = next_status(entry.status, ShardAssignmentStarted())
            copies = self.copies.chosen(dataset, entry, node)
            if entry.copies.followers and not dataset.config.is_replicated:
                left[shard] = tuple(other for other in entry.copies.followers if other != node)
            changed.append(replace(entry, status=status, node=node, epoch=epoch, copies=copies))
            table.tell(dataset, shard, f"{entry.status} -> {status}: {node}, epoch {epoch}; {why}")
            by_node.setdefault(node, []).append((shard, epoch))
        table.change(dataset, changed)
        orders: list[ManagerCommand] = [
            StartShards(node, table.members[node], dataset.config, tuple(shards))
            for node, shards in sorted(by_node.items(), key=lambda item: node_order(item[0]))
        ]
        if dataset.config.is_replicated:
            self._is_even = False  # who follows may be too few, or not in sync
            orders += self.copies.orders(dataset, chosen)
        orders += self.copies.drop_orders(dataset, ((dataset.shard_map[shard], nodes) for shard, nodes in left.items()))
        return [PersistShardMap(dataset.shard_map), *orders, *table.publish(dataset)]

    def start(self, name: str, node: str, shards: tuple[int, ...]) -> list[ManagerCommand]:
        """As an operator says; raises as ``ShardsStarted`` has it."""
        dataset = self._table.known(name)
        self._table.check_shards(dataset, shards)
        self._table.check_member(node)
        for shard in shards:
            entry = dataset.shard_map[shard]
            if entry.node is not None:
                raise BadData(f"shard {shard} of dataset {name} is assigned to {entry.node} already; stop it first")
        self._check_room(dataset, node, len(shards))
        for shard in shards:
            self.copies.check_candidate(dataset, dataset.shard_map[shard], node)
        for shard in shards:
            if former := self._table.unreleased_by(name, (shard,)):
                raise Unavailable(
                    f"shard {shard} of dataset {name} cannot move before {', '.join(former)}, which had it, "
                    "has closed it or is gone; try again later"
                )
        self._by_hand.update((name, shard) for shard in shards)
        return self.hand_over(dataset, dict.fromkeys(shards, node), "started by an operator")

    def _check_room(self, dataset: KnownDataset, node: str, count: int) -> None:
        """Whether the node can have so many more shards. Raises BadData, Unavailable."""
        table, name = self._table, dataset.name
        if node in table.drained:
            raise BadData(f"{node} is drained; undrain it first")
        room = dataset.config.shards_per_node_max - dataset.shard_map.load_of(node)
        if count > room:
            raise BadData(f"{node} has room for {room} more shards of dataset {name}, not for {count}")
        if table.unconfirmed:
            raise Unavailable(f"it is not known yet whether {', '.join(sorted(table.unconfirmed))} holds a shard")

    # ---- taking

    def stop(self, name: str, shards: tuple[int, ...]) -> list[ManagerCommand]:
        """As an operator says; raises as ``ShardsStopped`` has it."""
        dataset, _ = self._owned(name, shards)
        why = "stopped by an operator"
        commands = self._stay(dataset, shards, why)
        return commands + self._take(dataset, [dataset.shard_map[shard] for shard in shards], IngestionStopped(), why)

    def move(self, name: str, node: str, shards: tuple[int, ...]) -> list[ManagerCommand]:
        """As an operator says; raises as ``ShardsMoved`` has it."""
        dataset, entries = self._owned(name, shards)
        self._table.check_member(node)
        others = [entry for entry in entries if entry.node != node]
        self._check_room(dataset, node, len(others))
        self._by_hand.update((name, shard) for shard in shards)
        if dataset.config.has_copies:
            return self._move_leaders(dataset, node, others)
        why = f"moved to {node} by an operator"
        here = self._stay(dataset, [entry.shard for entry in entries if entry.node == node], why)
        return here + self._begin_moves(dataset, others, node, why)

    def _stay(self, dataset: KnownDataset, shards: Iterable[int], why: str) -> list[ManagerCommand]:
        """Those of ``shards`` that move to a node, which follows them, do so no more."""
        moving = [shard for shard in shards if (dataset.name, shard) in self._moves]
        for shard in moving:
            del self._bound_for[dataset.name, shard]
        return self._moves.give_up(dataset, moving, why)

    def _begin_moves(
        self, dataset: KnownDataset, entries: Sequence[ShardEntry], node: str, why: str
    ) -> list[ManagerCommand]:
        """To ``node``: once that is in sync, or at once where it is so, or cannot be."""
        warming = [
            entry
            for entry in entries
            if dataset.config.moves_warmly
            and entry.status.kind is StatusKind.ACTIVE
            and node not in entry.copies.in_sync
        ]
        commands = self._moves.begin(dataset, warming, node, why)
        self._bound_for |= {(dataset.name, entry.shard): node for entry in entries}
        numbers = {entry.shard for entry in entries} - {entry.shard for entry in warming}
        ready = [dataset.shard_map[shard] for shard in sorted(numbers)]
        return commands + (self._take(dataset, ready, HandoverStarted(), why) if ready else [])

    def _go_on_with_moves(self, now_ms: int, warm_up_ms: int) -> list[ManagerCommand]:
        """Those whose node is in sync are switched; those that take too long are handed over as they are."""
        commands: list[ManagerCommand] = []
        for (name, shard), move in self._moves:
            dataset = self._table.datasets[name]
            entry = dataset.shard_map[shard]
            if (entry.node, entry.epoch) == (None, move.epoch):  # its owner is lost; whoever gets it may be that node
                self._moves.end((name, shard))
                continue
            move.since_ms = now_ms if move.since_ms is None else move.since_ms
            if problem := self._moves.problem(dataset, move):
                commands += self._stay(dataset, (shard,), problem)
            elif move.node in entry.copies.in_sync:
                commands += self._switch(dataset, move.node, [entry], move.why)
            elif now_ms - move.since_ms >= warm_up_ms:
                why = f"{move.node} has not caught up within {warm_up_ms} ms, and gets it as it is"
                commands += self._take(dataset, [entry], HandoverStarted(), why)
        return commands

    def _move_leaders(self, dataset: KnownDataset, node: str, entries: Sequence[ShardEntry]) -> list[ManagerCommand]:
        """To ``node`` where it is in sync; where it is not, once it is."""
        commands: list[ManagerCommand] = []
        self._is_even = False
        joining = [entry.shard for entry in entries if node not in entry.copies.in_sync]
        self._to_lead |= {(dataset.name, shard): node for shard in joining}
        commands += self.copies.add_copy(dataset, joining, node, "an operator moves the shard there")
        ready = [dataset.shard_map[entry.shard] for entry in entries if entry.shard not in joining]
        return commands + (self._switch(dataset, node, ready, "moved by an operator") if ready else [])

    def _switch(
        self, dataset: KnownDataset, node: str, entries: Sequence[ShardEntry], why: str
    ) -> list[ManagerCommand]:
        """``node``, which is in sync, is to lead those."""
        for entry in entries:
            self._bound_for[dataset.name, entry.shard] = node
        return self._take(dataset, entries, HandoverStarted(), f"{node} is to lead: {why}")

    # ---- what leaders say

    def proposed(self, dataset: KnownDataset, entry: ShardEntry, proposal: InSyncProposed) -> list[ManagerCommand]:
        """As ``CopyPlacement.proposed``; and what waits for a copy to be in sync goes on."""
        commands = self.copies.proposed(dataset, entry, proposal)
        self._is_even = self._is_even and not dataset.config.is_replicated
        entry = dataset.shard_map[entry.shard]
        move = self._moves.get((dataset.name, entry.shard))
        if move is not None and move.node in entry.copies.in_sync and not self._table.unconfirmed:
            if not self._moves.problem(dataset, move):
                commands += self._switch(dataset, move.node, [entry], move.why)
            return commands
        node = self._to_lead.get((dataset.name, entry.shard))
        if node is not None and node in entry.copies.in_sync and node in self._table.members:
            del self._to_lead[dataset.name, entry.shard]
            if entry.node != node:
                commands += self._switch(dataset, node, [entry], "it is in sync now, and an operator moves it there")
        return commands

    def copy_reported(
        self, dataset: KnownDataset, former: ShardEntry, entry: ShardEntry, *, is_unheard: bool
    ) -> list[ManagerCommand]:
        """What else follows from its leader's word: one that cannot open what it has is not the only one to ask.

        ``is_unheard``: it has not said it, as it could not be asked.
        """
        if entry.status.kind is StatusKind.ACTIVE:
            self.copies.opened(dataset, entry.shard)
        elif entry.status.kind is StatusKind.ERROR:
            self._is_even = self._is_even and former == entry
            self.copies.erred(dataset, entry.shard, is_unheard=is_unheard)
            if former.status.kind is not StatusKind.ACTIVE:  # else it is opened anew there, at once
                return self._ask_others_to_lead(dataset)
        return []

    def released(self, dataset: KnownDataset, node: str, shards: Iterable[int]) -> list[ManagerCommand]:
        """``node`` holds ``shards`` no more, which is news."""
        for shard in shards:
            self._table.tell(dataset, shard, f"{node} has closed it: another node may have it")
        return self.assign(dataset, f"{node} let go")

    def forget(self, dataset: KnownDataset) -> None:
        """It is no more; another may have its name some day."""
        for shard in range(len(dataset.shard_map)):
            self._bound_for.pop((dataset.name, shard), None)
            self._by_hand.discard((dataset.name, shard))
            self._to_lead.pop((dataset.name, shard), None)
            self._moves.end((dataset.name, shard))
        self.copies.forget(dataset)

    def _owned(self, name: str, shards: Sequence[int]) -> tuple[KnownDataset, list[ShardEntry]]:
        """Raises DatasetUnknown, and BadData if a shard has no owner."""
        dataset = self._table.known(name)
        self._table.check_shards(dataset, shards)
        entries = [dataset.shard_map[shard] for shard in shards]
        for entry in entries:
            if entry.node is None:
                raise BadData(f"shard {entry.shard} of dataset {name} is not assigned to any node")
        return dataset, entries

    def _take(
        self, dataset: KnownDataset, entries: Sequence[ShardEntry], event: ShardEvent, why: str
    ) -> list[ManagerCommand]:
        """Take shards from their owners, each of which has still to close them."""
        table = self._table
        by_node: dict[str, list[ShardEpoch]] = {}
        for entry in entries:
            assert entry.node is not None, "it is taken from somebody"
            self._moves.end((dataset.name, entry.shard))
            by_node.setdefault(entry.node, []).append((entry.shard, entry.epoch))
            table.fence_owner(dataset, entry)
        table.change(dataset, [table.moved(dataset, entry, event, why) for entry in entries])
        orders: list[ManagerCommand] = [
            StopShards(node, table.members[node], dataset.name, tuple(owned)) for node, owned in sorted(by_node.items())
        ]
        return [PersistShardMap(dataset.shard_map), *orders, *table.publish(dataset)]

    # ---- an even spread, and drained nodes

    def joined(self, member: MemberJoined) -> list[ManagerCommand]:
        """What it is to do for copies that it has, or that others have of what it leads."""
        return [*self.copies.joined(member.node, member.held), *self._moves.joined(member.node)]

    def nodes_changed(self) -> None:
        """A node came, went, or may have shards again: the map may have to become even."""
        self._is_even = False
        self._by_hand.clear()

    def drain(self, node: str, *, keeps_copies: bool) -> list[ManagerCommand]:
        """The node is to have no shards; raises as ``NodeDrained`` has it."""
        self.movable.check_drain((node,))
        self._table.drained.add(node)
        self.copies.drained(node, keeps_copies=keeps_copies)
        self.nodes_changed()
        return [PersistDrained(node, is_drained=True)]

    def undrain(self, node: str) -> list[ManagerCommand]:
        """The node may have shards again."""
        self._table.drained.discard(node)
        self.copies.undrained(node)
        self.nodes_changed()
        return [PersistDrained(node, is_drained=False), *self.assign_all(f"{node} may have shards again")]

    def has_nowhere_to_go(self, node: str) -> bool:
        """Whether the shards of a drained node can move no more: others have taken the room."""
        # Asked at each event while a node is being emptied, so what does not look at all shards comes first.
        if not self._table.load_of(node) or self._unsettled() or self._moves:
            return False
        if any(self.copies.has_joining(dataset, node) for dataset in self._table.copied_datasets):
            return False
        return self.movable.next_move(evens_out=False) is None

    def spread(self, due: SpreadDue) -> list[ManagerCommand]:
        """As many moves as may begin now. Nothing healthy moves while shards are still on their way."""
        table, moves_max, evens_out = self._table, due.moves_max, due.evens_out
        if table.unconfirmed:
            return []
        commands = self._go_on_with_moves(due.now_ms, due.warm_up_ms)
        if self._is_even:
            return commands
        commands += self._spread_copies(moves_max, evens_out=evens_out)
        if not (evens_out or table.drained):
            return commands
        for _ in range(moves_max - self._unsettled() - len(self._moves)):
            move = self.movable.next_move(evens_out=evens_out)
            if move is None:
                is_done = not (commands or self._unsettled() or self._moves)
                self._is_even = evens_out and is_done and self._copies_are_settled()
                break
            commands += self._begin(move)
        return commands

    def needs_copies_of(self, node: str) -> bool:
        """Whether other leaders or followers of shards that it may have copies of are still on their way."""
        return any(
            dataset.shard_map.count(*_ON_ITS_WAY) or self.copies.joining(dataset, but=node)
            for dataset in self._table.copied_datasets
        )

    def _copies_are_settled(self) -> bool:
        """Whether every copy on a member is in sync."""
        return not any(map(self.copies.joining, self._table.copied_datasets))

    def _spread_copies(self, moves_max: int, *, evens_out: bool) -> list[ManagerCommand]:
        """Copies that are too few, too many, or too many on one node. At most so many join at once."""
        commands: list[ManagerCommand] = []
        open_nodes = self._table.open_nodes
        for (name, shard), node in list(self._to_lead.items()):
            if not self._table.datasets[name].shard_map[shard].is_on(node):
                del self._to_lead[name, shard]  # it was drained meanwhile
        moving = {key for key, node in self._to_lead.items() if node in open_nodes} | {key for key, _ in self._moves}
        for dataset in self._table.copied_datasets:
            if evens_out:
                commands += self._ask_others_to_lead(dataset)
            commands += self.copies.drop_astray(dataset)
            commands += self.copies.drop_surplus(dataset, moving)
            room = moves_max - self.copies.joining(dataset)
            if room > 0:
                commands += self.copies.complete(dataset, room, counts_absent=not evens_out)
            if evens_out and not self.copies.joining(dataset) and not self._unsettled():
                commands += self.copies.even_out(dataset)
        return commands

    def _begin(self, move: Move) -> list[ManagerCommand]:
        dataset = self._table.datasets[move.dataset]
        entry = dataset.shard_map[move.shard]
        # One that follows it already is the better one.
        following = (node for node in entry.copies.followers if node in self._table.open_nodes)
        node = move.node if move.node in entry.copies.in_sync else next(following, move.node)
        reason = f"{entry.node} is drained" if entry.node in self._table.drained else "the map becomes even"
        return self._begin_moves(dataset, [entry], node, f"moves to {node}: {reason}")

    def _unsettled(self) -> int:
        """Shards that are on their way to a node; those that no node has room for stay where they are."""
        count = 0
        for name, dataset in self._table.datasets.items():
            waiting = dataset.shard_map.with_status(*_AWAITS_OWNER)
            count += sum((name, entry.shard) in self._table.fences for entry in waiting)
            count += dataset.shard_map.count(*_ON_ITS_WAY)
        return count
