"""The server's configuration: HOCON in, frozen typed dataclasses out, once, at the edge.

``conf/filoray-defaults.conf`` is the one list of keys, defaults and reasons; this file is its typed mirror. A file
given by the operator overrides single keys under ``filoray``; FiloDB's own server files are accepted too, and what
filoray shares with FiloDB (``filodb.spread-default``, ``filodb.dataset-configs``, ``filodb.inline-dataset-configs``)
is honoured. Under ``filoray`` an unknown key is an error; elsewhere it is another program's.
What a dataset's configuration says is left to ``dataset.py``.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from filoray.cluster.addresses import is_loopback
from filoray.cluster.config.config_section import ConfigSection, ConfigSource, merge
from filoray.cluster.config.dataset_limits import DatasetLimits, read_dataset_limits
from filoray.cluster.config.hocon import parse_file, parse_own
from filoray.cluster.config.store_config import Durability, StoreConfig, read_store_config
from filoray.cluster.errors import ConfigError
from filoray.cluster.units import PlainValue

__all__ = [
    "Durability",
    "HttpConfig",
    "InlineDataset",
    "NodeConfig",
    "QueryConfig",
    "SeedConfig",
    "ServerConfig",
    "StoreConfig",
    "SupervisorConfig",
    "WriteConfig",
    "default_server_config",
    "load_server_config",
]

_HIGHEST_PORT = 65_535
_HOST_NAME = re.compile(r"\.?[\w-]+(?:\.[\w-]+)*\.?|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?")

Encryption = Literal["between-machines", "always", "never"]
"""Of the data plane's sockets. ``between-machines``: unless ``host`` says that all nodes are on this machine, where the
sockets are files that only this user can open."""


@dataclass(frozen=True, slots=True)
class HttpConfig:
    host: str
    port: int
    keepalive_timeout_ms: int
    body_timeout_ms: int
    send_timeout_ms: int
    max_pending_bytes: int
    max_unsent_bytes: int
    slow_client_patience_ms: int
    max_client_percent: int
    max_url_bytes: int
    max_header_bytes: int
    shutdown_timeout_ms: int
    min_compressed_bytes: int
    allowed_hosts: tuple[str, ...]
    cors_origin: str
    web_config_file: Path | None
    web_config_check_interval_ms: int
    allow_open: bool
    view_trust_gap_ms: int
    launcher_token_sha256: str | None = None
    """Of the token by which the launcher, and what it starts, prove themselves; no key, made at each launch."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    host: str
    port_base: int
    heartbeat_interval_ms: int
    heartbeat_timeout_ms: int
    start_timeout_ms: int
    restart_backoff_ms: int
    restart_backoff_max_ms: int
    shutdown_timeout_ms: int
    query_threads: int
    max_queued_requests: int
    max_queued_bytes: int
    max_message_bytes: int
    max_connections: int
    stuck_timeout_ms: int
    source_timeout_ms: int
    lease_ms: int
    encryption: Encryption

    @property
    def is_encrypted(self) -> bool:
        return self.encryption == "always" or (self.encryption == "between-machines" and not is_loopback(self.host))


@dataclass(frozen=True, slots=True)
class SeedConfig:
    seed_node_count: int
    form_wait_ms: int
    timeout_ms: int
    stall_timeout_ms: int


@dataclass(frozen=True, slots=True)
class SupervisorConfig:
    check_interval_ms: int
    hang_timeout_ms: int
    actor_hang_timeout_ms: int
    restart_backoff_ms: int
    restart_backoff_max_ms: int
    restarts_max: int
    restarts_period_ms: int


@dataclass(frozen=True, slots=True)
class QueryConfig:
    timeout_ms: int
    lookback_ms: int
    default_step_ms: int
    max_samples: int
    max_series: int
    max_points_per_series: int
    max_result_bytes: int
    max_concurrent: int
    max_waiting: int
    max_concurrent_metadata: int
    max_query_bytes: int
    max_depth: int
    max_terms: int
    max_regex_bytes: int
    label_values_limit: int
    experimental_functions: bool
    duration_expressions: bool
    extended_range_selectors: bool
    delayed_name_removal: bool


@dataclass(frozen=True, slots=True)
class WriteConfig:
    max_body_bytes: int
    max_decoded_bytes: int
    max_label_count: int
    max_label_name_bytes: int
    max_label_value_bytes: int
    timeout_ms: int
    max_concurrent: int
    max_pending_bytes: int
    series_cache_count: int


@dataclass(frozen=True, slots=True)
class InlineDataset:
    """A dataset the server configuration asks for: ``text`` is its source configuration (HOCON or JSON)."""

    name: str
    text: str
    place: str


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Everything one cluster is told at launch. Picklable: actors receive it whole.

    ``meta_store_url`` None: a SQLite file in ``data_dir``. ``column_store_url`` None: the shards' own files.
    """

    cluster_name: str
    data_dir: Path
    default_dataset: str | None
    node_count: int
    min_free_disk_bytes: int
    spread_default: int
    http: HttpConfig
    node: NodeConfig
    seed: SeedConfig
    supervisor: SupervisorConfig
    query: QueryConfig
    write: WriteConfig
    store: StoreConfig
    dataset_limits: DatasetLimits
    datasets: tuple[InlineDataset, ...]
    meta_store_url: str | None
    column_store_url: str | None
    adopt_copy: bool
    recover_datasets: bool

    @property
    def is_bound(self) -> bool:
        """Whether all nodes are on one machine: others would not reach them, or not find the shards' files."""
        return self.column_store_url is None or is_loopback(self.node.host)

    @property
    def lease_ms(self) -> int:
        """What a heartbeat grants a node; 0 where nodes need no lease."""
        return 0 if self.is_bound else self.node.lease_ms

    @property
    def namespace(self) -> str:
        """The Ray namespace that all actors of this cluster share."""
        return f"filoray-{self.cluster_name}"


def load_server_config(path: Path | None, overrides: Mapping[str, str] | None = None) -> ServerConfig:
    """Defaults, then the file at ``path``, then ``overrides`` (``{"http.port": "9090"}``, keys below ``filoray``).

    Raises ConfigError naming key and place: unknown keys, wrong types, sizes, durations, ranges, missing keys.
    """
    defaults = ConfigSource("filoray-defaults.conf", _defaults_text())
    tree = _parsed_defaults()
    sources = [defaults]
    datasets: tuple[InlineDataset, ...] = ()
    if path is not None:
        given = parse_file(path, os.environ)
        source = ConfigSource(str(path), path.read_text("utf-8"))
        tree = merge(tree, _from_filodb_words(given, source))
        datasets = _inline_datasets(given, source)
        sources.insert(0, source)
    if overrides:
        tree = merge(tree, _nested(overrides))
        text = "\n".join(f"{key} = {value}" for key, value in overrides.items())
        sources.insert(0, ConfigSource("override", text))
    root = ConfigSection(tree, "", sources)
    return _read_server(root.section("filoray"), datasets, path.parent if path else Path())


@functools.cache
def default_server_config() -> ServerConfig:
    """The configuration with nothing overridden."""
    return load_server_config(None)


def _read_server(section: ConfigSection, inline: tuple[InlineDataset, ...], config_dir: Path) -> ServerConfig:
    store = section.section("store")
    config = ServerConfig(
        cluster_name=_cluster_name(section),
        data_dir=Path(section.text("data-dir")),
        default_dataset=section.optional_text("default-dataset"),
        node_count=section.integer("node-count", minimum=1, maximum=256),
        min_free_disk_bytes=section.size_bytes("min-free-disk-size"),
        spread_default=section.integer("spread-default", maximum=16),
        http=_read_http(section.section("http"), config_dir),
        node=_read_node(section.section("node")),
        seed=_read_seed(section.section("seed")),
        supervisor=_read_supervisor(section.section("supervisor")),
        query=_read_query(section.section("query")),
        write=_read_write(section.section("write")),
        store=read_store_config(store),
        dataset_limits=read_dataset_limits(section.section("datasets")),
        datasets=inline + _dataset_files(section, config_dir),
        meta_store_url=_database_url(section, "meta-store-url", or_sqlite=True),
        column_store_url=_database_url(section, "column-store-url", or_sqlite=False),
        adopt_copy=section.boolean("adopt-copy"),
        recover_datasets=section.boolean("recover-datasets"),
    )
    store.finish()
    section.finish()
    for name, first in (("http.port", config.http.port), ("node.port-base", config.node.port_base)):
        if first + config.node_count - 1 > _HIGHEST_PORT:
            raise section.error(name, f"{first} leaves no room for {config.node_count} ports")
    if config.node.heartbeat_timeout_ms < 2 * config.node.heartbeat_interval_ms:
        raise section.error("node.heartbeat-timeout", "it must be at least twice node.heartbeat-interval")
    if config.node.lease_ms < config.node.heartbeat_timeout_ms:
        raise section.error("node.lease", "it must be at least node.heartbeat-timeout, or healthy nodes would lose it")
    if config.seed.seed_node_count > config.node_count:
        raise section.error("seed.seed-node-count", f"it cannot be above node-count ({config.node_count})")
    return config


def _database_url(section: ConfigSection, key: str, *, or_sqlite: bool) -> str | None:
    text = section.optional_text(key)
    if text is not None:
        from filoray.cluster.store.postgres import (
            postgres_url,  # SQLAlchemy takes long to import and is rarely needed here
        )

        try:
            postgres_url(text, or_sqlite=or_sqlite)
        except ConfigError as error:
            raise section.error(key, error.message) from None
    return text


def _cluster_name(section: ConfigSection) -> str:
    name = section.text("cluster-name")
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii() or len(name) > 64:
        raise section.error("cluster-name", f"{name!r} may only have letters, digits, - and _, up to 64")
    return name


def _read_http(section: ConfigSection, config_dir: Path) -> HttpConfig:
    config = HttpConfig(
        host=section.text("host"),
        port=section.integer("port", minimum=1, maximum=_HIGHEST_PORT),
        keepalive_timeout_ms=section.duration_ms("keepalive-timeout", minimum=100),
        body_timeout_ms=section.duration_ms("body-timeout", minimum=100),
        send_timeout_ms=section.duration_ms("send-timeout", minimum=100),
        max_pending_bytes=section.size_bytes("max-pending-size", minimum=1),
        max_unsent_bytes=section.size_bytes("max-unsent-size", minimum=1),
        slow_client_patience_ms=section.duration_ms("slow-client-patience", minimum=1),
        max_client_percent=section.integer("max-client-percent", minimum=1, maximum=100),
        max_url_bytes=section.size_bytes("max-url-size", minimum=1024),
        max_header_bytes=section.size_bytes("max-header-size", minimum=1024),
        shutdown_timeout_ms=section.duration_ms("shutdown-timeout"),
        min_compressed_bytes=section.size_bytes("min-compressed-size"),
        allowed_hosts=_host_names(section, "allowed-hosts"),
        cors_origin=_regular_expression(section, "cors-origin"),
        web_config_file=_file(section, "web-config-file", config_dir),
        web_config_check_interval_ms=section.duration_ms("web-config-check-interval", minimum=10),
        allow_open=section.boolean("allow-open"),
        view_trust_gap_ms=section.duration_ms("view-trust-gap", minimum=100),
    )
    section.finish()
    return config


def _host_names(section: ConfigSection, key: str) -> tuple[str, ...]:
    names = section.texts(key)
    for name in names:
        if name != "*" and not _HOST_NAME.fullmatch(name):
            raise section.error(
                key, f'{name!r} is not a host; "db.example.org", ".example.org" (and all below), an address or "*" is'
            )
    return names


def _file(section: ConfigSection, key: str, config_dir: Path) -> Path | None:
    """Looked up from the working directory, then from the configuration's own folder; absolute."""
    text = section.optional_text(key)
    if text is None:
        return None
    found = next((path for path in (Path(text), config_dir / text) if path.is_file()), None)
    if found is None:
        raise section.error(key, f"there is no file {text}")
    return found.resolve()


def _regular_expression(section: ConfigSection, key: str) -> str:
    import re2

    text = section.optional_text(key) or ""
    try:
        re2.compile(text)
    except re2.error as error:
        raise section.error(key, f"{text!r} is not a regular expression: {error}") from None
    return text


def _read_node(section: ConfigSection) -> NodeConfig:
    config = NodeConfig(
        host=section.text("host"),
        port_base=section.integer("port-base", minimum=1, maximum=_HIGHEST_PORT),
        heartbeat_interval_ms=section.duration_ms("heartbeat-interval", minimum=10),
        heartbeat_timeout_ms=section.duration_ms("heartbeat-timeout", minimum=20),
        start_timeout_ms=section.duration_ms("start-timeout", minimum=100),
        restart_backoff_ms=section.duration_ms("restart-backoff", minimum=1),
        restart_backoff_max_ms=section.duration_ms("restart-backoff-max", minimum=1),
        shutdown_timeout_ms=section.duration_ms("shutdown-timeout"),
        query_threads=section.integer("query-threads", minimum=1, maximum=256),
        max_queued_requests=section.integer("max-queued-requests", minimum=1),
        max_queued_bytes=section.size_bytes("max-queued-size", minimum=1),
        max_message_bytes=section.size_bytes("max-message-size", minimum=1 << 20),
        max_connections=section.integer("max-connections", minimum=1),
        source_timeout_ms=section.duration_ms("source-timeout", minimum=100),
        stuck_timeout_ms=section.duration_ms("stuck-timeout", minimum=1000),
        lease_ms=section.duration_ms("lease", minimum=1000),
        encryption=cast(Encryption, section.choice("encryption", get_args(Encryption))),
    )
    if config.encryption == "never" and not is_loopback(config.host):
        raise section.error(
            "encryption",
            f"never, with host = {config.host!r}, would let whoever reaches a node's port read and write; "
            "between-machines encrypts and asks for keys, host = 127.0.0.1 keeps to this machine",
        )
    section.finish()
    return config


def _read_seed(section: ConfigSection) -> SeedConfig:
    config = SeedConfig(
        seed_node_count=section.integer("seed-node-count", minimum=1),
        form_wait_ms=section.duration_ms("form-wait"),
        timeout_ms=section.duration_ms("timeout", minimum=100),
        stall_timeout_ms=section.duration_ms("stall-timeout", minimum=100),
    )
    section.finish()
    return config


def _read_supervisor(section: ConfigSection) -> SupervisorConfig:
    config = SupervisorConfig(
        check_interval_ms=section.duration_ms("check-interval", minimum=10),
        hang_timeout_ms=section.duration_ms("hang-timeout", minimum=2000),
        actor_hang_timeout_ms=section.duration_ms("actor-hang-timeout", minimum=2000),
        restart_backoff_ms=section.duration_ms("restart-backoff", minimum=1),
        restart_backoff_max_ms=section.duration_ms("restart-backoff-max", minimum=1),
        restarts_max=section.integer("restarts-max", minimum=1),
        restarts_period_ms=section.duration_ms("restarts-period", minimum=1000),
    )
    section.finish()
    return config


def _read_query(section: ConfigSection) -> QueryConfig:
    config = QueryConfig(
        timeout_ms=section.duration_ms("timeout", minimum=1),
        lookback_ms=section.duration_ms("lookback", minimum=1),
        default_step_ms=section.duration_ms("default-step", minimum=1),
        max_samples=section.integer("max-samples", minimum=1),
        max_series=section.integer("max-series", minimum=1),
        max_points_per_series=section.integer("max-points-per-series", minimum=1),
        max_result_bytes=section.size_bytes("max-result-size", minimum=1024),
        max_concurrent=section.integer("max-concurrent", minimum=1),
        max_concurrent_metadata=section.integer("max-concurrent-metadata", minimum=1),
        max_waiting=section.integer("max-waiting"),
        max_query_bytes=section.size_bytes("max-query-size", minimum=1),
        max_depth=section.integer("max-depth", minimum=1, maximum=500),
        max_terms=section.integer("max-terms", minimum=1),
        max_regex_bytes=section.size_bytes("max-regex-size", minimum=1_048_576),
        label_values_limit=section.integer("label-values-limit"),
        experimental_functions=section.boolean("experimental-functions"),
        duration_expressions=section.boolean("duration-expressions"),
        extended_range_selectors=section.boolean("extended-range-selectors"),
        delayed_name_removal=section.boolean("delayed-name-removal"),
    )
    section.finish()
    return config


def _read_write(section: ConfigSection) -> WriteConfig:
    config = WriteConfig(
        max_body_bytes=section.size_bytes("max-body-size", minimum=1),
        max_decoded_bytes=section.size_bytes("max-decoded-size", minimum=1),
        max_label_count=section.integer("max-label-count", minimum=1),
        max_label_name_bytes=section.size_bytes("max-label-name-size", minimum=1, maximum=_HIGHEST_PORT),
        max_label_value_bytes=section.size_bytes("max-label-value-size", minimum=1, maximum=_HIGHEST_PORT),
        timeout_ms=section.duration_ms("timeout", minimum=1),
        max_concurrent=section.integer("max-concurrent", minimum=1),
        max_pending_bytes=section.size_bytes("max-pending-size", minimum=1),
        series_cache_count=section.integer("series-cache-count"),
    )
    section.finish()
    return config


def _from_filodb_words(given: Mapping[str, PlainValue], source: ConfigSource) -> dict[str, PlainValue]:
    """The ``filoray`` block of a file, with what FiloDB's own keys say where it is silent."""
    ours = given.get("filoray", {})
    if not isinstance(ours, dict):
        raise ConfigSection(given, "", [source]).error("filoray", "it must be a block of keys { … }")
    theirs = given.get("filodb", {})
    shared = ("spread-default", "dataset-configs")
    words = {key: theirs[key] for key in shared if key in theirs} if isinstance(theirs, dict) else {}
    return {"filoray": merge(words, ours)}


def _inline_datasets(given: Mapping[str, PlainValue], source: ConfigSource) -> tuple[InlineDataset, ...]:
    """FiloDB's ``filodb.inline-dataset-configs``: a list of whole source configurations."""
    filodb = given.get("filodb")
    blocks = filodb.get("inline-dataset-configs", []) if isinstance(filodb, dict) else []
    section = ConfigSection(given, "", [source])
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise section.error("filodb.inline-dataset-configs", "it must be a list of source configurations")
    return tuple(
        InlineDataset(str(block.get("dataset", "")), json.dumps(block), source.name)
        for block in blocks
        if isinstance(block, dict)
    )


def _dataset_files(section: ConfigSection, config_dir: Path) -> tuple[InlineDataset, ...]:
    """Paths are looked up from the working directory (as FiloDB does), then from the configuration's own folder."""
    paths = section.raw("dataset-configs")
    if not isinstance(paths, list):
        raise section.error("dataset-configs", "it must be a list of file names")
    found = []
    for name in map(str, paths):
        path = next((path for path in (Path(name), config_dir / name) if path.is_file()), None)
        if path is None:
            raise section.error("dataset-configs", f"there is no file {name}")
        values = parse_file(path, os.environ)
        found.append(InlineDataset(str(values.get("dataset", "")), json.dumps(values), str(path)))
    return tuple(found)


def _nested(overrides: Mapping[str, str]) -> dict[str, PlainValue]:
    tree: dict[str, PlainValue] = {}
    for key, value in overrides.items():
        branch = _override(key, value)
        for part in reversed(["filoray", *key.removeprefix("filoray.").split(".")]):
            branch = {part: branch}
        assert isinstance(branch, dict)
        tree = merge(tree, branch)
    return tree


def _override(key: str, value: str) -> PlainValue:
    """A text is taken as it is, quotes or not (a URL's signs would be HOCON's); lists and blocks are HOCON."""
    if value == "null":
        return None
    return parse_own(f"value = {value}", f"override {key}")["value"] if value[:1] in ("[", "{") else value


@functools.cache
def _parsed_defaults() -> dict[str, PlainValue]:
    return parse_own(_defaults_text(), "filoray-defaults.conf")


@functools.cache
def _defaults_text() -> str:
    return shipped_config_text("filoray-defaults.conf")


def shipped_config_text(name: str) -> str:
    """A file of ``conf/``: the repository's where the code runs in place, else the installed package's."""
    beside = Path(__file__).resolve().parents[2] / "conf" / name
    if beside.is_file():
        return beside.read_text("utf-8")
    return importlib.resources.files("filoray.conf").joinpath(name).read_text("utf-8")
