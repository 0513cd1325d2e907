"""Wires one gateway: the query and write services over ZeroMQ, and the coordinator over Ray."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import ray
import zmq
from ray.exceptions import RayActorError, RayError, RayTaskError

from filoray.cluster.actor_names import SEED_DISCOVERY
from filoray.cluster.cluster_view import ClusterView, NodeInfo
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.errors import AnswerOverdue, FilorayError, Unavailable
from filoray.http.api.source_configs import SourceConfigReader
from filoray.http.fanout.cluster_figures import GatewayFigures
from filoray.http.fanout.figures_service import FanOutFiguresService
from filoray.http.fanout.metadata_service import FanOutMetadataService
from filoray.http.fanout.query_service import FanOutQueryService
from filoray.http.fanout.shared_call import SharedCall
from filoray.http.fanout.view_holder import ViewHolder
from filoray.http.fanout.view_trust import ViewTrust
from filoray.http.fanout.write_service import FanOutWriteService
from filoray.http.remote.remote_write import RemoteWriteDecoder
from filoray.http.server.gateway_services import GatewayServices
from filoray.nodes.wire.node_client import ZmqNodeClient
from filoray.nodes.wire.tcp_watch import TcpWatch

logger = logging.getLogger(__name__)

T = TypeVar("T")
_CALL_TIMEOUT_S = 30
_FIRST_VIEW_TIMEOUT_S = 2
_RETRY_S = 0.5
_RAY_THREADS = 4


class RayClusterControl:
    """ClusterControl over the coordinator's actor, which may come and go."""

    def __init__(self, config: ServerConfig, gateway_name: str) -> None:
        self._config = config
        self._namespace = config.namespace
        self._gateway_name = gateway_name
        self._coordinators = list(config.coordinators)
        """The one that led when it was last asked comes first."""
        self._first_gateways = tuple(f"gateway-{index}" for index in range(config.node_count))
        self._source_configs = SourceConfigReader(config)
        self.views: ViewHolder | None = None
        self._subscribing: asyncio.Task[None] | None = None
        self._newest = SharedCall(self._fetch_view)
        # Ray's calls do not come back while its GCS hangs: these few threads wait for them, and decode no bodies.
        self._threads = ThreadPoolExecutor(_RAY_THREADS, "ray-call")
        self._trust = ViewTrust(config.http.view_trust_gap_ms, self._refresh_view)

    def view(self) -> ClusterView:
        assert self.views is not None
        return self.views.view

    async def newest_view(self) -> ClusterView:
        """However many ask: one call after the other."""
        await self._newest.get()
        return self.view()

    async def _fetch_view(self) -> None:
        view = await self._subscribed_view()
        if self.views is not None:
            self.views.update(view)

    async def _subscribed_view(self) -> ClusterView:
        """Of the coordinator that leads, which is found by that."""
        problems: list[Unavailable] = []
        for name in list(self._coordinators):
            try:
                view: ClusterView = await self._call(
                    "subscribe", self._gateway_name, actor=name, timeout_s=_FIRST_VIEW_TIMEOUT_S
                )
            except Unavailable as error:
                problems.append(error)
                continue
            self._coordinators.sort(key=lambda known: known != name)  # done before the next
            return view
        if len(problems) == 1:
            raise problems[0]
        raise Unavailable("; ".join(problem.message for problem in problems))

    async def _order(self, method: str, *args: Any) -> Any:
        """What the coordinator that leads is to do. Where there are two it is found first, within seconds."""
        if len(self._coordinators) > 1:
            await self.newest_view()
        return await self._call(method, *args, actor=self._coordinators[0])

    async def settle(self) -> None:
        await self._trust.settle()

    async def members(self) -> Sequence[str]:
        """From the seed discovery; while that is away, the nodes of the last view."""
        with suppress(Unavailable):
            members: Sequence[str] = await self._call("members", actor=SEED_DISCOVERY, timeout_s=2)
            return members
        return [str(node.address) for node in self.view().nodes.values()]

    async def setup_dataset(self, name: str, text: str) -> tuple[str, ...]:
        read = await self._source_configs.read(name, text)
        await self._order("setup_dataset", name, read.json_text)
        return read.warnings

    async def delete_dataset(self, name: str) -> None:
        await self._order("delete_dataset", name)

    async def stop_shards(self, dataset: str, shards: Sequence[int]) -> None:
        await self._order("stop_shards", dataset, tuple(shards))

    async def start_shards(self, dataset: str, address: str, shards: Sequence[int]) -> None:
        await self._order("start_shards", dataset, address, tuple(shards))

    async def move_shards(self, dataset: str, node: str, shards: Sequence[int]) -> None:
        await self._order("move_shards", dataset, node, tuple(shards))

    async def drain_node(self, node: str) -> None:
        await self._order("drain_node", node)

    async def undrain_node(self, node: str) -> None:
        await self._order("undrain_node", node)

    async def restart_nodes(self) -> None:
        await self._order("restart_nodes")

    async def restart_state(self) -> tuple[Sequence[str], str]:
        state: tuple[Sequence[str], str] = await self._order("restart_state")
        return state

    async def story(self, dataset: str, shard: int) -> Sequence[str]:
        lines: Sequence[str] = await self._order("story", dataset, shard)
        return lines

    async def actors(self) -> dict[str, int]:
        """Every actor of the cluster that answers, with its process id."""
        pids = {name: node.pid for name, node in self.view().nodes.items()}
        others = [*self._coordinators, SEED_DISCOVERY, *(self.view().gateways or self._first_gateways)]
        answers = await asyncio.gather(
            *(self._call("ping", actor=name, timeout_s=2) for name in others), return_exceptions=True
        )
        pids.update({name: pid for name, pid in zip(others, answers, strict=True) if isinstance(pid, int)})
        return pids

    # ---- figures

    async def ping_coordinator(self, timeout_ms: int) -> None:
        await self._call("ping", actor=self._coordinators[0], timeout_s=timeout_ms / 1000)

    async def gateway_figures(self, gateway: str, timeout_ms: int) -> GatewayFigures:
        figures: GatewayFigures | None = await self._call("figures", actor=gateway, timeout_s=timeout_ms / 1000)
        if figures is None:
            raise Unavailable(f"the {gateway} does not serve yet")
        return figures

    # ---- views

    def watch_own_pauses(self) -> None:
        self._trust.start()

    async def _refresh_view(self) -> None:
        with suppress(Unavailable):
            await self._newest.get()

    async def first_view(self) -> ClusterView:
        """The coordinator's view; while it is away another gateway's; else an empty one that the next push replaces."""
        try:
            return await self._subscribed_view()
        except Unavailable:
            logger.warning("the coordinator is away; asking other gateways for their view")
        self.subscribe_in_background()
        for name in self._first_gateways:
            if name != self._gateway_name:
                with suppress(Unavailable):
                    view: ClusterView | None = await self._call(
                        "current_view", actor=name, timeout_s=_FIRST_VIEW_TIMEOUT_S
                    )
                    if view is not None:
                        return view
        return ClusterView(version=0)

    def subscribe_in_background(self) -> None:
        """Fetch the coordinator's view, again and again until it answers; one such task at a time."""
        if self._subscribing is None or self._subscribing.done():
            self._subscribing = asyncio.get_running_loop().create_task(self._subscribe())

    async def _subscribe(self) -> None:
        while True:
            with suppress(Unavailable):
                view = await self._subscribed_view()
                if self.views is not None:
                    self.views.update(view)
                    return
            await asyncio.sleep(_RETRY_S)

    def close(self) -> None:
        self._trust.close()
        if self._subscribing is not None:
            self._subscribing.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # ---- Ray

    async def _call(self, method: str, *args: Any, actor: str, timeout_s: float = _CALL_TIMEOUT_S) -> Any:
        """One actor call. FilorayErrors of the actor come back as they were raised; its absence is Unavailable."""

        given_up = threading.Event()

        def submit() -> Future[Any]:
            handle = None if given_up.is_set() else ray.get_actor(actor, self._namespace)
            if handle is None or given_up.is_set():  # whoever asked was told that nothing was done
                raise Unavailable(f"the {actor} could not be asked in time")
            future: Future[Any] = getattr(handle, method).remote(*args).future()
            return future

        try:
            async with asyncio.timeout(timeout_s):
                future = await asyncio.get_running_loop().run_in_executor(self._threads, submit)
                return await asyncio.wrap_future(future)
        except TimeoutError:
            given_up.set()
            raise AnswerOverdue(f"the {actor} did not answer within {timeout_s} s") from None
        except RayTaskError as error:
            if isinstance(error.cause, FilorayError):
                raise error.cause from None
            raise
        except (RayActorError, ValueError) as error:
            raise Unavailable(f"the {actor} is not there: {error}") from None
        except RayError as error:
            raise Unavailable(f"the {actor} could not be asked: {error}") from None


class Wired:
    """What ``make_services`` gives; see ``WiredServices``."""

    def __init__(
        self, services: GatewayServices, writes: FanOutWriteService, views: ViewHolder, control: RayClusterControl
    ) -> None:
        self.services = services
        self._writes = writes
        self._views = views
        self._control = control

    def update_view(self, view: ClusterView) -> None:
        self._views.update(view)

    async def close(self) -> None:
        await self._writes.close()
        self._control.close()
        self._views.close()


async def make_services(config: ServerConfig, gateway_name: str, node_name: str) -> Wired:
    """The services of the gateway ``gateway_name`` beside ``node_name``, on the running event loop."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()

    tcp_watch = TcpWatch.of_config(config.node)

    def connect(info: NodeInfo) -> ZmqNodeClient:
        keys = views.view.gateway_keys
        return ZmqNodeClient(
            context,
            info.address,
            info.incarnation,
            info.endpoint,
            info.public_key,
            keys,
            config.node.max_message_bytes,
            tcp_watch,
        )

    control = RayClusterControl(config, gateway_name)
    views = ViewHolder(ClusterView(version=0), connect)
    control.views = views
    views.update(await control.first_view())
    views.ask_anew_with(control.subscribe_in_background)
    control.watch_own_pauses()
    writes = FanOutWriteService(views, config.write.timeout_ms, config.dataset_limits)
    decoder = RemoteWriteDecoder(config.write)
    views.on_update(lambda view: decoder.keep_only(view.datasets))
    services = GatewayServices(
        query=FanOutQueryService(views, config.query),
        metadata=FanOutMetadataService(views, config.query, node_name),
        write=writes,
        control=control,
        config=config,
        remote_write_decoder=decoder,
        figures=FanOutFiguresService(views, control, config.cluster_name, gateway_name, config.node_count),
        gateway_name=gateway_name,
        node_name=node_name,
        version=_project_version(),
    )
    return Wired(services, writes, views, control)


def _project_version() -> str:
    """The installed version, "0" in a source tree that is not installed."""
    try:
        return importlib.metadata.version("filoray")
    except importlib.metadata.PackageNotFoundError:
        return "0"
