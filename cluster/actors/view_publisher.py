"""Pushes the newest ClusterView to every gateway: at once, coalesced, each gateway at its own pace.

A slow or stopped gateway delays no other: it is waited for once, then counts as lagging until it answers again.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from filoray.cluster.actors.ray_actors import ActorPort
from filoray.cluster.cluster_view import ClusterView

logger = logging.getLogger(__name__)

_PUSH_TIMEOUT_S = 2.0
_RETRY_S = 1.0


@dataclass(slots=True)
class _Gateway:
    acknowledged_version: int = 0
    is_lagging: bool = True
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class ViewPublisher:
    """Belongs to one event loop."""

    def __init__(self, actors: ActorPort) -> None:
        self._actors = actors
        self._view = ClusterView(0)
        self._gateways: dict[str, _Gateway] = {}
        self._progress = asyncio.Event()

    def add(self, gateway: str) -> None:
        """Push to it from now on. One that is not there is tried again with the next view."""
        if gateway not in self._gateways:
            state = self._gateways[gateway] = _Gateway()
            state.task = asyncio.get_running_loop().create_task(self._push_to(gateway, state))

    def publish(self, view: ClusterView) -> None:
        self._view = view
        for state in self._gateways.values():
            state.changed.set()

    async def wait_until_known(self, version: int, timeout_s: float) -> None:
        """Return when every gateway that keeps up has the view ``version``, at the latest after ``timeout_s``."""
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        while any(not state.is_lagging and state.acknowledged_version < version for state in self._gateways.values()):
            remaining_s = deadline_s - asyncio.get_running_loop().time()
            if remaining_s <= 0:
                return
            self._progress.clear()
            try:
                await asyncio.wait_for(self._progress.wait(), remaining_s)
            except TimeoutError:
                return

    def close(self) -> None:
        for state in self._gateways.values():
            if state.task is not None:
                state.task.cancel()

    async def _push_to(self, gateway: str, state: _Gateway) -> None:
        while True:
            await state.changed.wait()
            state.changed.clear()
            view = self._view
            try:
                await self._actors.push_view(gateway, view, _PUSH_TIMEOUT_S)
            except Exception as error:
                if not state.is_lagging:
                    logger.warning(
                        "a gateway took no view gateway=%s version=%d error=%s", gateway, view.version, error
                    )
                state.is_lagging = True
                self._progress.set()
                await asyncio.sleep(_RETRY_S)
                continue
            state.is_lagging = False
            state.acknowledged_version = view.version
            self._progress.set()
