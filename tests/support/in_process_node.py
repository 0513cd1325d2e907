"""A node's transport and a gateway's client in one process: frames go through the same encodings, and no socket."""

from __future__ import annotations

import asyncio
from typing import Any

from filoray.nodes.host.request_handler import RequestHandler
from filoray.nodes.wire.node_client import Reply
from filoray.nodes.wire.protocol import Frames, Kind, ReplyHeader, RequestHeader
from filoray.nodes.wire.transport import Responder


class InProcessNode:
    """NodeClient over a RequestHandler."""

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler
        self._waiting: dict[int, asyncio.Future[Reply]] = {}

    async def request(
        self, kind: Kind, dataset: str, shards: Any, timeout_ms: int, body: Any = None, frames: Frames | None = None
    ) -> Reply:
        number = len(self._waiting) + 1
        self._waiting[number] = asyncio.get_running_loop().create_future()
        header = RequestHeader.decode(RequestHeader(number, kind, 1, dataset, shards, timeout_ms, body).encode())
        self._handler.dispatch(header, frames or [], Responder(self, b"gateway", number))  # type: ignore[arg-type]
        return await self._waiting[number]

    def check_size(self, frames: Frames) -> None:
        """Any will do."""

    def send(self, identity: bytes, frames: Frames) -> None:
        header = ReplyHeader.decode(bytes(frames[0]))
        future = self._waiting[header.request_id]
        future.get_loop().call_soon_threadsafe(self._settle, future, header, frames[1:])

    def _settle(self, future: asyncio.Future[Reply], header: ReplyHeader, frames: Frames) -> None:
        try:
            header.raise_error()
            future.set_result(Reply(header.body, frames))
        except Exception as error:
            future.set_exception(error)

    def close(self) -> None:
        pass
