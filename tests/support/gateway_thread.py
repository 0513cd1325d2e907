"""An in-process gateway beside tests that are not asynchronous: those that drive other programs."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from in_process_gateway import Gateways


class GatewayThread:
    """Has a thread and an event loop of its own. ``api``: what the test tells it to say, and what it was asked."""

    def __init__(self, *datasets: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._gateways = Gateways()
        starting = self._gateways.start(*datasets, **options)
        self.api = asyncio.run_coroutine_threadsafe(starting, self._loop).result(30)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._gateways.stop(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
