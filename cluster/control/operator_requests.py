"""What operators order, step by step, from the order to its answer: a part of the CoordinatorCore.

Every wait ends: what is not done after some seconds goes on by itself, and its operator is told what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.config.dataset import DatasetConfig, check_room_for
from filoray.cluster.config.ignored_keys import ignored_keys_line, unknown_keys
from filoray.cluster.config.server_config import NODES_MAX, ServerConfig
from filoray.cluster.control.conversations import NOBODY, Steps, Until
from filoray.cluster.control.coordinator_effects import ReadSourceConfig
from filoray.cluster.control.coordinator_events import (
    DeletionOrdered,
    MoveOrdered,
    RequestId,
    SetUpOrdered,
    StartOrdered,
    StopOrdered,
)
from filoray.cluster.control.launch_verdict import LaunchVerdict
from filoray.cluster.control.membership import Membership
from filoray.cluster.control.patience import Patience
from filoray.cluster.control.rolling_restart import RollingRestart
from filoray.cluster.control.scaling import Scaling
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_messages import (
    DatasetDeleted,
    DatasetSetUp,
    NodeDrained,
    NodeUndrained,
    ShardsMoved,
    ShardsStarted,
    ShardsStopped,
)
from filoray.cluster.control.shard_orders import ShardOrders
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.control.turn import Turn
from filoray.cluster.control.view_board import ViewBoard
from filoray.cluster.errors import BadData, DatasetExists, FilorayError, Unavailable


class OperatorRequests:
    def __init__(
        self,
        turn: Turn,
        config: ServerConfig,
        manager: ShardManager,
        membership: Membership,
        shards: ShardOrders,
        views: ViewBoard,
        launch: LaunchVerdict,
        restart: RollingRestart,
        scaling: Scaling,
        patience: Patience,
    ) -> None:
        self._turn = turn
        self._config = config
        self._manager = manager
        self._membership = membership
        self._shards = shards
        self._views = views
        self._launch = launch
        self._restart = restart
        self._scaling = scaling
        self._patience = patience
        self._readings: dict[RequestId, DatasetConfig | FilorayError] = {}

    def was_read(self, request: RequestId, result: DatasetConfig | FilorayError) -> None:
        """What became of a source configuration."""
        self._readings[request] = result

    def set_up(self, event: SetUpOrdered) -> Steps:
        """Raises BadData, DatasetExists."""
        yield from self._take(event.request, event.dataset, event.text)
        yield from self._until_settled(event.dataset)
        return None

    def _take(self, request: RequestId, name: str, text: str) -> Generator[Until, None, DatasetConfig]:
        """The dataset is among those that are served from then on."""
        if name in self._manager.datasets:
            raise DatasetExists(name)
        config = yield from self._read(request, name, text)
        yield Until(lambda: not self._manager.is_deleting(name), self._patience.deletion_ms)
        others = [known for known, _ in self._manager.datasets.values() if known.name != name]
        check_room_for(config, others, self._config)
        self._check_deleted(name)
        self._shards.manage(DatasetSetUp(config))
        if line := ignored_keys_line(name, config.ignored_keys):
            self._turn.say("%s", line)
        return config

    def _until_settled(self, name: str) -> Steps:
        yield Until(lambda: self._launch.is_settled(name), self._patience.active_ms)
        yield self._views.until_known()
        return None

    def _read(self, request: RequestId, name: str, text: str) -> Generator[Until, None, DatasetConfig]:
        self._turn.emit(ReadSourceConfig(request, name, text, cause=self._turn.cause))
        yield Until(lambda: request in self._readings)
        result = self._readings.pop(request)
        if isinstance(result, FilorayError):
            raise result
        return result

    def delete(self, event: DeletionOrdered) -> Steps:
        """Raises DatasetUnknown; Unavailable, naming what is still there: the deletion then goes on by itself."""
        name = event.dataset
        if not self._manager.is_deleting(name):
            self._shards.manage(DatasetDeleted(name))
        yield self._views.until_known()
        yield Until(lambda: not self._manager.is_deleting(name), self._patience.deletion_ms)
        self._check_deleted(name)
        return None

    def start(self, event: StartOrdered) -> Steps:
        """Raises DatasetUnknown, BadData; Unavailable if a former owner may still hold one of the shards."""
        node = self._node_at(event.address)
        yield self._until_released(event.dataset, event.shards)
        self._shards.manage(ShardsStarted(event.dataset, node, event.shards))
        yield self._views.until_known()
        return None

    def stop(self, event: StopOrdered) -> Steps:
        """Raises DatasetUnknown, BadData; Unavailable if an owner did not close one within some seconds: nobody asks

        it for the shard any more, but no other node gets it before.
        """
        name, shards = event.dataset, event.shards
        self._shards.manage(ShardsStopped(name, shards))
        yield self._views.until_known()
        yield self._until_released(name, shards)
        if nodes := self._manager.unreleased_by(name, shards):
            raise Unavailable(f"shards of dataset {name} are stopped, but {', '.join(nodes)} has not closed all yet")
        return None

    def move(self, event: MoveOrdered) -> Steps:
        """Raises DatasetUnknown, BadData; Unavailable if they are not Active there after some seconds: it goes on."""
        name, shards = event.dataset, event.shards
        node = self._node_at(event.node) if event.node.startswith("akka") else event.node
        self._shards.manage(ShardsMoved(name, node, shards))

        def have_arrived() -> bool:
            known = self._manager.datasets.get(name)
            return known is None or all(
                known[1][shard].node == node and known[1][shard].status.kind is StatusKind.ACTIVE for shard in shards
            )

        yield Until(have_arrived, self._patience.stop_ms)
        if not have_arrived():
            raise Unavailable(f"shards of dataset {name} are on their way to {node}, but not all Active there yet")
        yield self._views.until_known()
        return None

    def drain(self, node: str) -> Steps:
        """Raises BadData; Unavailable while it is not known who lives."""
        yield Until(lambda: not self._membership.is_adopting, self._patience.stop_ms)
        self._shards.manage(NodeDrained(node))
        self._views.changed()
        yield self._views.until_known()
        return None

    def undrain(self, node: str) -> Steps:
        """Raises BadData."""
        if node not in self._manager.drained:
            raise BadData(f"{node} is not drained")
        self._shards.manage(NodeUndrained(node))
        self._views.changed()
        yield self._views.until_known()
        return None

    def scale(self, count: int) -> Steps:
        """Raises BadData if fewer nodes could not hold all; Unavailable, see ``Scaling.begin``."""
        if not 1 <= count <= NODES_MAX:
            raise BadData(f"a cluster has 1 to {NODES_MAX} nodes, not {count}")
        yield Until(lambda: not self._membership.is_adopting, self._patience.stop_ms)
        self._scaling.begin(count)
        yield self._views.until_known()
        return None

    def restart(self) -> Steps:
        """Raises Unavailable while another rolling restart is under way."""
        yield Until(lambda: not self._membership.is_adopting, self._patience.stop_ms)
        self._restart.begin()
        return None

    def view(self) -> Steps:
        """After a restart only when it is known who lives."""
        yield Until(lambda: not self._membership.is_adopting)
        self._views.publish()
        return self._views.view

    def set_up_configured(self) -> Steps:
        """Datasets that the configuration asks for and that are not there yet."""
        yield Until(lambda: self._membership.is_formed)
        for dataset in self._config.datasets:
            try:
                read = yield from self._take(NOBODY, dataset.name, dataset.text)
                self._launch.setup_warnings += tuple(
                    f"dataset {dataset.name} of {dataset.place}: {warning}"
                    for warning in unknown_keys(read.ignored_keys)
                )
                yield from self._until_settled(dataset.name)
            except DatasetExists:
                pass
            except FilorayError as error:
                text = "dataset not set up dataset=%s place=%s error=%s"
                self._turn.say(text, dataset.name, dataset.place, error, level=logging.ERROR)
                problem = f"dataset {dataset.name} of {dataset.place} cannot be set up: {error.message}"
                self._launch.setup_problem = problem
        return None

    # ---- small steps

    def _until_released(self, dataset: str, shards: tuple[int, ...]) -> Until:
        return Until(lambda: not self._manager.unreleased_by(dataset, shards), self._patience.stop_ms)

    def _node_at(self, address: str) -> str:
        try:
            wanted = NodeAddress.parse(address)
        except ValueError as error:
            raise BadData(str(error)) from None
        node = next((name for name, info in self._views.view.nodes.items() if info.address == wanted), None)
        if node is None:
            raise BadData(f"there is no node {address}; the members are {', '.join(self._views.members())}")
        return node

    def _check_deleted(self, name: str) -> None:
        left = self._manager.undeleted_shards(name)
        if left:
            raise Unavailable(_undeleted_text(name, left, self._shards.deletion_problem(name)))


def _undeleted_text(name: str, left: Mapping[str | None, tuple[int, ...]], problem: str) -> str:
    places = "; ".join(
        f"shards {', '.join(map(str, shards))} {f'on {node}' if node else 'wait for a node'}"
        for node, shards in sorted(left.items(), key=lambda item: item[0] or "")
    )
    return (
        f"dataset {name} is served no more, but not all its data are deleted yet: {places}"
        f"{f' ({problem})' if problem else ''}; that goes on by itself, and the name is free when it is done"
    )
