"""FiloDB's cluster API: datasets, their shards' states, setting up and removing, moving shards by hand.

What is read comes from the view this gateway was sent last, so it is answered while the coordinator is away; what
changes something goes to the coordinator.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.shard_map import ShardEntry
from filoray.cluster.errors import BadData, NotFound
from filoray.http.access.request_access import may_read
from filoray.http.api.dataset_choice import dataset_view, first_view
from filoray.http.server.bodies import read_body
from filoray.http.server.gateway_services import Edge
from filoray.http.server.parameters import Parameters
from filoray.http.server.responses import success
from filoray.nodes.data.node_figures import FollowerFigures

_ORDER_BYTES_MAX = 1024 * 1024
_PATH = "/api/v1/cluster/{dataset}"


class ClusterRoutes:
    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._control = edge.services.control
        self._min_compressed_bytes = edge.config.http.min_compressed_bytes
        self._source_config_bytes_max = edge.config.dataset_limits.reading.size_max

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/cluster", self.datasets),
            web.get(f"{_PATH}/status", self.status),
            web.get(f"{_PATH}/statusByAddress", self.status_by_address),
            web.post(_PATH, self.setup),
            web.delete(_PATH, self.delete),
            web.post(f"{_PATH}/stopshards", self.stop_shards),
            web.post(f"{_PATH}/startshards", self.start_shards),
            web.post(f"{_PATH}/moveshards", self.move_shards),
            web.get(f"{_PATH}/shards/{{shard}}/story", self.story),
        ]

    async def datasets(self, request: web.Request) -> web.Response:
        datasets = (await first_view(self._edge.services)).datasets
        return self._success(request, sorted(name for name in datasets if may_read(request, name)))

    async def status(self, request: web.Request) -> web.Response:
        """With ``verbose=true`` also where each shard moves, who has copies of it, and which may lead it next."""
        is_verbose = Parameters.of_query(request).flag("verbose")
        entries = await self._shards(request)
        if not is_verbose:
            statuses = [_status_of(entry, address) for entry, address in entries]
            return self._success(request, statuses)
        config = (await dataset_view(request.match_info["dataset"], self._edge.services)).config
        is_followed = any(entry.copies.followers for entry, _ in entries)
        lags = await self._lags(config.name) if is_followed else {}
        view = self._control.view()
        return self._success(
            request,
            [
                _status_of(entry, address) | _copies_of(entry, config, view, lags.get((entry.shard, entry.epoch), {}))
                for entry, address in entries
            ],
        )

    async def _lags(self, dataset: str) -> dict[tuple[int, int], dict[str, FollowerFigures]]:
        """What the leader of each (shard, epoch) says of its followers, by node; nothing of one that is silent."""
        figures = await self._edge.services.figures.figures(self._edge.figures())
        return {
            (shard.shard, shard.epoch): {follower.node: follower for follower in shard.followers}
            for node in figures.nodes
            if node.figures is not None
            for shard in node.figures.shards
            if shard.dataset == dataset
        }

    async def status_by_address(self, request: web.Request) -> web.Response:
        by_address: dict[str, list[dict[str, object]]] = {}
        for entry, address in await self._shards(request):
            by_address.setdefault(address, []).append({"shard": entry.shard, "status": str(entry.status)})
        groups = [{"address": address, "shardList": shards} for address, shards in sorted(by_address.items())]
        return self._success(request, groups)

    async def _shards(self, request: web.Request) -> list[tuple[ShardEntry, str]]:
        """Every shard of the path's dataset with its owner's address, "" while there is none."""
        shard_map = (await dataset_view(request.match_info["dataset"], self._edge.services)).shard_map
        view = self._control.view()
        return [(entry, _address(view, entry.node)) for entry in shard_map.shards]

    async def setup(self, request: web.Request) -> web.Response:
        body = await read_body(
            request, self._source_config_bytes_max, "a source configuration may have (filoray.datasets.max-config-size)"
        )
        try:
            text = body.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise BadData(f"the source configuration is not UTF-8: {error}") from None
        warnings = await self._control.setup_dataset(request.match_info["dataset"], text)
        return self._success(request, [], warnings)

    async def delete(self, request: web.Request) -> web.Response:
        name = request.match_info["dataset"]
        await self._control.delete_dataset(name)
        self._edge.services.remote_write_decoder.forget(name)
        return self._success(request, [])

    async def stop_shards(self, request: web.Request) -> web.Response:
        order = await _read_order(request)
        await self._checked(request, lambda name: self._control.stop_shards(name, _shard_list(order)))
        return self._success(request, [])

    async def start_shards(self, request: web.Request) -> web.Response:
        order = await _read_order(request)
        address = order.get("address")
        if not isinstance(address, str):
            raise BadData('the body needs "address", the node to start the shards on: akka://filo-server@HOST:PORT')
        canonical = _canonical(address)
        await self._checked(request, lambda name: self._control.start_shards(name, canonical, _shard_list(order)))
        return self._success(request, [])

    async def move_shards(self, request: web.Request) -> web.Response:
        """Answered when the shards are Active at the node."""
        order = await _read_order(request)
        node, address = order.get("node"), order.get("address")
        if not isinstance(node, str) and not isinstance(address, str):
            raise BadData('the body needs "node", the one to move the shards to (node-1), or its "address"')
        target = node if isinstance(node, str) else _canonical(str(address))
        await self._checked(request, lambda name: self._control.move_shards(name, target, _shard_list(order)))
        return self._success(request, [])

    async def _checked(self, request: web.Request, act: Callable[[str], Awaitable[None]]) -> None:
        """These endpoints answer 400, not 404, for what they do not know."""
        name = request.match_info["dataset"]
        try:
            await dataset_view(name, self._edge.services)
            await act(name)
        except NotFound as error:
            raise BadData(error.message) from None

    async def story(self, request: web.Request) -> web.Response:
        name, shard_text = request.match_info["dataset"], request.match_info["shard"]
        count = len((await dataset_view(name, self._edge.services)).shard_map.shards)
        if not re.fullmatch(r"[0-9]{1,9}", shard_text) or int(shard_text) >= count:
            raise NotFound(f"dataset {name} has no shard {shard_text}; it has 0 to {count - 1}")
        return self._success(request, list(await self._control.story(name, int(shard_text))))

    def _success(self, request: web.Request, data: object, warnings: Sequence[str] = ()) -> web.Response:
        return success(request, data, self._min_compressed_bytes, warnings=warnings)


def _status_of(entry: ShardEntry, address: str) -> dict[str, object]:
    return {"shard": entry.shard, "status": str(entry.status), "address": address}


def _copies_of(
    entry: ShardEntry, config: DatasetConfig, view: ClusterView, lags: Mapping[str, FollowerFigures]
) -> dict[str, object]:
    """A shard of one copy is in sync where it is owned, and followed by nobody but the node that it moves to."""
    in_sync = entry.copies.in_sync or ((entry.node,) if entry.node is not None else ())
    moves_to = "" if config.is_replicated else "".join(entry.copies.followers[:1])
    return {
        "epoch": entry.epoch,
        "reason": entry.status.reason,
        "leader": entry.node or "",
        "movesTo": moves_to,
        "replicas": config.num_replicas,
        "inSync": list(in_sync),
        "followers": [
            {"node": node, "address": _address(view, node), "inSync": node in in_sync} | _lag_of(entry, lags.get(node))
            for node in entry.copies.followers
        ],
    }


def _lag_of(entry: ShardEntry, follower: FollowerFigures | None) -> dict[str, object]:
    """None of what is not known."""
    if follower is None:
        problem = "the shard has no leader" if entry.node is None else "its leader gives no answer"
        return {"lagEntries": None, "lagSamples": None, "lagBytes": None, "problem": problem}
    return {
        "lagEntries": follower.lag_entries,
        "lagSamples": follower.lag_samples,
        "lagBytes": follower.lag_bytes,
        "problem": follower.problem,
    }


def _address(view: ClusterView, node: str | None) -> str:
    info = view.nodes.get(node) if node is not None else None
    return "" if info is None else str(info.address)


def _canonical(address: str) -> str:
    """Raises BadData."""
    try:
        # Clients of FiloDB's clusters may still write the older scheme.
        return str(NodeAddress.parse(re.sub(r"^akka\.tcp://[^@]*@", "akka://filo-server@", address)))
    except ValueError as error:
        raise BadData(str(error)) from None


async def _read_order(request: web.Request) -> dict[str, Any]:
    body = await read_body(request, _ORDER_BYTES_MAX, "a list of shards may have")
    try:
        order = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadData(f"the body is not JSON: {error}") from None
    if not isinstance(order, dict):
        raise BadData('the body must be a JSON object such as {"shardList": [2, 3]}')
    return order


def _shard_list(order: dict[str, Any]) -> list[int]:
    shards = order.get("shardList")
    if (
        not isinstance(shards, list)
        or not shards
        or not all(isinstance(shard, int) and not isinstance(shard, bool) for shard in shards)
    ):
        raise BadData('the body needs "shardList", a list of shard numbers such as [2, 3]')
    return sorted(set(shards))
