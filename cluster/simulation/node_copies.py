"""The copies that a simulated node has: those that lead, those that follow, and what passes between it and others.

It stands between ``simulated_leader.py``, ``simulated_follower.py`` and the node's process, and tells the checkers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Protocol

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.copy_set import InSyncProposed
from filoray.cluster.control.node_effects import OpenShard, TellCopies
from filoray.cluster.control.node_events import OpeningId
from filoray.cluster.node_protocol import ShardReport
from filoray.cluster.simulation import peer_calls
from filoray.cluster.simulation.checkers import Checkers, Process, SampleId, ShardKey, StoredKey
from filoray.cluster.simulation.copy_entries import Entry, SessionOrigin
from filoray.cluster.simulation.peer_calls import Heard, PeerProcess
from filoray.cluster.simulation.shard_file import ServedShard, ShardFile
from filoray.cluster.simulation.simulated_disks import SimulatedDisks
from filoray.cluster.simulation.simulated_follower import SimulatedFollower
from filoray.cluster.simulation.simulated_leader import Follower, SimulatedLeader, Snapshot
from filoray.cluster.simulation.simulated_store import FaultyStore
from filoray.cluster.simulation.world import Action, SimulatedWorld

STORE_MS = 4
INSTALL_MS = 60
_NOT_FOLLOWED = "it does not follow that shard"


class CopiesProcess(PeerProcess, Protocol):
    """The node's process."""

    process: Process
    serving: dict[ShardKey, ServedShard]
    closing: dict[ShardKey, ServedShard]
    """Those that take nothing any more, while who follows them hears the last of it."""

    @property
    def copies(self) -> NodeCopies: ...

    def may_answer(self) -> bool: ...

    def later(self, delay_ms_max: int, action: Action) -> None: ...

    def commit_fails(self, key: ShardKey, served: ServedShard) -> bool: ...

    def acknowledge(self, key: ShardKey, served: ServedShard, samples: int) -> None: ...

    def report_copies(self, report: ShardReport) -> None: ...


class NodeCopies:
    """A ``LeadersNode`` for its leaders, a ``Follower`` for those of others. ``nodes``: the cluster's processes."""

    def __init__(
        self,
        node: CopiesProcess,
        world: SimulatedWorld,
        checkers: Checkers,
        disks: SimulatedDisks,
        store: FaultyStore,
        nodes: Mapping[Process, CopiesProcess],
    ) -> None:
        self.process = node.process
        self._node = node
        self._world = world
        self._checkers = checkers
        self._disks = disks
        self._store = store
        self._nodes = nodes
        self._leaders: dict[ShardKey, SimulatedLeader] = {}
        self._followers: dict[ShardKey, tuple[OpeningId, SimulatedFollower]] = {}

    # ---- what the node has

    def stored(self, config: DatasetConfig, shard: int) -> StoredKey:
        """Where its file is."""
        return config.name, shard, config.generation, self.process[0] if config.has_copies else ""

    def lead(self, key: ShardKey, served: ServedShard, config: DatasetConfig) -> None:
        """It is served from now on."""
        stored = self._disks.get(served.stored)
        if not self._checkers.served.is_deleted(served.file):
            found = () if stored is None else stored.found_ids()
            self._checkers.leader_has_all.leads(served.file, found, self.process)
        leader = self._leaders[key] = SimulatedLeader(self, key, served, config)
        leader.open()

    def leader(self, key: ShardKey) -> SimulatedLeader | None:
        return self._leaders.get(key)

    def tell(self, told: TellCopies, config: DatasetConfig) -> None:
        """Of a shard whose store is shared it leads nobody before it is told of followers."""
        key, leader = told.key, self._leaders.get(told.key)
        if leader is None and told.copies.followers and (served := self._node.serving.get(key)) is not None:
            leader = self._leaders[key] = SimulatedLeader(self, key, served, config)
        if leader is not None:
            leader.tell(told)

    def follow(self, order: OpenShard) -> None:
        stored = self.stored(order.config, order.shard)
        files: MutableMapping[StoredKey, ShardFile] = self._disks if order.config.has_copies else {}
        follower = SimulatedFollower(order, stored, files, lambda: self._checkers.served.is_deleted(stored[:3]))
        self._followers[order.key] = (order.opening, follower)

    def followed(self, key: ShardKey) -> ShardFile | None:
        """What it has of a shard that it follows."""
        _, follower = self._followers.get(key, (0, None))
        return None if follower is None else follower.file

    def promote(self, key: ShardKey, opening: OpeningId, epoch: int) -> bool:
        """What it has as a follower is the leader's from now on; False: there is no copy that is sound."""
        number, follower = self._followers.get(key, (0, None))
        if follower is None or number != opening:
            return False
        del self._followers[key]
        if not follower.is_sound() or follower.file is None:
            return False
        if follower.is_warm and not self._takes_store_over(follower, epoch):
            return False
        follower.file.epoch = epoch
        self.note_copies(key, f"it is promoted at epoch {epoch}")
        return True

    def _takes_store_over(self, follower: SimulatedFollower, epoch: int) -> bool:
        """The store is its own from now on; False: it cannot be, or has something else than its memory."""
        stored, memory = self._disks.get(follower.stored), follower.file
        if stored is None or memory is None or stored.epoch > epoch or self._world.rates.is_disk_full:
            return False
        stored.epoch = epoch
        if not self.is_as_stored(memory, stored):
            self.note_copies(follower.stored[:2], "what it has in memory is not what the store has")
            return False
        self._checkers.warm.leads(follower.stored[:3], memory.what_is_found(), stored.what_is_found(), self.process)
        return True

    def is_as_stored(self, memory: ShardFile, stored: ShardFile) -> bool:
        return memory.what_is_found() == stored.what_is_found()

    def stop_following(self, key: ShardKey, opening: OpeningId) -> None:
        """Nothing is taken any more of a leader."""
        if key in self._followers and self._followers[key][0] == opening:
            self._followers[key][1].end_session()

    def is_heard_out(self, key: ShardKey) -> bool:
        """Whether those that follow what it led have all of it."""
        leader = self._leaders.get(key)
        return leader is None or leader.waits or leader.is_heard_out

    def made(self, key: ShardKey, entry: Entry) -> None:
        """The shared store has it; who follows is to have it too."""
        if (leader := self._leaders.get(key)) is not None:
            leader.make(entry)

    def close(self, key: ShardKey, opening: OpeningId) -> None:
        served = self._node.serving.get(key)
        if served is None or served.opening == opening:
            self._leaders.pop(key, None)
        if key in self._followers and self._followers[key][0] == opening:
            del self._followers[key]

    # ---- for its leaders

    def now_ms(self) -> int:
        return self._world.now_ms

    def leader_file(self, served: ServedShard) -> ShardFile | None:
        stored = self._disks.get(served.stored)
        return stored if stored is not None and stored.epoch == served.epoch else None

    def is_serving(self, key: ShardKey, served: ServedShard) -> bool:
        return self._node.serving.get(key) is served or self._node.closing.get(key) is served

    def may_answer(self) -> bool:
        return self._node.may_answer()

    def next_sample(self) -> SampleId:
        return self._disks.next_sample()

    def propose(self, key: ShardKey, epoch: int, proposal: InSyncProposed) -> None:
        self.note_copies(key, f"it proposes {', '.join(proposal.in_sync)}: {proposal.reason}")
        self._node.report_copies(ShardReport(*key, epoch, proposal))

    def released(self, key: ShardKey, served: ServedShard, ids: Sequence[SampleId]) -> None:
        file = served.file
        self._checkers.leader_has_all.shown(file, ids)
        if self._checkers.served.is_deleted(file):
            return
        places = [(*file, node) for node in self._store.durable_in_sync(file)]
        copies = {
            place[3]: stored.ids if (stored := self._disks.get(place)) is not None else {}
            for place in places
            if not self._disks.is_lost(place)
        }
        self._checkers.in_sync_have_it.released(file, ids, copies)

    def acknowledge(self, key: ShardKey, served: ServedShard, samples: int) -> None:
        self._node.acknowledge(key, served, samples)

    def commit_later(self, action: Action) -> None:
        self._node.later(STORE_MS + self._world.rates.disk_delay_ms, action)

    def commit_fails(self, key: ShardKey, served: ServedShard) -> bool:
        return self._node.commit_fails(key, served)

    def wake_copies_at(self, at_ms: int, action: Action) -> None:
        self._world.at(at_ms, lambda: self._node.run(action))

    def ask_peer(self, peer: Process, act: Callable[[Follower, Heard], None], heard: Heard) -> None:
        def act_there(answer: Heard) -> None:
            if (node := self._nodes.get(peer)) is not None:
                act(node.copies, answer)

        name = peer_calls.process_name(peer)
        peer_calls.ask(self._world, self._node, lambda: self._nodes.get(peer), name, act_there, heard)

    def watch_peer(self, peer: Process, lost: Heard) -> None:
        name = peer_calls.process_name(peer)
        peer_calls.watch(self._world, self._node, self._nodes.get(peer), name, lost)

    def note_copies(self, key: ShardKey, text: str) -> None:
        self._world.note("%s %s: %s", self._node.name, key, text)

    # ---- for leaders elsewhere

    def begin(self, origin: SessionOrigin, reply: Heard) -> None:
        self._follower(origin, reply, lambda it: it.begin(origin, reply))

    def piece(self, origin: SessionOrigin, number: int, reply: Heard) -> None:
        self._follower(origin, reply, lambda it: it.piece(origin, number, self._later(STORE_MS, reply)))

    def install(self, origin: SessionOrigin, snapshot: Snapshot, reply: Heard) -> None:
        delayed = self._later(INSTALL_MS, reply)
        self._follower(origin, reply, lambda it: it.install(origin, snapshot, delayed, is_disk_full=self._is_full(it)))

    def store(self, origin: SessionOrigin, seq: int, entry: Entry, reply: Heard) -> None:
        delayed = self._later(STORE_MS + self._world.rates.disk_delay_ms, reply)
        self._follower(origin, reply, lambda it: it.store(origin, seq, entry, delayed, is_disk_full=self._is_full(it)))

    def _is_full(self, follower: SimulatedFollower) -> bool:
        """Whether it cannot store what it is sent."""
        return self._world.rates.is_disk_full and not follower.is_warm

    def _follower(self, origin: SessionOrigin, reply: Heard, act: Callable[[SimulatedFollower], None]) -> None:
        _, follower = self._followers.get(origin.key, (0, None))
        if follower is None:
            reply(_NOT_FOLLOWED)
        else:
            act(follower)

    def _later(self, delay_ms_max: int, reply: Heard) -> Heard:
        return lambda problem: self._node.later(delay_ms_max, lambda: reply(problem))
