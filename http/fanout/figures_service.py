"""Asks every node, every gateway and the coordinator for their figures, all at once and with one short deadline.

However many clients look on, there is one round at a time. Who does not answer in time is told as such, with the time
since when: a node that left the view since it left, others since the first of the rounds in which they gave no answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from filoray.cluster.actor_names import COORDINATOR, gateway_name, node_name
from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.errors import AnswerOverdue, FilorayError, QueryTimeout
from filoray.cluster.process.clocks import steady_ms, wall_ms
from filoray.http.fanout.cluster_figures import (
    ClusterFigures,
    DatasetReading,
    GatewayFigures,
    GatewayReading,
    NodeReading,
    Presence,
    ShardReading,
    Standing,
)
from filoray.http.fanout.shared_call import SharedCall
from filoray.http.fanout.view_holder import ViewHolder
from filoray.nodes.wire.figures_reply import decode_node_figures
from filoray.nodes.wire.protocol import Kind

DEADLINE_MS = 700
"""So that who asks every second is answered within it."""
_ROUND_GAP_MS_MAX = 10_000
"""After a longer pause between two rounds nobody knows what was in between."""

_UP = Standing(Presence.UP)


class Peers(Protocol):
    """The other processes of the cluster that no socket leads to. Raises FilorayErrors, AnswerOverdue among them."""

    async def ping_coordinator(self, timeout_ms: int) -> None: ...
    async def gateway_figures(self, gateway: str, timeout_ms: int) -> GatewayFigures: ...


class FiguresOfCluster(Protocol):
    async def figures(self, own: GatewayFigures) -> ClusterFigures:
        """``own``: those of the gateway that is asked, which need not be asked for."""
        ...


@dataclass(frozen=True, slots=True)
class _Problem:
    since_ms: int
    is_absence: bool


class ProblemTimes:
    """Since when who has been away or silent. A core: ``now_ms`` is of a clock that never jumps."""

    def __init__(self) -> None:
        self._problems: dict[str, _Problem] = {}
        self._round_ms: int | None = None

    def begin_round(self, now_ms: int) -> None:
        if self._round_ms is not None and now_ms - self._round_ms > _ROUND_GAP_MS_MAX:
            self._problems = {name: problem for name, problem in self._problems.items() if problem.is_absence}
        self._round_ms = now_ms

    def see_members(self, expected: Sequence[str], present: Sequence[str], now_ms: int) -> None:
        """Whoever is expected and not present is absent from now on, if it was not before; nobody else is."""
        for name in [name for name, problem in self._problems.items() if problem.is_absence and name not in expected]:
            del self._problems[name]
        for name in expected:
            problem = self._problems.get(name)
            if name not in present and (problem is None or not problem.is_absence):
                self._problems[name] = _Problem(now_ms, is_absence=True)
            elif name in present and problem is not None and problem.is_absence:
                del self._problems[name]

    def standing(self, name: str, presence: Presence, problem: str, now_ms: int) -> Standing:
        """What is to be said of one that was asked."""
        if presence is Presence.UP:
            self._problems.pop(name, None)
            return _UP
        since = self._problems.setdefault(name, _Problem(now_ms, is_absence=False))
        return Standing(presence, problem, now_ms - since.since_ms)


class FanOutFiguresService:
    """FiguresOfCluster over a gateway's ViewHolder.

    ``node_count``: so many nodes and gateways there ought to be, until a view says which.
    """

    def __init__(self, views: ViewHolder, peers: Peers, cluster: str, gateway: str, node_count: int) -> None:
        self._views = views
        self._cluster = cluster
        self._peers = peers
        self._gateway = gateway
        self._first_gateways = tuple([gateway_name(index) for index in range(node_count)])
        self._problems = ProblemTimes()
        self._round = SharedCall(self._ask_all)
        views.on_update(self._see_view)
        self._see_view(views.view)

    async def figures(self, own: GatewayFigures) -> ClusterFigures:
        others = await self._round.get()
        gateways = [*others.gateways, GatewayReading(self._gateway, _UP, own)]
        return replace(others, gateways=tuple(sorted(gateways, key=lambda reading: _slot(reading.gateway))))

    def _see_view(self, view: ClusterView) -> None:
        self._problems.see_members(self._expected_nodes(view), list(view.nodes), steady_ms())

    def _expected_gateways(self, view: ClusterView) -> tuple[str, ...]:
        return view.gateways or self._first_gateways

    def _expected_nodes(self, view: ClusterView) -> list[str]:
        """Each gateway is beside a node."""
        return [node_name(_slot(gateway)[1]) for gateway in self._expected_gateways(view)]

    async def _ask_all(self) -> ClusterFigures:
        self._problems.begin_round(steady_ms())
        view = self._views.view
        nodes = sorted({*self._expected_nodes(view), *view.nodes}, key=_slot)
        other_gateways = [name for name in self._expected_gateways(view) if name != self._gateway]
        coordinator, gateway_readings, node_readings = await asyncio.gather(
            self._standing(COORDINATOR, self._peers.ping_coordinator(DEADLINE_MS)),
            asyncio.gather(*map(self._ask_gateway, other_gateways)),
            asyncio.gather(*map(self._ask_node, nodes)),
        )
        datasets = [
            DatasetReading(
                name,
                dataset.config.num_replicas,
                tuple([
                    ShardReading(entry.shard, str(entry.status), entry.status.reason, entry.node, entry.epoch)
                    for entry in dataset.shard_map.shards
                ]),
            )
            for name, dataset in sorted(self._views.view.datasets.items())
        ]  # fmt: skip
        return ClusterFigures(
            self._cluster,
            self._gateway,
            wall_ms(),
            coordinator,
            tuple(gateway_readings),
            tuple(node_readings),
            tuple(datasets),
        )

    async def _ask_gateway(self, gateway: str) -> GatewayReading:
        found: list[GatewayFigures] = []

        async def ask() -> None:
            found.append(await self._peers.gateway_figures(gateway, DEADLINE_MS))

        standing = await self._standing(gateway, ask())
        return GatewayReading(gateway, standing, found[0] if found else None)

    async def _ask_node(self, node: str) -> NodeReading:
        info = self._views.view.nodes.get(node)
        if info is None:
            problem = "it is no member: its process has ended, or is being started"
            return NodeReading(node, self._problems.standing(node, Presence.AWAY, problem, steady_ms()))
        found = []

        async def ask() -> None:
            reply = await self._views.client(node).request(Kind.FIGURES, "", (), DEADLINE_MS)
            found.append(decode_node_figures(reply.body))

        standing = await self._standing(node, ask())
        return NodeReading(
            node, standing, str(info.address), info.incarnation, info.is_drained, found[0] if found else None
        )

    async def _standing(self, name: str, asking: Awaitable[None]) -> Standing:
        presence, problem = Presence.UP, ""
        try:
            await asking
        except (AnswerOverdue, QueryTimeout) as error:
            presence, problem = Presence.SILENT, error.message
        except FilorayError as error:
            presence, problem = Presence.AWAY, error.message
        return self._problems.standing(name, presence, problem, steady_ms())


def _slot(name: str) -> tuple[str, int]:
    """``node-10`` comes after ``node-9``."""
    kind, _, index = name.rpartition("-")
    return kind, int(index) if index.isdecimal() else 0
