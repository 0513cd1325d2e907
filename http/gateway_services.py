"""What the routes work with: the services behind the edge, and the edge's own gates and figures.

Routes know protocols only (``filoray.nodes.requests``), so that tests run them over in-process services.
"""

from __future__ import annotations

from dataclasses import dataclass

from filoray.cluster.config import ServerConfig
from filoray.http.admission import AdmissionGate, ByteBudget
from filoray.http.own_metrics import GatewayMetrics
from filoray.http.remote_write import RemoteWriteDecoder
from filoray.nodes.promql.options import ParserOptions
from filoray.nodes.requests import ClusterControl, QueryService, WriteService


@dataclass(frozen=True, slots=True)
class GatewayServices:
    """Everything behind one gateway. ``node_name``: the node beside it."""

    query: QueryService
    write: WriteService
    control: ClusterControl
    config: ServerConfig
    remote_write_decoder: RemoteWriteDecoder
    gateway_name: str = "gateway-0"
    node_name: str = "node-0"
    version: str = "0"


class Edge:
    """The services, and what bounds and counts the requests to them; one for each application."""

    def __init__(self, services: GatewayServices) -> None:
        self.services = services
        self.config = config = services.config
        self.metrics = GatewayMetrics(services.version)
        self.queries = AdmissionGate(
            "queries", config.query.max_concurrent, config.query.max_waiting, "filoray.query.max-concurrent"
        )
        # Writers have their own queues and retry: whoever comes waits as long as an acknowledgement may take.
        self.writes = AdmissionGate("writes", config.write.max_concurrent, 10_000, "filoray.write.max-concurrent")
        self.pending_writes = ByteBudget(config.write.max_pending_bytes, "filoray.write.max-pending-size")
        self.parser_options = ParserOptions.of_config(config.query)

    @property
    def form_bytes_max(self) -> int:
        """The longest form that can hold a query: each of its bytes may take three."""
        return 3 * self.config.query.max_query_bytes + 64 * 1024
