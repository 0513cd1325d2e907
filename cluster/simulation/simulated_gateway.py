"""A simulated gateway: routes writes and reads by the view that it has, which may be old."""

from __future__ import annotations

from collections.abc import Callable

from filoray.cluster.cluster_view import ClusterView, NodeInfo, newest_view
from filoray.cluster.control.shard_map import ShardEntry
from filoray.cluster.simulation.checkers import Checkers, Process, ShardKey
from filoray.cluster.simulation.simulated_node import SimulatedNode
from filoray.cluster.simulation.world import Action, SimulatedWorld


class SimulatedGateway:
    """``nodes``: the cluster's processes. ``ask_view``: asks the coordinator for its view."""

    def __init__(
        self,
        world: SimulatedWorld,
        checkers: Checkers,
        nodes: dict[Process, SimulatedNode],
        name: str,
        ask_view: Callable[[SimulatedGateway], None],
    ) -> None:
        self.name = name
        self.view = ClusterView(0)
        self.is_hung = False
        self.is_dead = False
        self.is_cut = False
        """The coordinator cannot be reached, nor reach it; nodes can."""
        self._world = world
        self._checkers = checkers
        self._nodes = nodes
        self._ask_view = ask_view
        self._stuck: list[Action] = []
        checkers.views.began(name)

    def hear(self, action: Action) -> bool:
        """A message of the coordinator. False: it has to wait; or whom it is for is dead."""
        if self.is_hung or self.is_cut:
            self._stuck.append(action)
        elif not self.is_dead:
            action()
        return not (self.is_hung or self.is_cut or self.is_dead)

    def go_on(self) -> None:
        self.is_hung = self.is_cut = False
        stuck, self._stuck = self._stuck, []
        for action in self._world.shuffled(stuck):
            action()
        self._ask_view(self)

    def take_view(self, offered: ClusterView) -> None:
        held, self.view = self.view, newest_view(self.view, offered)
        if self.view is not held:
            self._checkers.views.seen(self.name, self.view)

    def work(self) -> None:
        """Write to a shard, or read from one."""
        names = list(self.view.datasets)
        if self.is_hung or not names:
            return
        name = self._world.one_of(names)
        dataset = self.view.datasets[name]
        entry = self._world.one_of(dataset.shard_map.shards)
        if self._owner(entry) is None:
            return
        key = (name, entry.shard)
        floor = self._checkers.kept.floor((*key, dataset.config.generation))
        if self._world.happens(0.5):
            self.ask_owner(key, lambda node, epoch: node.take_write(key, epoch, self.was_refused), self.was_refused)
        else:
            self.ask_owner(
                key, lambda node, epoch: node.take_read(key, epoch, floor, self.was_refused), self.was_refused
            )

    def ask_owner(self, key: ShardKey, act: Callable[[SimulatedNode, int], None], refused: Action) -> None:
        """``act``, given the epoch that it is routed by, where the view has the shard; or ``refused``."""
        dataset = self.view.datasets.get(key[0])
        entry = dataset.shard_map[key[1]] if dataset is not None else None
        owner = self._owner(entry) if entry is not None else None
        if entry is None or owner is None:
            refused()
            return
        process, epoch = (owner.name, owner.incarnation), entry.epoch

        def arrive() -> None:
            node = self._nodes.get(process)
            if node is None or not node.is_up:
                refused()
            else:
                node.run(lambda: act(node, epoch))

        self._world.send(self.name, owner.actor_name, arrive)

    def _owner(self, entry: ShardEntry) -> NodeInfo | None:
        return self.view.nodes.get(entry.node) if entry.node is not None else None

    def was_refused(self) -> None:
        """Its view seems to be wrong."""
        if not (self.is_dead or self.is_cut):
            self._ask_view(self)
