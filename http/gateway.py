"""The gateway actor: one aiohttp server, and the cluster views that the coordinator pushes to it.

A shell: it starts and stops the server and hands views on. What it serves is built by ``application``; the services
behind that are made by ``services.make_services``. Restarted by Ray when it dies: it keeps nothing that may not be
lost.
"""

from __future__ import annotations

import asyncio
import errno
import importlib.metadata
import logging
import os
import threading
from typing import Protocol

import uvloop
from aiohttp import web
from aiohttp.http import HttpProcessingError

from filoray.cluster.actor_names import gateway_name
from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.config import HttpConfig, ServerConfig
from filoray.cluster.errors import FilorayError
from filoray.cluster.process_log import log_to_file
from filoray.http.application import build_application
from filoray.http.gateway_services import GatewayServices

_log = logging.getLogger("filoray.http")
_BACKLOG = 1024


class WiredServices(Protocol):
    """What ``filoray.http.services.make_services`` gives: the services, and what keeps them up to date."""

    services: GatewayServices

    def update_view(self, view: ClusterView) -> None: ...
    async def close(self) -> None: ...


class HttpServer:
    """An application on a host and port. ``reachable_host``: what its URL names, where that is not the host itself."""

    def __init__(
        self, application: web.Application, config: HttpConfig, port: int, reachable_host: str | None = None
    ) -> None:
        self._host = config.host
        self._reachable_host = reachable_host or config.host
        self._port = port
        self._runner = web.AppRunner(
            application,
            handler_cancellation=True,  # a client that goes away stops its query on the nodes
            access_log=None,  # the application logs requests itself, with their ids
            keepalive_timeout=config.keepalive_timeout_ms / 1000,
            max_line_size=config.max_header_bytes,
            max_field_size=config.max_header_bytes,
            shutdown_timeout=config.shutdown_timeout_ms / 1000,
        )

    @property
    def url(self) -> str:
        return f"http://{self._reachable_host}:{self._port}"

    async def start(self) -> str:
        """Listen; returns the URL. Raises FilorayError that says so if the port is taken."""
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, self._host, self._port, backlog=_BACKLOG, reuse_address=True)
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            if error.errno == errno.EADDRINUSE:
                raise FilorayError(
                    f"HTTP port {self._port} on {self._host} is taken by another program; choose another with "
                    "--http-port or filoray.http.port"
                ) from None
            raise FilorayError(f"cannot listen on {self._host}:{self._port}: {error}") from None
        if self._port == 0:
            self._port = self._runner.addresses[0][1]
        return self.url

    async def stop(self) -> None:
        """Take no more requests, let those that run finish within the configured time, cancel the rest."""
        await self._runner.cleanup()


class Gateway:
    """The actor, named ``gateway-<index>``, serving on ``config.http.port + index`` beside ``node-<index>``.

    The server has a thread and an event loop of its own, so that Ray's calls and HTTP never wait for each other.
    It starts with the process: a gateway that Ray restarts serves again without being told.
    """

    def __init__(self, index: int, config: ServerConfig) -> None:
        log_to_file(config.data_dir, gateway_name(index))
        logging.getLogger("aiohttp.server").addFilter(_shorten_malformed)
        self._index = index
        self._config = config
        self._wired: WiredServices | None = None
        self._server: HttpServer | None = None
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

    def ping(self) -> int:
        """This process' id."""
        return os.getpid()

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
        # Imported here: the application and its tests do without Ray and ZeroMQ.
        from filoray.cluster.ray_actors import reachable_host
        from filoray.http.services import make_services

        wired: WiredServices = await make_services(self._config, self.name, f"node-{self._index}")
        self._wired = wired
        http = self._config.http
        server = HttpServer(build_application(wired.services), http, http.port + self._index, reachable_host(http.host))
        try:
            url = await server.start()
        except BaseException:
            await wired.close()
            raise
        self._server = server
        _log.info("gateway serves name=%s url=%s", self.name, url)
        return url

    async def _stop(self) -> None:
        server, self._server = self._server, None
        wired, self._wired = self._wired, None
        if server is not None:
            await server.stop()
        if wired is not None:
            await wired.close()
        _log.info("gateway stopped name=%s", self.name)


def _shorten_malformed(record: logging.LogRecord) -> bool:
    """What is no HTTP is one line in the log: anyone may send it, as often as they like."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.exc_info = None
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg, record.args = "a malformed request was refused: %.200r", (str(error),)
    return True


def project_version() -> str:
    """The installed version, "0" in a source tree that is not installed."""
    try:
        return importlib.metadata.version("filoray")
    except importlib.metadata.PackageNotFoundError:
        return "0"
