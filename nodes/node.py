"""The node actor: a thin shell that joins the shard host, the data-plane server and the coordinator's orders.

One process of it is one incarnation. It never decides who owns a shard; it holds what it is told to hold
and says what becomes of it.
"""

from __future__ import annotations

import logging
import threading

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.config import ServerConfig
from filoray.cluster.node_protocol import ShardReport
from filoray.nodes.request_handler import RequestHandler
from filoray.nodes.shard_host import ShardHost
from filoray.nodes.transport import TransportServer

logger = logging.getLogger(__name__)


class Node:
    """Made by the coordinator, which names it, watches it and replaces it when it dies."""

    def __init__(self, name: str, incarnation: int, config: ServerConfig, port: int) -> None:
        self._name = name
        self._incarnation = incarnation
        self._config = config
        self._reports: list[ShardReport] = []
        self._reports_changed = threading.Condition()
        self._address = NodeAddress(config.node.host, port)
        self._host = ShardHost(config.data_dir, self._report)
        self._handler = RequestHandler(self._host, config, incarnation)
        self._server = TransportServer(config.node.host, port, self._handler.dispatch)
