"""What the routes work with: the services behind the edge, and the edge's own gates and figures.

Routes know protocols only (``filoray.http.fanout.requests``), so that tests run them over in-process services.
"""

from __future__ import annotations

from dataclasses import dataclass

from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.process.process_figures import OwnProcess
from filoray.http.fanout.cluster_figures import GatewayFigures
from filoray.http.fanout.figures_service import FiguresOfCluster
from filoray.http.fanout.requests import ClusterControl, MetadataService, QueryService, WriteService
from filoray.http.remote.remote_write import RemoteWriteDecoder
from filoray.http.server.admission import AdmissionGate, ClientShare
from filoray.http.server.byte_budgets import ByteBudget, UnsentBudget
from filoray.http.server.own_metrics import GatewayMetrics
from filoray.nodes.promql.options import ParserOptions


@dataclass(frozen=True, slots=True)
class GatewayServices:
    """Everything behind one gateway. ``node_name``: the node beside it."""

    query: QueryService
    metadata: MetadataService
    write: WriteService
    control: ClusterControl
    config: ServerConfig
    remote_write_decoder: RemoteWriteDecoder
    figures: FiguresOfCluster
    gateway_name: str = "gateway-0"
    node_name: str = "node-0"
    version: str = "0"


class Edge:
    """The services, and what bounds and counts the requests to them; one for each application.

    ``url``: where others find it, once it serves.
    """

    def __init__(self, services: GatewayServices) -> None:
        self.url = ""
        self.services = services
        self.config = config = services.config
        self.metrics = GatewayMetrics(services.version)
        share = ClientShare(config.http.max_client_percent)
        query, write = config.query, config.write
        self.queries = AdmissionGate(
            "queries", query.max_concurrent, query.max_waiting, "filoray.query.max-concurrent", share
        )
        self.metadata = AdmissionGate(
            "metadata requests",
            query.max_concurrent_metadata,
            query.max_waiting,
            "filoray.query.max-concurrent-metadata",
            share,
        )
        # Writers have their own queues and retry: whoever comes waits as long as an acknowledgement may take.
        self.writes = AdmissionGate("writes", write.max_concurrent, 10_000, "filoray.write.max-concurrent", share)
        self.pending_writes = ByteBudget(write.max_pending_bytes, "filoray.write.max-pending-size", share)
        self.pending_bodies = ByteBudget(config.http.max_pending_bytes, "filoray.http.max-pending-size", share)
        self.unsent = UnsentBudget(
            config.http.max_unsent_bytes, "filoray.http.max-unsent-size", config.http.slow_client_patience_ms, share
        )
        self.parser_options = ParserOptions.of_config(config.query)
        self._process = OwnProcess()

    def figures(self) -> GatewayFigures:
        """On any thread."""
        queries = self.queries
        return GatewayFigures(self.url, self._process.figures(), queries.ended, queries.running, queries.waiting)

    @property
    def form_bytes_max(self) -> int:
        """The longest form that can hold a query: each of its bytes may take three."""
        return 3 * self.config.query.max_query_bytes + 64 * 1024
