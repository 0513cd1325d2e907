"""A whole cluster in one thread and virtual time, decided by a seed: the real cores, simulated processes and messages.

Real: CoordinatorCore with all its parts, the dispatcher, NodeCore, the rule by which gateways take views. Simulated:
processes that die and hang, messages, the coordinator's store, shard files, machines that only gateways can reach,
gateways that write and read (``simulated_*.py``). What must hold all the time is in ``checkers.py``; what must hold
when everything was healed, in ``is_healthy``. ``SimulatedCluster`` is also a ScenarioDriver.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Set

from filoray.cluster.actor_names import gateway_name, node_name, slot_index
from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.config.dataset import LOG_STREAM_FACTORY
from filoray.cluster.control.coordinator_effects import AnswerValue
from filoray.cluster.control.coordinator_events import (
    CoordinatorEvent,
    DeletionOrdered,
    DrainOrdered,
    MoveOrdered,
    RequestId,
    RollingRestartOrdered,
    ScaleOrdered,
    SetUpOrdered,
    ShardsReported,
    StartOrdered,
    StopOrdered,
    UndrainOrdered,
    ViewAsked,
)
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.simulation.checkers import Checkers
from filoray.cluster.simulation.coordinator_lives import CoordinatorLives
from filoray.cluster.simulation.faults import FaultRates
from filoray.cluster.simulation.health import NO_COORDINATOR, ailment, service_ailment, unevenness
from filoray.cluster.simulation.losses import loss_problem
from filoray.cluster.simulation.machines import SimulatedMachines
from filoray.cluster.simulation.report_outbox import Batch
from filoray.cluster.simulation.shard_watch import HistoryRecord, ShardWatch
from filoray.cluster.simulation.simulated_actors import Surroundings, kill_process
from filoray.cluster.simulation.simulated_config import HEARTBEATS_MISSED_MAX, simulated_config
from filoray.cluster.simulation.simulated_coordinator import SimulatedCoordinator
from filoray.cluster.simulation.simulated_disks import SimulatedDisks
from filoray.cluster.simulation.simulated_gateway import SimulatedGateway
from filoray.cluster.simulation.simulated_node import SimulatedNode
from filoray.cluster.simulation.simulated_store import FaultyStore, ModelStore
from filoray.cluster.simulation.world import SimulatedWorld
from filoray.cluster.store.coordinator_store import CoordinatorStore


@dataclasses.dataclass(frozen=True, slots=True)
class Replicas:
    """``count``: copies of each shard; ``in_sync_min``: how many must have what is acknowledged."""

    count: int = 1
    in_sync_min: int = 1


ONE_REPLICA = Replicas()


@dataclasses.dataclass(frozen=True, slots=True)
class Attention:
    """How closely a cluster is looked at: a large one does so much that not all can be kept and checked.

    ``lines_max``: of the trace. ``audit_every_ms``: how seldom a core's own rules are checked; ``look_every_ms``: how
    seldom the coordinator's maps are looked at; 0: after every event.
    """

    lines_max: int | None = None
    audit_every_ms: int = 0
    look_every_ms: int = 0


class SimulatedCluster:
    """``rates``: what goes wrong by itself. ``store``: what the coordinator remembers is kept there.

    ``record``: filled with what happens to shards. ``attention``: all there is, by default.
    ``machine_count``: machines between which nodes are moved; 0: all nodes stay where they are launched.
    ``has_standby``: two coordinators are there, of which one may lead.
    """

    def __init__(
        self,
        seed: int,
        node_count: int,
        rates: FaultRates | None = None,
        store: CoordinatorStore | None = None,
        record: HistoryRecord | None = None,
        attention: Attention | None = None,
        machine_count: int = 0,
        *,
        has_standby: bool = False,
    ) -> None:
        self.node_count = node_count
        self.machine_count = machine_count
        rates = self.drawn_rates = rates or FaultRates()
        self.has_own_disks = rates.has_own_disks
        attention = attention or Attention()
        self.world = SimulatedWorld(seed, rates, attention.lines_max)
        self.watch = ShardWatch(self.world, record, attention.look_every_ms)
        self.checkers = Checkers(HEARTBEATS_MISSED_MAX * rates.heartbeat_ms, attention.audit_every_ms)
        self._config = simulated_config(node_count, rates)
        files = SimulatedDisks(are_apart=rates.has_own_disks)
        faulty = FaultyStore(store or ModelStore(), self.world, self.checkers, files)
        self._machines = SimulatedMachines(machine_count, node_count)
        self._around = Surroundings(self.world, self.checkers, faulty, files, self._machines, self.watch)
        self._requests = itertools.count(1)
        self._asking: set[str] = set()
        self._gateways = tuple(gateway_name(index) for index in range(node_count))
        for name in self._gateways:
            self._begin_gateway(name)
        self._lives = CoordinatorLives(
            self.world,
            lambda ended, leads: SimulatedCoordinator(self._config, self._around, self._send_reports, ended, leads),
            self._coordinator_lost,
            has_standby=has_standby,
        )
        self._lives.begin()
        self.world.after(rates.work_every_ms, self._work)

    # ---- the scenario's verbs

    def set_up_dataset(self, dataset: str, num_shards: int, min_num_nodes: int, copies: Replicas = ONE_REPLICA) -> None:
        text = (
            f'dataset = "{dataset}", num-shards = {num_shards}, min-num-nodes = {min_num_nodes}, '
            f"num-replicas = {copies.count}, min-in-sync-replicas = {copies.in_sync_min}, "
            f'sourcefactory = "{LOG_STREAM_FACTORY}", sourceconfig {{}}'
        )
        self._ask(lambda request: SetUpOrdered(request, dataset, text))

    def delete_dataset(self, dataset: str) -> None:
        self._ask(lambda request: DeletionOrdered(request, dataset))

    def stop_shard(self, dataset: str, shard: int) -> None:
        self._ask(lambda request: StopOrdered(request, dataset, (shard,)))

    def start_shard(self, dataset: str, shard: int, node_index: int) -> None:
        host = self._around.files.homes.get(node_name(node_index), "127.0.0.1")
        address = f"akka://filo-server@{host}:{2552 + node_index}"
        self._ask(lambda request: StartOrdered(request, dataset, address, (shard,)))

    def move_shard(self, dataset: str, shard: int, node_index: int) -> None:
        self._ask(lambda request: MoveOrdered(request, dataset, node_name(node_index), (shard,)))

    def drain_node(self, index: int) -> None:
        self._around.drained.add(node_name(index))
        self._ask(lambda request: DrainOrdered(request, node_name(index)))

    def undrain_node(self, index: int) -> None:
        self._around.drained.discard(node_name(index))
        self._ask(lambda request: UndrainOrdered(request, node_name(index)))

    def scale(self, count: int) -> None:
        """To as many nodes as it was made with, or fewer; its gateways stay."""
        assert 1 <= count <= self.node_count
        self._around.scaled_away = set(map(node_name, range(count, self.node_count)))
        self._ask(lambda request: ScaleOrdered(request, count))

    def restart_rolling(self) -> None:
        self._ask(RollingRestartOrdered)

    def kill_node(self, index: int) -> None:
        for node in self._processes(index):
            kill_process(self._around, node, "killed")

    def hang_node(self, index: int) -> None:
        for node in self._processes(index):
            node.is_hung = True
            self.world.note("%s hangs", node.name)

    def resume_node(self, index: int) -> None:
        for node in self._processes(index):
            node.is_hung, node.heard_since_ms = False, self.world.now_ms
            node.go_on()

    def cut_node(self, index: int, *, is_deaf: bool = True, is_mute: bool = True) -> None:
        """Its machine can be reached by gateways only. For clusters whose nodes have leases.

        ``is_deaf``: what the coordinator says does not arrive there; ``is_mute``: nor what it says at the coordinator.
        """
        assert self.world.rates.lease_ms, "nodes without leases are where they can be killed"
        for node in self._processes(index):
            node.is_deaf, node.is_mute = node.is_deaf or is_deaf, node.is_mute or is_mute
            self.world.note("%s is cut off", node.name)

    def lose_disk(self, index: int) -> str:
        """All copies that the node has, and its process. Why that is not done, or ""."""
        name = node_name(index)
        if problem := loss_problem(self._around, {name}):
            return problem
        self.world.note("%s loses its disk", name)
        self.kill_node(index)
        self._around.files.lose(name)
        return ""

    def set_node_apart(self, index: int) -> None:
        """No other node can reach it, nor be reached from it; the coordinator and gateways can."""
        for node in self._processes(index):
            node.is_apart = True
            self.world.note("%s is cut off from other nodes", node.name)

    def mend_node(self, index: int) -> None:
        for node in self._processes(index):
            node.is_apart = False
            if node.is_cut:
                node.is_deaf = node.is_mute = False
                node.heard_since_ms = self.world.now_ms
            if node.is_given_up:
                kill_process(self._around, node, "its machine is back")
            else:
                node.go_on()

    def lose_machine(self, index: int) -> None:
        machine = self._machines.lose(index)
        if machine is not None:
            self.world.note("machine %s is lost", machine.address)
            for node in [node for node in self._around.nodes.values() if node.machine == machine.id]:
                kill_process(self._around, node, "with its machine")

    def lose_machine_with_disks(self, index: int) -> str:
        """And with all copies that are there; not the last machine. Why that is not done, or ""."""
        homes, address = self._around.files.homes, self._machines.address_at(index)
        names = {node for node, home in homes.items() if home == address}
        if problem := loss_problem(self._around, names):
            return problem
        if not self._machines.is_missing(index) and len(self._machines.present()) == 1:
            return "another must be there"
        self.lose_machine(index)
        for name in sorted(names):
            self.world.note("%s loses its disk", name)
            self._around.files.lose(name)
        return ""

    def cut_machine(self, index: int) -> None:
        """Its nodes can be reached by gateways only, neither by the coordinator nor by other nodes."""
        homes, address = self._around.files.homes, self._machines.address_at(index)
        for number in [slot_index(node) for node, home in homes.items() if home == address]:
            self.cut_node(number)
            self.set_node_apart(number)

    def join_missing_machines(self) -> None:
        for index in range(self.machine_count):
            if self._machines.is_missing(index):
                self.join_machine(index)

    def join_machine(self, index: int) -> None:
        self._machines.join(index)
        self.world.note("machine %d joins", index)

    def kill_coordinator(self) -> None:
        self._lives.kill()

    def hang_coordinator(self) -> None:
        self._lives.hang()

    def resume_coordinator(self) -> None:
        self._lives.resume()

    def cut_coordinator(self, *, from_store: bool, from_nodes: bool) -> None:
        """For clusters with a standby."""
        self._lives.cut(from_store=from_store, from_nodes=from_nodes)

    def mend_coordinators(self) -> None:
        self._lives.mend()

    def statuses(self) -> dict[str, list[StatusKind]]:
        datasets = self.gateway.view.datasets
        return {name: [entry.status.kind for entry in one.shard_map.shards] for name, one in datasets.items()}

    def members(self) -> frozenset[int]:
        return frozenset(slot_index(node) for node in self.gateway.view.nodes)

    def advance(self, duration_ms: int) -> None:
        self.world.advance(duration_ms)

    # ---- more that may happen

    def hang_gateway(self, index: int) -> None:
        self.gateway_at(index).is_hung = True

    def cut_gateway(self, index: int) -> None:
        """It goes on by the view that it has."""
        self.gateway_at(index).is_cut = True

    def resume_gateway(self, index: int) -> None:
        self.gateway_at(index).go_on()

    def kill_gateway(self, index: int) -> None:
        gateway = self.gateway_at(index)
        self.world.note("%s dies", gateway.name)
        gateway.is_dead = True
        self._begin_gateway(gateway.name)
        self._asking.discard(gateway.name)
        self._ask_view(self._around.gateways[gateway.name])

    def fill_store(self, duration_ms: int) -> None:
        """Nothing can be written to the coordinator's store for a while."""
        self.world.note("the coordinator's store is full")
        self._around.store.is_full = True
        self.world.after(duration_ms, self.empty_store)

    def set_calendar(self, ahead_ms: int) -> None:
        """``ahead_ms``: of the time that has passed, or behind it. No trace: nothing may go otherwise for it."""
        self.world.calendar_ahead_ms = ahead_ms

    def empty_store(self) -> None:
        self._around.store.is_full = False

    # ---- what tests ask

    @property
    def homes(self) -> Mapping[str, str]:
        """Of nodes on machines with disks of their own: by node the address."""
        return self._around.files.homes

    @property
    def to_be_drained(self) -> Set[str]:
        """Nodes that operators want to be, whether the coordinator has heard of it or not."""
        return self._around.drained

    @property
    def trace(self) -> list[str]:
        return self.world.trace

    @property
    def now_ms(self) -> int:
        return self.world.now_ms

    @property
    def acknowledged_count(self) -> int:
        return self.checkers.one_owner.count

    @property
    def gateway(self) -> SimulatedGateway:
        return self.gateway_at(0)

    def is_there(self, part: str, index: int) -> bool:
        """Whether a `node`, `gateway` or `coordinator` has a process now."""
        if part == "node":
            return any(not node.is_dead for node in self._processes(index))
        return part == "gateway" or self.coordinator is not None

    def owners(self) -> dict[tuple[str, int], tuple[str | None, int]]:
        """Of each (dataset, shard) the owner and the epoch, as the coordinator has them."""
        assert self.coordinator is not None, "it lives"
        datasets = self.coordinator.core.manager.datasets
        return {
            (name, entry.shard): (entry.node, entry.epoch)
            for name, (_, shard_map) in datasets.items()
            for entry in shard_map.shards
        }

    def is_healthy(self) -> bool:
        return not self.ailment()

    def ailment(self) -> str:
        """What is not as it must be when all is well (``health.py``), or ""."""
        if self.coordinator is None:
            return NO_COORDINATOR
        return ailment(self.coordinator.core, self._around, self.node_count)

    def service_ailment(self) -> str:
        """Which shard is not served as it must be, or what else is left of any dataset, or ""."""
        return NO_COORDINATOR if self.coordinator is None else service_ailment(self.coordinator.core, self._around)

    def unevenness(self) -> str:
        """Which nodes have two shards of a dataset more than others, or ""; what operators moved may stay so."""
        assert self.coordinator is not None, "it lives"
        return unevenness(self.coordinator.core.manager)

    # ---- the coordinator

    @property
    def coordinator(self) -> SimulatedCoordinator | None:
        """The one that leads."""
        return self._lives.present

    def _coordinator_lost(self) -> None:
        self._around.answers.clear()
        self._asking.clear()
        for node in list(self._around.nodes.values()):
            node.reports.lost_all()

    def _ask(
        self, event: Callable[[RequestId], CoordinatorEvent], heard: Callable[[AnswerValue], None] | None = None
    ) -> None:
        listening = self._lives.listening()
        if listening is None:
            return
        request = next(self._requests)
        if heard is not None:
            self._around.answers[request] = heard
        listening.take(event(request))

    # ---- what reaches the coordinator by itself

    def _send_reports(self, node: SimulatedNode, reports: Batch) -> None:
        def arrive() -> None:
            if not node.is_dead:
                node.say(give)

        def give() -> None:
            if life is None or life.is_over or life.is_cut or self.world.happens(self.world.rates.lose):
                node.reports.lost(reports)
            else:
                life.run(take)

        def take() -> None:
            assert life is not None, "it was given to one"
            self.world.send("coordinator", node.name, lambda: node.run(lambda: node.reports.taken(reports)))
            life.take(ShardsReported(*node.process, reports))

        life = self.coordinator
        self.world.send(node.name, "coordinator", arrive, keeps_order=True)

    def _ask_view(self, gateway: SimulatedGateway) -> None:
        if gateway.name in self._asking:
            return
        self._asking.add(gateway.name)

        def take(view: AnswerValue) -> None:
            assert isinstance(view, ClusterView)
            self._asking.discard(gateway.name)
            self.world.send("coordinator", gateway.name, lambda: gateway.hear(lambda: gateway.take_view(view)))

        def arrive() -> None:
            if self._lives.listening() is None:
                self._asking.discard(gateway.name)
            else:
                self._ask(lambda request: ViewAsked(request, gateway.name), take)

        self.world.send(gateway.name, "coordinator", arrive)

    # ---- gateways and nodes

    def _begin_gateway(self, name: str) -> None:
        self._around.gateways[name] = SimulatedGateway(
            self.world, self.checkers, self._around.nodes, name, self._ask_view
        )

    def gateway_at(self, index: int) -> SimulatedGateway:
        return self._around.gateways[self._gateways[index % len(self._gateways)]]

    def _processes(self, index: int) -> list[SimulatedNode]:
        return [node for process, node in self._around.nodes.items() if process[0] == node_name(index)]

    def _work(self) -> None:
        """A gateway writes or reads; and whoever would answer somebody with an old view is looked at."""
        self.world.after(self.world.rates.work_every_ms, self._work)
        self._around.gateways[self.world.one_of(self._gateways)].work()
        nodes = self._around.nodes
        if nodes:
            node = self.world.one_of(tuple(nodes.values()))
            if node.serving and not node.is_hung:
                node.check_answers(self.world.one_of(tuple(node.serving.values())))
