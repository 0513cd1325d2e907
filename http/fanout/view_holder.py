"""The last ClusterView a gateway was sent, the clients of its nodes, and waiting for a newer one.

Everything here belongs to one event loop. The view outlives the coordinator: queries and writes go on by
it, and a node that refuses a route makes its sender wait for the next view.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from filoray.cluster.cluster_view import ClusterView, DatasetView, NodeInfo, newest_view
from filoray.cluster.errors import DatasetUnknown, StaleRoute
from filoray.nodes.wire.node_client import NodeClient

ClientFactory = Callable[[NodeInfo], NodeClient]


class ViewHolder:
    """``client_factory`` connects to a node incarnation; clients live as long as the view names it."""

    def __init__(self, view: ClusterView, client_factory: ClientFactory) -> None:
        self._view = view
        self._client_factory = client_factory
        self._clients: dict[str, tuple[int, NodeClient]] = {}
        self._changed = asyncio.Event()
        self._ask_anew: Callable[[], None] | None = None
        self._listeners: list[Callable[[ClusterView], None]] = []

    @property
    def view(self) -> ClusterView:
        return self._view

    def ask_anew_with(self, ask: Callable[[], None]) -> None:
        """``ask`` is called when a node refused a route: it may fetch the coordinator's view in the background."""
        self._ask_anew = ask

    def on_update(self, listener: Callable[[ClusterView], None]) -> None:
        """``listener`` is called with every newer view, for what is kept by data set and must go with it."""
        self._listeners.append(listener)

    def dataset(self, name: str) -> DatasetView:
        """Raises DatasetUnknown."""
        dataset = self._view.datasets.get(name)
        if dataset is None:
            raise DatasetUnknown(name)
        return dataset

    def client(self, node: str) -> NodeClient:
        """Raises StaleRoute if the view does not know the node."""
        info = self._view.nodes.get(node)
        if info is None:
            raise StaleRoute(f"node {node} is not a member")
        known = self._clients.get(node)
        if known is not None and known[0] == info.incarnation:
            return known[1]
        if known is not None:
            known[1].close()
        client = self._client_factory(info)
        self._clients[node] = (info.incarnation, client)
        return client

    def update(self, view: ClusterView) -> None:
        """Take a newer view; an older one (``newest_view`` in ``cluster_view.py``) is ignored."""
        if newest_view(self._view, view) is self._view:
            return
        self._view = view
        for node, (incarnation, client) in list(self._clients.items()):
            info = view.nodes.get(node)
            if info is None or info.incarnation != incarnation:
                client.close()
                del self._clients[node]
        for listener in self._listeners:
            listener(view)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def newer_than(self, version: int, timeout_s: float, *, asks: bool = True) -> bool:
        """Wait until the view is newer than ``version``; False if that did not happen in time.

        ``asks``: have the coordinator asked for its view, as this one seems to be wrong.
        """
        if self._view.version > version:
            return True
        if asks and self._ask_anew is not None:
            self._ask_anew()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._view.version <= version:
                    await self._changed.wait()
        return self._view.version > version

    def close(self) -> None:
        for _, client in self._clients.values():
            client.close()
        self._clients.clear()
