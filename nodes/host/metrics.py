"""What a node counts and measures of itself, put together when somebody asks: see ``nodes.data.node_figures``.

Counting is done where things happen (shards, the request handler, streams) and costs an addition there; what must be
looked up, such as memory, is looked up here.
"""

from __future__ import annotations

from filoray.cluster.process.process_figures import OwnProcess
from filoray.nodes.data.node_figures import NodeFigures, RequestFigures
from filoray.nodes.host.shard_host import ShardHost


class NodeMetrics:
    """Of one incarnation, which begins with this."""

    def __init__(self, host: ShardHost, incarnation: int) -> None:
        self._host = host
        self._incarnation = incarnation
        self._process = OwnProcess()

    def figures(self, requests: RequestFigures) -> NodeFigures:
        """``requests``: the handler's."""
        host = self._host
        return NodeFigures(
            self._incarnation,
            self._process.figures(),
            requests,
            host.threads.queued(),
            host.shards.figures(),
            host.followers.figures(),
        )
