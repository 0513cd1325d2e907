"""An aiohttp application on a host and port: listens, says its URL, ends in order."""

from __future__ import annotations

import errno
import logging

from aiohttp import web
from aiohttp.http import HttpProcessingError

from filoray.cluster.config import HttpConfig
from filoray.cluster.errors import FilorayError

_BACKLOG = 1024


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


def shorten_malformed(record: logging.LogRecord) -> bool:
    """What is no HTTP is one line in the log: anyone may send it, as often as they like."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.exc_info = None
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg, record.args = "a malformed request was refused: %.200r", (str(error),)
    return True
