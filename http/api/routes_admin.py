"""What operators and their tools ask of one gateway: health, members, log levels, metrics, build, and the web page."""

from __future__ import annotations

import base64
import hashlib
import logging
import platform
import re
from collections import Counter
from pathlib import Path

import orjson
from aiohttp import web

from filoray.cluster.errors import BadData, NotFound
from filoray.http.access.route_access import PREFIXES
from filoray.http.server.bodies import read_body
from filoray.http.server.gateway_services import Edge
from filoray.http.server.responses import json_response, success

PROMETHEUS_VERSION = "3.5.0"
"""The Prometheus whose API this is: Grafana and others choose features by the version that buildinfo tells."""

_LEVELS = {
    "TRACE": logging.DEBUG,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "OFF": logging.CRITICAL + 10,
}
_LEVEL_BYTES_MAX = 1024
_NAME_CHARACTERS_MAX = 200


class AdminRoutes:
    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._control = edge.services.control
        self._min_compressed_bytes = edge.config.http.min_compressed_bytes
        self._page = Path(__file__).with_name("web_page.html").read_bytes()
        self._page_headers = {"Content-Security-Policy": page_policy(self._page)}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.page),
            web.get("/__health", self.health),
            web.get("/admin/health", self.health),
            web.get("/__members", self.members),
            web.get("/__seeds", self.members),
            web.post("/admin/loglevel/{logger}", self.log_level),
            web.get("/admin/actors", self.actors),
            web.get("/admin/chaos", self.chaos),
            web.get("/metrics", self.metrics),
            *(web.get(f"{prefix}/status/buildinfo", self.build_info) for prefix in PREFIXES),
        ]

    async def page(self, request: web.Request) -> web.Response:
        return web.Response(body=self._page, content_type="text/html", charset="utf-8", headers=self._page_headers)

    async def health(self, request: web.Request) -> web.Response:
        """Asks nobody: it says that this process answers."""
        return web.Response(text="All good", content_type="text/plain")

    async def members(self, request: web.Request) -> web.Response:
        body = orjson.dumps({"members": sorted(await self._control.members())})
        return json_response(request, body, self._min_compressed_bytes)

    async def actors(self, request: web.Request) -> web.Response:
        """Every actor that answers, with its process id: what a chaos test kills."""
        return success(request, dict(await self._control.actors()), self._min_compressed_bytes)

    async def chaos(self, request: web.Request) -> web.Response:
        """Whether scenarios may break this cluster."""
        allowed = self._edge.config.http.allow_chaos
        return success(request, {"allowed": allowed}, self._min_compressed_bytes)

    async def log_level(self, request: web.Request) -> web.Response:
        """The body is the level; for this gateway's process only."""
        body = await read_body(request, _LEVEL_BYTES_MAX, "a log level may have")
        given = body.decode("utf-8", "replace").strip().rstrip("=")  # curl -d sends it as a form's name
        level = _LEVELS.get(given.upper())
        if level is None:
            raise BadData(f"there is no log level {given!r}; the levels are {', '.join(_LEVELS).lower()}")
        logger = _existing_logger(request.match_info["logger"])
        before = logging.getLevelName(logger.getEffectiveLevel())
        logger.setLevel(level)
        return web.Response(
            text=f"Logger {logger.name} changed from {before} to {given.upper()}", content_type="text/plain"
        )

    async def metrics(self, request: web.Request) -> web.Response:
        metrics = self._edge.metrics
        metrics.queries_running.set(self._edge.queries.running)
        metrics.queries_waiting.set(self._edge.queries.waiting)
        view = self._control.view()
        metrics.view_version.set(view.version)
        metrics.forget_all_but(view.datasets)
        metrics.shards.clear()
        for name, dataset in view.datasets.items():
            statuses = Counter(entry.status.kind.value for entry in dataset.shard_map.shards)
            for status, count in statuses.items():
                metrics.shards.labels(name, status).set(count)
        body, content_type = metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def build_info(self, request: web.Request) -> web.Response:
        data = {
            "version": PROMETHEUS_VERSION,
            "revision": f"filoray-{self._edge.services.version}",
            "branch": "filoray",
            "buildUser": "",
            "buildDate": "",
            "goVersion": f"python{platform.python_version()}",
        }
        return success(request, data, self._min_compressed_bytes)


def page_policy(page: bytes) -> str:
    """The Content-Security-Policy of a page: its own scripts run, by their hashes, and ask this server only."""
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in re.findall(rb"<script>(.*?)</script>", page, re.DOTALL)
    ]
    return (
        f"default-src 'none'; script-src {' '.join(hashes)}; style-src 'unsafe-inline'; img-src data:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )


def _existing_logger(name: str) -> logging.Logger:
    """Loggers are never forgotten, nor what lies on the way to them: none is made for a name that somebody sends."""
    if name.upper() == "ROOT":
        return logging.getLogger()
    if name not in logging.root.manager.loggerDict:
        raise NotFound(
            f"there is no logger {name[:_NAME_CHARACTERS_MAX]} in this gateway; there are ROOT, filoray, filoray.http, "
            "filoray.http.access and others that its log names"
        )
    return logging.getLogger(name)
