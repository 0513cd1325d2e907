"""The gateway actor: one aiohttp server, and the cluster views that the coordinator pushes to it.

A shell: it starts and stops the server and hands views on. What it serves is built by ``application``; the services
behind that are made by ``services.make_services``. Restarted by Ray when it dies: it keeps nothing that may not be
lost.

Every process that has a handle of the actor imports this module, so it imports what serves only where it runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import TYPE_CHECKING, Protocol

import ray

from filoray.cluster.actor_names import gateway_name
from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.process.process_log import log_to_file

if TYPE_CHECKING:
    from filoray.http.fanout.cluster_figures import GatewayFigures
    from filoray.http.server.gateway_services import Edge, GatewayServices
    from filoray.http.server.http_server import HttpServer

_log = logging.getLogger("filoray.http")
_START_AGAIN_S = 1


class WiredServices(Protocol):
    """What ``filoray.http.server.services.make_services`` gives: the services, and what keeps them up to date."""

    services: GatewayServices

    def update_view(self, view: ClusterView) -> None: ...
    async def close(self) -> None: ...


class Gateway:
    """The actor, named ``gateway-<index>``, serving on ``config.http.port + index`` beside ``node-<index>``.

    The server has a thread and an event loop of its own, so that Ray's calls and HTTP never wait for each other.
    It starts with the process: a gateway that Ray restarts serves again without being told.
    """

    def __init__(self, index: int, config: ServerConfig) -> None:
        log_to_file(config.data_dir, gateway_name(index))
        self._index = index
        self._config = config
        self._wired: WiredServices | None = None
        self._server: HttpServer | None = None
        self._edge: Edge | None = None
        self._starting_again: asyncio.Task[None] | None = None
        import uvloop

        self._loop = uvloop.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="http", daemon=True).start()
        self._started = asyncio.run_coroutine_threadsafe(self._start(), self._loop)

    # ---- the actor's protocol

    def start(self) -> str:
        """Wait until it serves; returns the URL, raises what kept it from serving."""
        return self._started.result()

    def update_view(self, view: ClusterView) -> None:
        """From the coordinator, after each change."""
        self._loop.call_soon_threadsafe(self._take_view, view)

    def current_view(self) -> ClusterView | None:
        """The view it routes by, for a gateway that starts while the coordinator is away."""
        return self._wired.services.control.view() if self._wired is not None else None

    def figures(self) -> GatewayFigures | None:
        """What it says of itself to another gateway; None while it does not serve."""
        return self._edge.figures() if self._edge is not None and self._server is not None else None

    def config(self) -> ServerConfig:
        """What it was made with."""
        return self._config

    def ping(self) -> int:
        """This process' id."""
        return os.getpid()

    def machine(self) -> str:
        """Ray's id of the one it runs on."""
        return str(ray.get_runtime_context().get_node_id())

    def shutdown(self) -> None:
        """Finish what runs, then let go of port and services."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()

    # ---- on the server's loop

    @property
    def name(self) -> str:
        return gateway_name(self._index)

    def _take_view(self, view: ClusterView) -> None:
        if self._wired is not None:
            self._wired.update_view(view)

    async def _start(self) -> str:
        try:
            return await self._serve()
        except Exception:
            self._starting_again = asyncio.create_task(self._start_again())
            raise

    async def _start_again(self) -> None:
        """One that Ray started anew has nobody who would tell it that a port is free again, or a file mended."""
        said = ""
        while self._server is None:
            await asyncio.sleep(_START_AGAIN_S)
            try:
                await self._serve()
            except Exception as error:
                if str(error) != said:
                    _log.error("gateway cannot serve yet name=%s error=%s", self.name, error)
                said = str(error)

    async def _serve(self) -> str:
        from filoray.cluster.actors.ray_actors import reachable_host
        from filoray.cluster.process.open_files import raise_limit
        from filoray.cluster.process.process_memory import release_freed_memory_regularly
        from filoray.http.access.web_config import launcher_tokens
        from filoray.http.access.web_config_file import WebConfigFile
        from filoray.http.server.application import EDGE, build_application
        from filoray.http.server.http_server import HttpServer
        from filoray.http.server.services import make_services

        raise_limit()  # every client's connection takes one
        release_freed_memory_regularly()
        http = self._config.http
        access_file = WebConfigFile(http.web_config_file, launcher_tokens(http))
        wired: WiredServices = await make_services(self._config, self.name, f"node-{self._index}")
        self._wired = wired
        try:
            announced_host = reachable_host(http.host)
            application = build_application(wired.services, access_file, announced_host)
            server = HttpServer(
                application,
                http,
                http.port + self._index,
                announced_host,
                access_file.listening_context(),
            )
            url = await server.start()
        except BaseException:
            self._wired = None
            await wired.close()
            raise
        self._edge = application[EDGE]
        self._edge.url = url
        self._server = server
        _log.info("gateway serves name=%s url=%s", self.name, url)
        return url

    async def _stop(self) -> None:
        if self._starting_again is not None:
            self._starting_again.cancel()
        server, self._server = self._server, None
        wired, self._wired = self._wired, None
        if server is not None:
            await server.stop()
        if wired is not None:
            await wired.close()
        _log.info("gateway stopped name=%s", self.name)
