"""The coordinator's decisions, whole and pure: events in, effects out. No Ray, event loop, clock, file or dice.

``handle`` takes all that can happen to a coordinator (``coordinator_events.py``) and gives all that it can do
(``coordinator_effects.py``). ``coordinator_dispatcher.py`` carries that out, over the real world or the simulated one.
What this class does is to put the parts together; each has its own state and rules:

    ShardManager        who owns which shard           Membership       which nodes are members
    ShardOrders         orders until they are done     NodeKeeper       processes: start, watch, beat, end
    ViewBoard           what gateways are to know      MachineKeeper    which machine runs what
    OperatorRequests    what operators wait for
    LaunchVerdict       when a launch is over          Conversations    requests that are answered later
    Spreader            when shards move to even out   RollingRestart   one node after the other replaced

It may be lost at any moment: everything it needs is in the MetaStore (``Remembered``), and nodes say themselves what
they hold. A new one adopts the nodes that live, without disturbing the shards they serve, and replaces the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.conversations import NOBODY, Conversations, Steps, Until
from filoray.cluster.control.coordinator_effects import Effect, EndProcess, Retire
from filoray.cluster.control.coordinator_events import (
    CoordinatorEvent,
    DeletionOrdered,
    DrainOrdered,
    GatewayDue,
    GatewayNotPlaced,
    GatewayPlaced,
    HeartbeatDue,
    HeartbeatHeard,
    HeartbeatMissed,
    KillDue,
    KillFailed,
    LookDue,
    MachinesSeen,
    MachinesUnknown,
    MembersTold,
    Moment,
    MoveOrdered,
    NodeAbsent,
    NodeAnswered,
    NodeClosed,
    NodeDied,
    NodeKilled,
    NodeMisplaced,
    OrderDone,
    OrderDue,
    OrderFailed,
    PatienceEnded,
    PlacingDue,
    PublishDue,
    ReadyAsked,
    RollingRestartOrdered,
    ScaleOrdered,
    SetUpOrdered,
    ShardsReported,
    ShutdownOrdered,
    SourceConfigRead,
    SourceConfigRefused,
    StandbyPlaced,
    Started,
    StartOrdered,
    StopOrdered,
    StoreFailed,
    Ticked,
    UndrainOrdered,
    ViewAsked,
    ViewRefused,
    ViewTaken,
    WatchDue,
    WatchFailed,
)
from filoray.cluster.control.emptied_nodes import EmptiedNodes
from filoray.cluster.control.launch_verdict import LaunchVerdict
from filoray.cluster.control.machine_keeper import MachineKeeper
from filoray.cluster.control.machine_placement import Placement
from filoray.cluster.control.membership import Membership, MembershipLimits
from filoray.cluster.control.node_keeper import KnownProcess, NodeKeeper
from filoray.cluster.control.operator_requests import OperatorRequests
from filoray.cluster.control.patience import Patience
from filoray.cluster.control.rolling_restart import RollingRestart
from filoray.cluster.control.scaling import Scaling, gateway_names, node_names
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_messages import StoryLine
from filoray.cluster.control.shard_orders import ShardOrders
from filoray.cluster.control.shard_table import RestoredState
from filoray.cluster.control.spreader import Spreader
from filoray.cluster.control.turn import Turn
from filoray.cluster.control.view_board import ViewBoard
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.node_protocol import NodeProcessId

OperatorOrder = (
    SetUpOrdered
    | DeletionOrdered
    | StartOrdered
    | StopOrdered
    | MoveOrdered
    | DrainOrdered
    | UndrainOrdered
    | RollingRestartOrdered
    | ScaleOrdered
)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the MetaStore has when a coordinator begins. ``generation``: higher than that of any before.

    ``incarnations`` and ``processes``: of each node, the last. ``opened``: of (dataset, shard) the last generation in
    which it was Active. ``restart_left``: what a rolling restart has still to replace. ``node_count``: if it is another
    than the launch said.
    """

    generation: int
    gateway_keys: KeyPair
    incarnations: Mapping[str, int]
    processes: Mapping[str, KnownProcess]
    opened: Mapping[tuple[str, int], int]
    shards: RestoredState
    restart_left: tuple[NodeProcessId, ...] = ()
    node_count: int | None = None

    @property
    def keeping_copies(self) -> frozenset[str]:
        """The node whose turn it is in a rolling restart, if that has drained it: one drained before is left out."""
        return self.shards.drained.intersection(node for node, _ in self.restart_left[:1])


def tick_ms(config: ServerConfig) -> int:
    """How often the clock is looked at: often enough that what a stop adds to it is far below the timeout."""
    node = config.node
    return max(1, min(node.heartbeat_interval_ms, node.heartbeat_timeout_ms // 8))


class CoordinatorCore:
    def __init__(
        self,
        config: ServerConfig,
        remembered: Remembered,
        moment: Moment,
        patience: Patience | None = None,
        placement: Placement | None = None,
    ) -> None:
        patience = patience or Patience()
        keys = remembered.gateway_keys
        self._config = config
        self._turn = turn = Turn(remembered.generation, moment)
        self._manager = manager = ShardManager(
            remembered.generation,
            remembered.shards,
            remembered.keeping_copies,
            keeps_nodes_at_home=config.keeps_nodes_at_home,
        )
        self._membership = membership = _membership(config, remembered, moment)
        self._views = views = ViewBoard(turn, manager, membership, remembered.generation, keys, patience)
        self._shards = shards = ShardOrders(turn, manager, views, dict(remembered.opened), membership, patience)
        self._machines = machines = MachineKeeper(
            turn,
            config,
            membership,
            placement,
            keys,
            patience,
            known_homes=remembered.shards.machines,
            veterans={*remembered.incarnations, *remembered.shards.nodes_with_copies},
        )
        self._nodes = NodeKeeper(turn, config, membership, shards, views, remembered.processes, machines, patience)
        self._node_count = config.node_count if remembered.node_count is None else remembered.node_count
        emptied = EmptiedNodes(manager, self._nodes, views)
        self._scaling = Scaling(turn, manager, membership, shards, self._nodes, views, emptied, machines)
        self._spreader = Spreader(turn, config.balance, manager, membership, shards)
        self._restart = RollingRestart(
            turn, manager, membership, shards, self._nodes, views, emptied, self._spreader, remembered.restart_left
        )
        launch = LaunchVerdict(turn, config, manager, membership, shards, views, patience, machines)
        self._launch = launch
        self._requests = OperatorRequests(
            turn, config, manager, membership, shards, views, launch, self._restart, self._scaling, patience
        )
        self._conversations = Conversations(turn)

    # ---- what can be asked

    @property
    def manager(self) -> ShardManager:
        return self._manager

    @property
    def membership(self) -> Membership:
        return self._membership

    @property
    def scaling(self) -> Scaling:
        return self._scaling

    @property
    def launch(self) -> LaunchVerdict:
        return self._launch

    @property
    def restart(self) -> RollingRestart:
        return self._restart

    def members(self) -> tuple[str, ...]:
        """Addresses of the members, sorted."""
        return self._views.members()

    def story(self, dataset: str, shard: int) -> list[StoryLine]:
        """What happened to a shard and why, oldest first. Raises DatasetUnknown, BadData."""
        return self._manager.story(dataset, shard)

    # ---- events in, effects out

    def handle(self, event: CoordinatorEvent, moment: Moment) -> list[Effect]:
        """What ``event`` calls for, in the order in which it must be done."""
        self._turn.begin(event, moment)
        self._take(event)
        if not isinstance(event, StoreFailed):  # then it ends, and what it knows is not to be gone by
            self._scaling.look()
            self._restart.look()
            self._conversations.look()
        return self._turn.end()

    def unfinished(self) -> list[Effect]:
        """What the last event had called for by the time that ``handle`` raised: in memory it is done."""
        return self._turn.end()

    def _take(self, event: CoordinatorEvent) -> None:
        match event:
            case ShardsReported(node, incarnation, reports):
                # Shards that close with the whole cluster were stopped by nobody: the next launch opens them again.
                if not self._nodes.is_stopping:
                    self._shards.reported(node, incarnation, self._nodes.of_the_living(node, reports))
                    self._spreader.reported()
            case OrderDone(order):
                self._shards.done(order)
            case OrderFailed():
                self._shards.failed(event, hears_reports=not self._nodes.is_stopping)
            case OrderDue(order):
                self._shards.due(order)
            case PublishDue():
                self._views.publish_due()
            case ViewTaken():
                self._views.taken(event)
            case ViewRefused():
                self._views.refused(event)
            case GatewayDue(gateway):
                self._views.gateway_due(gateway)
            case MembersTold(problem):
                if problem:  # it asks by itself when it is back
                    self._turn.say("the seed discovery took no members error=%s", problem)
            case SourceConfigRead(request, config):
                self._requests.was_read(request, config)
            case SourceConfigRefused(request, error):
                self._requests.was_read(request, error)
            case PatienceEnded():
                self._conversations.end_patience(event)
            case StoreFailed(problem):
                self._turn.emit(EndProcess(problem, cause=self._turn.cause))
            case Started():
                self._start()
            case Ticked():
                self._tick()
            case (
                SetUpOrdered() | DeletionOrdered() | StartOrdered() | StopOrdered() | MoveOrdered() | DrainOrdered()
                | UndrainOrdered() | ScaleOrdered() | RollingRestartOrdered() | ViewAsked() | ReadyAsked()
            ):  # fmt: skip
                self._conversations.begin(event.request, self._steps(event))
            case ShutdownOrdered(request):
                self._conversations.begin(request, self._shut_down())
            case _:
                self._take_of_node(event)

    def _take_of_node(self, event: CoordinatorEvent) -> None:
        nodes = self._nodes
        match event:
            case HeartbeatHeard():
                nodes.heard(event)
            case HeartbeatDue():
                nodes.heartbeat_due(event)
            case HeartbeatMissed():
                nodes.missed(event)
            case NodeAnswered():
                nodes.answered(event)
            case NodeAbsent():
                nodes.absent(event)
            case NodeDied():
                nodes.died(event)
            case WatchFailed():
                nodes.watch_failed(event)
            case WatchDue():
                nodes.watch_due(event)
            case NodeKilled():
                nodes.killed(event)
            case KillFailed():
                nodes.kill_failed(event)
            case KillDue():
                nodes.kill_due(event)
            case NodeClosed():
                nodes.closed(event)
            case NodeMisplaced():
                nodes.misplaced(event)
            case _:
                self._take_of_machines(event)

    def _take_of_machines(self, event: CoordinatorEvent) -> None:
        machines = self._machines
        match event:
            case MachinesSeen():
                machines.seen(event)
            case MachinesUnknown():
                machines.unknown(event)
            case LookDue():
                machines.look_due(event)
            case GatewayPlaced():
                machines.gateway_placed(event)
            case GatewayNotPlaced():
                machines.gateway_not_placed(event)
            case PlacingDue():
                machines.placing_due(event)
            case StandbyPlaced():
                machines.standby_placed(event)
            case _:
                raise AssertionError(f"an event that nobody takes: {event}")

    def _steps(self, event: OperatorOrder | ViewAsked | ReadyAsked) -> Steps:
        match event:
            case SetUpOrdered():
                return self._requests.set_up(event)
            case DeletionOrdered():
                return self._requests.delete(event)
            case StartOrdered():
                return self._requests.start(event)
            case StopOrdered():
                return self._requests.stop(event)
            case MoveOrdered():
                return self._requests.move(event)
            case DrainOrdered(_, node):
                return self._requests.drain(node)
            case UndrainOrdered(_, node):
                return self._requests.undrain(node)
            case ScaleOrdered(_, count):
                return self._requests.scale(count)
            case RollingRestartOrdered():
                return self._requests.restart()
            case ViewAsked(_, subscriber):
                if subscriber:
                    self._views.asked(subscriber)
                return self._requests.view()
            case ReadyAsked():
                return self._launch.steps()

    def _start(self) -> None:
        """Adopt what lives, launch what does not, and keep watching."""
        self._views.expect(gateway_names(self._node_count))
        self._machines.begin()
        self._nodes.begin()
        self._tick()
        self._conversations.begin(NOBODY, self._requests.set_up_configured())

    def _tick(self) -> None:
        self._nodes.tick()
        if not self._nodes.is_stopping:
            self._spreader.ticked()
        self._turn.remind(tick_ms(self._config), Ticked())  # the next one is a cause of its own

    def _shut_down(self) -> Steps:
        self._nodes.close_all()
        yield Until(lambda: self._nodes.is_stopped)
        self._conversations.refuse_all("the cluster is shut down")
        self._turn.emit(Retire(cause=self._turn.cause))
        return None


def _membership(config: ServerConfig, remembered: Remembered, moment: Moment) -> Membership:
    node = config.node
    limits = MembershipLimits(
        heartbeat_timeout_ms=node.heartbeat_timeout_ms,
        start_timeout_ms=node.start_timeout_ms,
        restart_backoff_ms=node.restart_backoff_ms,
        restart_backoff_max_ms=node.restart_backoff_max_ms,
        seed_node_count=config.seed.seed_node_count,
        form_wait_ms=config.seed.form_wait_ms,
        lease_ms=config.lease_ms,
    )
    names = node_names(config.node_count if remembered.node_count is None else remembered.node_count)
    known = remembered.incarnations
    return Membership(names, limits, moment.observed_ms, known, returning=known)
