"""The cluster's nodes: which there are and what they have, draining them, and replacing them one after the other.

What is read comes from the view that this gateway was sent last; what changes something goes to the coordinator.
"""

from __future__ import annotations

from aiohttp import web

from filoray.cluster.cluster_view import ClusterView, NodeInfo
from filoray.cluster.control.assignment import node_order
from filoray.http.api.dataset_choice import first_view
from filoray.http.server.gateway_services import Edge
from filoray.http.server.responses import success


class NodeRoutes:
    def __init__(self, edge: Edge) -> None:
        self._services = edge.services
        self._control = edge.services.control
        self._min_compressed_bytes = edge.config.http.min_compressed_bytes

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/admin/nodes", self.nodes),
            web.post("/admin/nodes/{node}/drain", self.drain),
            web.post("/admin/nodes/{node}/undrain", self.undrain),
            web.get("/admin/rolling-restart", self.restart_state),
            web.post("/admin/rolling-restart", self.restart),
        ]

    async def nodes(self, request: web.Request) -> web.Response:
        """Every member with its shards, by dataset; also those that have none."""
        view = await first_view(self._services)
        members = sorted(view.nodes.values(), key=lambda info: node_order(info.name))
        return self._success(request, [_node(view, info) for info in members])

    async def drain(self, request: web.Request) -> web.Response:
        """Answered when the node gets no shards any more; those that it has move away one after the other."""
        await self._control.drain_node(request.match_info["node"])
        return self._success(request, [])

    async def undrain(self, request: web.Request) -> web.Response:
        await self._control.undrain_node(request.match_info["node"])
        return self._success(request, [])

    async def restart_state(self, request: web.Request) -> web.Response:
        """The nodes that are still to be replaced; none: no rolling restart is under way.

        ``problem``: why the last one ended before its time, or "".
        """
        left, problem = await self._control.restart_state()
        return self._success(request, {"left": list(left), "problem": problem})

    async def restart(self, request: web.Request) -> web.Response:
        """Answered when it has begun; it goes on by itself, over restarts of the coordinator too."""
        await self._control.restart_nodes()
        return self._success(request, [])

    def _success(self, request: web.Request, data: object) -> web.Response:
        return success(request, data, self._min_compressed_bytes)


def _node(view: ClusterView, info: NodeInfo) -> dict[str, object]:
    """``copies``: of shards that others lead, those that it is to get among them."""
    shard_maps = {name: dataset.shard_map for name, dataset in sorted(view.datasets.items())}
    owned = {name: shard_map.owned_by(info.name) for name, shard_map in shard_maps.items()}
    copies = {
        name: [entry.shard for entry in shard_map.shards if info.name != entry.node and info.name in entry.copies]
        for name, shard_map in shard_maps.items()
    }
    return {
        "node": info.name,
        "address": str(info.address),
        "incarnation": info.incarnation,
        "pid": info.pid,
        "drained": info.is_drained,
        "shards": {name: [entry.shard for entry in entries] for name, entries in owned.items() if entries},
        "copies": {name: shards for name, shards in copies.items() if shards},
    }
