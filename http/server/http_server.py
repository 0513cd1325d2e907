"""An aiohttp application on a host and port: listens, says its URL, ends in order."""

from __future__ import annotations

import errno
import ssl

from aiohttp import web

from filoray.cluster.config.http_config import HttpConfig
from filoray.cluster.errors import FilorayError
from filoray.http.server.http_protocol import GatewayRunner

_BACKLOG = 1024


class HttpServer:
    """An application on a host and port. ``reachable_host``: what its URL names, where that is not the host itself.

    ``tls``: what is spoken on it, None for plain HTTP.
    """

    def __init__(
        self,
        application: web.Application,
        config: HttpConfig,
        port: int,
        reachable_host: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tls = tls
        self._host = config.host
        self._reachable_host = reachable_host or config.host
        self._port = port
        self._runner = GatewayRunner(application, config)

    @property
    def url(self) -> str:
        host = f"[{self._reachable_host}]" if ":" in self._reachable_host else self._reachable_host
        return f"{'http' if self._tls is None else 'https'}://{host}:{self._port}"

    async def start(self) -> str:
        """Listen; returns the URL. Raises FilorayError that says so if the port is taken."""
        await self._runner.setup()
        try:
            site = web.TCPSite(
                self._runner, self._host, self._port, ssl_context=self._tls, backlog=_BACKLOG, reuse_address=True
            )
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
