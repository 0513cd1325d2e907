"""The ClusterView that gateways are to have, and who of them has it: a part of the CoordinatorCore.

Changes are put together: however many come at once, there is one new view. Each gateway is pushed the newest, one push
at a time and at its own pace, until it has taken that or a newer one; one that does not answer is waited for once, then
counts as lagging until it answers or asks again. Versions grow over restarts: they start at ``generation << 32``, and a
generation is used once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from filoray.cluster.actor_names import node_actor_name
from filoray.cluster.cluster_view import ClusterView, DatasetView, NodeInfo, first_version
from filoray.cluster.control.conversations import Until
from filoray.cluster.control.coordinator_effects import PushView, TellMembers
from filoray.cluster.control.coordinator_events import GatewayDue, PublishDue, ViewRefused, ViewTaken
from filoray.cluster.control.membership import Membership
from filoray.cluster.control.patience import Patience
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.turn import Turn
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.node_protocol import NodeAnnouncement

_PUSH_TIMEOUT_MS = 2000
_ENTRIES_PER_MS = 20_000
"""Shards that a millisecond suffices to tell a gateway of. In a small cluster every change is told at once; where
telling takes long, as tens of thousands of shards to a thousand gateways, changes come in batches.
"""
_PAUSE_MAX_MS = 250


@dataclass(slots=True)
class _Gateway:
    """``is_behind``: the newest view must still be pushed. ``is_busy``: it is being asked, or left alone a while.

    ``has_asked``: for the view, after the last push was sent, so that what becomes of that push says nothing of it.
    """

    acknowledged_version: int = 0
    is_lagging: bool = True
    is_behind: bool = False
    is_busy: bool = False
    has_asked: bool = False


class ViewBoard:
    def __init__(
        self,
        turn: Turn,
        manager: ShardManager,
        membership: Membership,
        generation: int,
        gateway_keys: KeyPair,
        patience: Patience,
    ) -> None:
        self._turn = turn
        self._manager = manager
        self._membership = membership
        self._gateway_keys = gateway_keys
        self._patience = patience
        self._view = ClusterView(first_version(generation))
        self._gateways: dict[str, _Gateway] = {}
        self._expected: tuple[str, ...] = ()
        self._is_stale = False
        self._is_due = False
        self._pause_ends_ms = turn.now_ms

    @property
    def view(self) -> ClusterView:
        """The last that was published."""
        return self._view

    def members(self) -> tuple[str, ...]:
        """Addresses of the members, sorted."""
        return tuple(str(address) for address in sorted(info.address for info in self._view.nodes.values()))

    def expect(self, gateways: Iterable[str]) -> None:
        """Push to them from now on; one that is not there is tried until it is. Any other is let go once it is gone."""
        self._expected = tuple(gateways)
        for gateway in self._expected:
            self._gateways.setdefault(gateway, _Gateway())

    def asked(self, gateway: str) -> None:
        """It is up and asks for the view: those who wait until gateways know something wait for it too."""
        state = self._gateways.setdefault(gateway, _Gateway())
        state.has_asked = True
        if state.is_behind or state.is_busy:  # it will say that it has taken the newest
            state.is_lagging = False

    def changed(self) -> None:
        """The view is no longer what gateways should have: publish it when all has changed that changes now."""
        self._is_stale = True
        if not self._is_due:
            self._is_due = True
            delay_ms = max(0, self._pause_ends_ms - self._turn.now_ms)
            self._turn.remind(delay_ms, PublishDue(cause=self._turn.cause))

    def publish_due(self) -> None:
        self._is_due = False
        self.publish()

    def publish(self) -> int:
        """Returns the version of a view that has everything up to now.

        Until it is known who lives, gateways keep the last coordinator's view.
        """
        if self._is_stale and not self._membership.is_adopting:
            self._is_stale = False
            members = self._membership.members()
            drained = self._manager.drained
            former = {node: info.incarnation for node, info in self._view.nodes.items()}
            self._view = ClusterView(
                self._view.version + 1,
                {node: _node_info(member, is_drained=node in drained) for node, member in members.items()},
                {name: DatasetView(config, shard_map) for name, (config, shard_map) in self._manager.datasets.items()},
                self._gateway_keys,
                self._expected,
            )
            for gateway, state in self._gateways.items():
                state.is_behind = True
                self._push(gateway, state)
            self._pause_ends_ms = self._turn.now_ms + self._pause_ms()
            if former != {node: announcement.incarnation for node, announcement in members.items()}:
                self._turn.emit(TellMembers(self.members(), self._patience.known_ms, cause=self._turn.cause))
        return self._view.version

    def _pause_ms(self) -> int:
        """After a view, before the next."""
        entries = sum(len(dataset.shard_map) for dataset in self._view.datasets.values())
        return min(_PAUSE_MAX_MS, entries * len(self._gateways) // _ENTRIES_PER_MS)

    def is_known(self, version: int) -> bool:
        """Whether every gateway that keeps up has the view ``version``."""
        return all(state.is_lagging or state.acknowledged_version >= version for state in self._gateways.values())

    def until_known(self) -> Until:
        """Publish, and wait for the gateways to have it, but not for long."""
        version = self.publish()
        return Until(lambda: self.is_known(version), self._patience.known_ms)

    def until_taken_by_all(self, wait_ms: int) -> Until:
        """Publish, and wait for every expected gateway to have it, also for those that do not keep up."""
        version = self.publish()
        return Until(
            lambda: all(self._gateways[gateway].acknowledged_version >= version for gateway in self._expected), wait_ms
        )

    # ---- gateways

    def taken(self, event: ViewTaken) -> None:
        state = self._gateways.setdefault(event.gateway, _Gateway())
        state.is_busy = state.is_lagging = False
        state.acknowledged_version = event.version
        self._push(event.gateway, state)

    def refused(self, event: ViewRefused) -> None:
        state = self._gateways[event.gateway]
        if not state.is_lagging and event.gateway in self._expected:
            self._turn.warn(
                "a gateway took no view gateway=%s version=%d error=%s", event.gateway, event.version, event.problem
            )
        state.is_lagging = not state.has_asked
        state.is_behind = True  # it may have taken it all the same: taking it twice does no harm
        self._turn.remind(self._patience.retry_ms, GatewayDue(event.gateway, cause=self._turn.cause))

    def gateway_due(self, gateway: str) -> None:
        state = self._gateways.get(gateway)
        if state is None:
            return
        if gateway not in self._expected and not state.has_asked:
            del self._gateways[gateway]  # not sooner: it may be expected again, and was asked just now
            return
        state.is_busy = False
        self._push(gateway, state)

    def _push(self, gateway: str, state: _Gateway) -> None:
        if state.is_behind and not state.is_busy:
            state.is_behind, state.is_busy, state.has_asked = False, True, False
            self._turn.emit(PushView(gateway, self._view, _PUSH_TIMEOUT_MS, cause=self._turn.cause))


def _node_info(announcement: NodeAnnouncement, *, is_drained: bool) -> NodeInfo:
    node, incarnation = announcement.node, announcement.incarnation
    actor_name = node_actor_name(node, incarnation)
    address, pid, key = announcement.address, announcement.pid, announcement.public_key
    return NodeInfo(node, incarnation, address, actor_name, pid, key, announcement.endpoint, is_drained)
