"""filoray's own metrics of one gateway, as ``/metrics`` shows them. No others: no process or platform collectors."""

from __future__ import annotations

from collections.abc import Container

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from filoray.http.access.web_config_file import WebConfigFile

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class GatewayMetrics:
    """One registry per gateway, so that several can live in one process (as in tests)."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "filoray_http_requests",
            "Requests answered, by route and status.",
            ["method", "route", "code"],
            registry=self.registry,
        )
        self.duration = Histogram(
            "filoray_http_request_duration_seconds",
            "From a request's head to the end of its answer.",
            ["route"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self.in_flight = Gauge("filoray_http_requests_in_flight", "Requests being answered.", registry=self.registry)
        self.queries_running = Gauge("filoray_queries_running", "Queries that run now.", registry=self.registry)
        self.queries_waiting = Gauge("filoray_queries_waiting", "Queries waiting to run.", registry=self.registry)
        self.result_points = Counter("filoray_query_result_points", "Points in answers.", registry=self.registry)
        self.samples_written = Counter(
            "filoray_samples_written", "Samples acknowledged as durable.", ["dataset"], registry=self.registry
        )
        self.samples_refused = Counter(
            "filoray_samples_refused", "Samples not stored.", ["dataset", "reason"], registry=self.registry
        )
        self.write_bytes = Counter(
            "filoray_write_body_bytes", "Compressed bytes of remote write bodies.", ["dataset"], registry=self.registry
        )
        self.view_version = Gauge(
            "filoray_cluster_view_version",
            "Version of the cluster view this gateway routes by.",
            registry=self.registry,
        )
        self.shards = Gauge(
            "filoray_shards", "Shards by status in this gateway's view.", ["dataset", "status"], registry=self.registry
        )
        self.web_config_right = Gauge(
            "filoray_web_config_last_reload_successful",
            "Whether the web configuration was right when it was read last.",
            registry=self.registry,
        )
        self.web_config_read = Gauge(
            "filoray_web_config_last_reload_success_timestamp_seconds",
            "When a web configuration that is right was read last.",
            registry=self.registry,
        )
        build = Gauge("filoray_build_info", "1, labelled with the version.", ["version"], registry=self.registry)
        build.labels(version).set(1)

    def forget_all_but(self, datasets: Container[str]) -> None:
        """Drop the figures of datasets that are gone: their names would have no end."""
        for counter, names in (
            (self.samples_written, ("dataset",)),
            (self.samples_refused, ("dataset", "reason")),
            (self.write_bytes, ("dataset",)),
        ):
            (family,) = counter.collect()
            for values in {tuple(sample.labels[name] for name in names) for sample in family.samples}:
                if values[0] not in datasets:
                    counter.remove(*values)

    def follow(self, access_file: WebConfigFile) -> None:
        self.web_config_right.set_function(lambda: float(access_file.last_reload_right))
        self.web_config_read.set_function(lambda: access_file.last_reload_s)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The text and its content type, in the format that the Accept header prefers."""
        encoder, content_type = prometheus_client.exposition.choose_encoder(accept)
        return encoder(self.registry), content_type
