"""Whether a launch has come to its end, and to which: a part of the CoordinatorCore."""

from __future__ import annotations

from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.assignment import node_order
from filoray.cluster.control.conversations import Steps, Until
from filoray.cluster.control.launch_report import ReadyReport, dataset_problems, is_settled
from filoray.cluster.control.machine_keeper import MachineKeeper
from filoray.cluster.control.membership import Membership, SlotState
from filoray.cluster.control.patience import Patience
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_orders import ShardOrders
from filoray.cluster.control.turn import Turn
from filoray.cluster.control.view_board import ViewBoard
from filoray.cluster.errors import DatasetUnknown, FilorayError, Unavailable


class LaunchVerdict:
    def __init__(
        self,
        turn: Turn,
        config: ServerConfig,
        manager: ShardManager,
        membership: Membership,
        shards: ShardOrders,
        views: ViewBoard,
        patience: Patience,
        machines: MachineKeeper,
    ) -> None:
        self._turn = turn
        self._config = config
        self._manager = manager
        self._membership = membership
        self._shards = shards
        self._views = views
        self._patience = patience
        self._machines = machines
        self.setup_problem = ""
        """Why a dataset of the configuration cannot be set up, or ""."""
        self.setup_warnings: tuple[str, ...] = ()
        """On the datasets of the configuration that were set up."""

    def is_settled(self, dataset: str) -> bool:
        """Whether all has become of its shards that can."""
        try:
            shard_map = self._manager.shard_map(dataset)
        except DatasetUnknown:
            return True  # deleted meanwhile
        return is_settled(shard_map, self._manager.shards_without_room(dataset))

    def missing(self) -> tuple[str, ...]:
        """Nodes that are no members yet, but for those whose machine is away."""
        members, away = self._membership.members(), self._machines.away() or {}
        return tuple(node for node in self._membership.slots if node not in members and node not in away)

    def away(self) -> tuple[str, ...]:
        """A text for each node that is no member because its machine is away."""
        away = self._machines.away() or {}
        return tuple(
            f"{node} is away: its machine {address} is not in this Ray, or cannot be reached; its copies of shards are "
            "there, and it is back as soon as that is"
            for node, address in sorted(away.items(), key=lambda item: node_order(item[0]))
            if node not in self._membership.members()
        )

    def steps(self) -> Steps:
        """Until all nodes are members and nothing more becomes of any shard, or will for now.

        Raises FilorayError with the cause if a node does not come up or a configured dataset cannot be set up,
        Unavailable if nodes are missing after ``seed.timeout``. Datasets that are not wholly served are the report's.
        """
        timeout_ms = self._config.seed.timeout_ms
        deadline_ms = self._turn.now_ms + timeout_ms
        while not self._is_over():
            wait_ms = min(deadline_ms, self._stall_at_ms(deadline_ms)) - self._turn.now_ms
            if wait_ms <= 0:
                break
            yield Until(self._is_over, min(wait_ms, self._patience.stall_poll_ms))
        if problem := self._problem():
            raise FilorayError(problem)
        if not self._are_all_up():
            waiting = {node: slot.state.value for node, slot in self._membership.slots.items()}
            raise Unavailable(f"not ready after {timeout_ms} ms; nodes: {waiting}")
        yield self._views.until_known()
        return self._report()

    def _report(self) -> ReadyReport:
        problems = tuple(
            problem
            for name, (config, shard_map) in self._manager.datasets.items()
            for problem in dataset_problems(
                config,
                shard_map,
                self._manager.shards_without_room(name),
                len(self._membership.slots),
                self._manager.drained,
            )
        )
        problems += self.away() + self.setup_warnings
        nodes = self._views.view.nodes
        addresses = tuple(str(nodes[node].address) for node in sorted(nodes, key=node_order))
        return ReadyReport(addresses, tuple(sorted(self._manager.datasets)), problems)

    def _is_over(self) -> bool:
        return self._is_ready() or bool(self._problem())

    def _is_ready(self) -> bool:
        configured = {dataset.name for dataset in self._config.datasets}
        return (
            self._are_all_up()
            and configured <= self._manager.datasets.keys()
            and all(self.is_settled(name) for name in self._manager.datasets)
        )

    def _are_all_up(self) -> bool:
        """But for those whose machine is away."""
        return self._machines.away() is not None and not self.missing()

    def _problem(self) -> str:
        """Why the launch fails: a node that failed twice, a dataset of the configuration that cannot be set up."""
        for node, slot in self._membership.slots.items():
            if slot.failures >= 2 and slot.state is not SlotState.UP:
                return f"{node} does not come up: {slot.last_cause}"
        return self.setup_problem

    def _stall_at_ms(self, deadline_ms: int) -> int:
        """When nothing will have been heard of any shard for so long that a launch waits no more."""
        stall_ms = self._shards.moved_ms + self._config.seed.stall_timeout_ms
        return stall_ms if self._are_all_up() else deadline_ms
