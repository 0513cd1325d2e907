"""A scenario's cluster in virtual time: its words carried out by a ``SimulatedCluster`` and simulated clients."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from filoray.cluster.actor_names import slot_index
from filoray.cluster.chaos.actions import (
    Cut,
    Deed,
    Delete,
    Direction,
    Drain,
    FillDisk,
    FreeDisk,
    Hang,
    Heal,
    JumpClock,
    Kill,
    LoseDisk,
    MoveShard,
    Part,
    RestoreDisk,
    RestoreLinks,
    Resume,
    RollingRestart,
    Scale,
    SetUp,
    SlowDisk,
    SlowLinks,
    StartQuerying,
    StartShard,
    StartWriting,
    StopQuerying,
    StopShard,
    StopWriting,
    Target,
    Undrain,
)
from filoray.cluster.chaos.clients import make_writers
from filoray.cluster.chaos.driver import NodeShards, Witness, lacking_text
from filoray.cluster.chaos.language import Scenario
from filoray.cluster.chaos.operations import Outcome
from filoray.cluster.chaos.timeline import StatusSeen
from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.simulation.cluster import Replicas, SimulatedCluster
from filoray.cluster.simulation.faults import NODE_LEASE_MS, FaultRates
from filoray.cluster.simulation.simulated_clients import SimulatedClients

_START_MS_MAX = 60_000
_LOOK_MS = 1
_READ_AGAIN_MS = 100
_READ_EVERYTHING_MS = 60_000


class SimulatedScenarioDriver:
    """A ``ScenarioDriver``. The cluster is up when it is made."""

    poll_ms = 1

    def __init__(self, scenario: Scenario, seed: int, witness: Witness) -> None:
        rates = FaultRates(lease_ms=NODE_LEASE_MS if scenario.has_own_machines else 0)
        self.cluster = SimulatedCluster(seed, scenario.node_count, rates)
        world = self.cluster.world
        while len(self.members()) < scenario.node_count:
            assert world.now_ms < _START_MS_MAX, "the simulated cluster does not start"
            world.advance(_LOOK_MS)
        self._rates = rates
        self._began_ms = world.now_ms
        self._witness = witness
        self._clients = SimulatedClients(self.cluster, witness, world.now_ms)
        self._shown: dict[tuple[str, int], tuple[StatusKind, str]] = {}
        self._passed: dict[tuple[str, int], set[StatusKind]] = {}
        self._seen_view: ClusterView | None = None
        self._look()

    def now_ms(self) -> int:
        return self.cluster.now_ms - self._began_ms

    def advance(self, duration_ms: int) -> None:
        self.cluster.advance(duration_ms)

    def statuses(self) -> dict[str, list[StatusKind]]:
        return self.cluster.statuses()

    def passed(self, dataset: str, shard: int) -> set[StatusKind]:
        return self._passed.get((dataset, shard), set())

    def members(self) -> frozenset[int]:
        return self.cluster.members()

    def nodes(self) -> list[NodeShards]:
        view = self.cluster.gateway.view
        return [
            NodeShards(
                slot_index(name),
                info.is_drained,
                {dataset: one.shard_map.load_of(name) for dataset, one in view.datasets.items()},
            )
            for name, info in view.nodes.items()
        ]

    def lacking_copies(self) -> list[str] | None:
        return [
            lacking_text(name, entry.shard, in_sync, one.config.num_replicas)
            for name, one in self.cluster.gateway.view.datasets.items()
            for entry in one.shard_map.shards
            if (in_sync := len(entry.copies.in_sync) or int(entry.node is not None)) < one.config.num_replicas
        ]

    def is_restarting(self) -> bool:
        return self.cluster.coordinator is None or bool(self.cluster.coordinator.core.restart.left)

    def perform(self, deed: Deed) -> str:
        self._passed.clear()
        match deed:
            case Kill(target) | Hang(target) | Resume(target) | Cut(target) | Heal(target):
                return self._strike(deed, target)
            case SlowLinks(latency_ms):
                self._set_rates(lambda rates: replace(rates, latency_ms=latency_ms))
            case RestoreLinks():
                self._set_rates(lambda rates: replace(rates, latency_ms=self._rates.latency_ms))
            case FillDisk() | FreeDisk():
                self._set_rates(lambda rates: replace(rates, is_disk_full=isinstance(deed, FillDisk)))
            case SlowDisk(delay_ms):
                self._set_rates(lambda rates: replace(rates, disk_delay_ms=delay_ms))
            case RestoreDisk():
                self._set_rates(lambda rates: replace(rates, disk_delay_ms=0))
            case LoseDisk(node):
                return self.cluster.lose_disk(node)
            case JumpClock(ahead_ms):
                self.cluster.set_calendar(ahead_ms)
            case StartWriting():
                self._clients.start_writing(make_writers(deed, len(self._clients.writers)))
            case StartQuerying():
                self._clients.start_reading(deed.readers)
            case StopWriting():
                self._clients.stop_writing()
            case StopQuerying():
                self._clients.stop_reading()
            case _:
                return self._order(deed)
        return ""

    def _strike(self, deed: Deed, target: Target) -> str:
        cluster, index = self.cluster, target.index
        lost = deed.lost if isinstance(deed, Cut) else Direction.BOTH
        if not cluster.is_there(target.part.value, index):
            return "there is no such process now"
        actions = {
            (Kill, Part.NODE): lambda: cluster.kill_node(index),
            (Hang, Part.NODE): lambda: cluster.hang_node(index),
            (Resume, Part.NODE): lambda: cluster.resume_node(index),
            (Cut, Part.NODE): lambda: cluster.cut_node(
                index, is_deaf=lost is not Direction.FROM_TARGET, is_mute=lost is not Direction.TO_TARGET
            ),
            (Heal, Part.NODE): lambda: cluster.mend_node(index),
            (Kill, Part.GATEWAY): lambda: cluster.kill_gateway(index),
            (Hang, Part.GATEWAY): lambda: cluster.hang_gateway(index),
            (Resume, Part.GATEWAY): lambda: cluster.resume_gateway(index),
            (Cut, Part.GATEWAY): lambda: cluster.cut_gateway(index),
            (Heal, Part.GATEWAY): lambda: cluster.resume_gateway(index),
            (Kill, Part.COORDINATOR): cluster.kill_coordinator,
            (Hang, Part.COORDINATOR): cluster.hang_coordinator,
            (Resume, Part.COORDINATOR): cluster.resume_coordinator,
        }
        actions[type(deed), target.part]()
        return ""

    def _order(self, deed: Deed) -> str:
        cluster = self.cluster
        if cluster.coordinator is None or cluster.coordinator.is_hung:
            return "there is no coordinator that answers"
        match deed:
            case SetUp(dataset, num_shards, min_num_nodes, num_replicas):
                self._clients.num_shards[dataset] = num_shards
                cluster.set_up_dataset(dataset, num_shards, min_num_nodes, Replicas(num_replicas))
            case Delete(dataset):
                self._clients.stop_writing()
                self._clients.stop_reading()
                self._clients.writers.clear()
                cluster.delete_dataset(dataset)
            case StopShard(dataset, shard):
                cluster.stop_shard(dataset, shard)
            case StartShard(dataset, shard, node):
                cluster.start_shard(dataset, shard, node)
            case MoveShard(dataset, shard, node):
                cluster.move_shard(dataset, shard, node)
            case Drain(node):
                cluster.drain_node(node)
            case Undrain(node):
                cluster.undrain_node(node)
            case RollingRestart():
                cluster.restart_rolling()
            case Scale(nodes):
                cluster.scale(nodes)
            case _:
                raise AssertionError(f"a word that the simulator does not play: {deed}")
        return ""

    def _set_rates(self, change: Callable[[FaultRates], FaultRates]) -> None:
        self.cluster.world.rates = change(self.cluster.world.rates)

    def read_everything(self) -> str:
        left = [(writer, read) for writer in self._clients.writers for read in writer.everything()]
        deadline_ms = self.now_ms() + _READ_EVERYTHING_MS
        gateway = 0
        while left:
            if self.now_ms() >= deadline_ms:
                return (
                    f"{len(left)} of the reads that would show it had no answer in {_READ_EVERYTHING_MS / 1000:.0f} s"
                )
            outcomes: list[Outcome | None] = [None] * len(left)
            for number, (writer, read) in enumerate(left):
                gateway += 1
                self._clients.ask("last reader", writer, read, gateway, functools.partial(outcomes.__setitem__, number))
            while None in outcomes:
                self.advance(_LOOK_MS)
            left = [one for one, outcome in zip(left, outcomes, strict=True) if outcome is not Outcome.OK]
            self.advance(_READ_AGAIN_MS if left else 0)
        return ""

    def _look(self) -> None:
        """What the first gateway shows is a report's band of statuses."""
        self.cluster.world.after(_LOOK_MS, self._look)
        view = self.cluster.gateway.view
        if view is self._seen_view:
            return
        self._seen_view = view
        present = {
            (name, entry.shard): (entry.status.kind, entry.node or "")
            for name, dataset in view.datasets.items()
            for entry in dataset.shard_map.shards
        }
        for shard, (status, node) in present.items():
            if self._shown.get(shard) != (status, node):
                self._passed.setdefault(shard, set()).add(status)
                self._witness.saw(StatusSeen(self.now_ms(), *shard, status, node))
        self._shown = present
