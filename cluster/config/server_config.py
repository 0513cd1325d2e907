"""The server's configuration: HOCON in, frozen typed dataclasses out, once, at the edge.

``conf/filoray-defaults.conf`` is the one list of defaults and reasons; what each key is stands at the field that holds
its value, here and in ``http_config.py``, ``node_config.py`` and so on (``setting.py`` tells how). A file given by the
operator overrides single keys under ``filoray``; FiloDB's own server files are accepted too, and what filoray shares
with FiloDB (``filodb.spread-default``, ``filodb.dataset-configs``, ``filodb.inline-dataset-configs``) is honoured.
Under ``filoray`` an unknown key is an error; elsewhere it is another program's.
What a dataset's configuration says is left to ``dataset.py``.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from filoray.cluster.actor_names import COORDINATOR, COORDINATORS
from filoray.cluster.addresses import HIGHEST_PORT, is_loopback
from filoray.cluster.config.config_section import ConfigSection, ConfigSource, merge
from filoray.cluster.config.dataset_limits import DatasetLimits
from filoray.cluster.config.hocon import parse_file, parse_own
from filoray.cluster.config.http_config import HttpConfig
from filoray.cluster.config.launch_config import BalanceConfig, SeedConfig, SupervisorConfig
from filoray.cluster.config.node_config import NodeConfig
from filoray.cluster.config.request_config import QueryConfig, WriteConfig
from filoray.cluster.config.setting import Duration, Flag, Integer, Nested, Size, Text, read_settings
from filoray.cluster.config.shipped_files import shipped_config_text
from filoray.cluster.config.store_config import StoreConfig
from filoray.cluster.errors import ConfigError
from filoray.cluster.units import PlainValue

NODES_MAX = 256

_DEFAULTS_FILE = "filoray-defaults.conf"


@dataclass(frozen=True, slots=True)
class InlineDataset:
    """A dataset the server configuration asks for: ``text`` is its source configuration (HOCON or JSON)."""

    name: str
    text: str
    place: str


@dataclass(frozen=True, slots=True)
class _DatasetFiles:
    """A list of files, each the source configuration of a dataset."""

    key: str

    def read(self, section: ConfigSection) -> tuple[InlineDataset, ...]:
        names = section.raw(self.key)
        if not isinstance(names, list):
            raise section.error(self.key, "it must be a list of file names")
        found = []
        for name in map(str, names):
            path = section.file(self.key, name)
            values = parse_file(path, os.environ)
            found.append(InlineDataset(str(values.get("dataset", "")), json.dumps(values), str(path)))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class _DatabaseUrl:
    """A SQLAlchemy URL of a database that we have tables for; None where not given. ``or_sqlite``: SQLite too."""

    key: str
    or_sqlite: bool

    def read(self, section: ConfigSection) -> str | None:
        text = section.optional_text(self.key)
        if text is not None:
            # SQLAlchemy takes long to import and is rarely needed here.
            from filoray.cluster.store.postgres import postgres_url

            try:
                postgres_url(text, or_sqlite=self.or_sqlite)
            except ConfigError as error:
                raise section.error(self.key, error.message) from None
        return text


def _cluster_name_problem(name: str) -> str | None:
    if name.replace("-", "").replace("_", "").isalnum() and name.isascii() and len(name) <= 64:
        return None
    return f"{name!r} may only have letters, digits, - and _, up to 64"


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Everything one cluster is told at launch. Picklable: actors receive it whole.

    ``meta_store_url`` None: a SQLite file in ``data_dir``. ``column_store_url`` None: the shards' own files.
    """

    cluster_name: Annotated[str, Text("cluster-name", _cluster_name_problem)]
    data_dir: Annotated[Path, Text("data-dir", convert=Path)]
    default_dataset: Annotated[str | None, Text("default-dataset", is_optional=True)]
    node_count: Annotated[int, Integer("node-count", minimum=1, maximum=NODES_MAX)]
    min_free_disk_bytes: Annotated[int, Size("min-free-disk-size")]
    spread_default: Annotated[int, Integer("spread-default", maximum=16)]
    http: Annotated[HttpConfig, Nested("http")]
    node: Annotated[NodeConfig, Nested("node")]
    seed: Annotated[SeedConfig, Nested("seed")]
    balance: Annotated[BalanceConfig, Nested("balance")]
    supervisor: Annotated[SupervisorConfig, Nested("supervisor")]
    query: Annotated[QueryConfig, Nested("query")]
    write: Annotated[WriteConfig, Nested("write")]
    store: Annotated[StoreConfig, Nested("store")]
    dataset_limits: Annotated[DatasetLimits, Nested("datasets")]
    datasets: Annotated[tuple[InlineDataset, ...], _DatasetFiles("dataset-configs")]
    meta_store_url: Annotated[str | None, _DatabaseUrl("meta-store-url", or_sqlite=True)]
    column_store_url: Annotated[str | None, _DatabaseUrl("column-store-url", or_sqlite=False)]
    coordinator_lease_ms: Annotated[int, Duration("coordinator-lease", minimum=1000)]
    adopt_copy: Annotated[bool, Flag("adopt-copy")]
    recover_datasets: Annotated[bool, Flag("recover-datasets")]

    @property
    def is_bound(self) -> bool:
        """Whether all nodes are on one machine: others would not reach them, or not find the shards' files."""
        has_one_disk = self.column_store_url is None and not self.node.is_spread_over_machines
        return has_one_disk or is_loopback(self.node.host)

    @property
    def keeps_nodes_at_home(self) -> bool:
        """Whether nodes are on many machines, and each on its own for good: there are its files, and nowhere else."""
        return self.column_store_url is None and not self.is_bound

    @property
    def lease_ms(self) -> int:
        """What a heartbeat grants a node; 0 where nodes need no lease."""
        return 0 if self.is_bound else self.node.lease_ms

    @property
    def has_standby(self) -> bool:
        """Whether a second coordinator, on another machine, stands by: both must reach the store."""
        return not self.is_bound and self.meta_store_url is not None and not self.meta_store_url.startswith("sqlite")

    @property
    def coordinators(self) -> tuple[str, ...]:
        """The names of their actors."""
        return COORDINATORS if self.has_standby else (COORDINATOR,)

    @property
    def store_name(self) -> str:
        """The key that says where the coordinator's store is."""
        return "filoray.meta-store-url" if self.meta_store_url is not None else "filoray.data-dir"

    @property
    def namespace(self) -> str:
        """The Ray namespace that all actors of this cluster share."""
        return f"filoray-{self.cluster_name}"

    def check(self, section: ConfigSection) -> None:
        for name, first in (("http.port", self.http.port), ("node.port-base", self.node.port_base)):
            if first + self.node_count - 1 > HIGHEST_PORT:
                raise section.error(name, f"{first} leaves no room for {self.node_count} ports")
        if self.node.is_spread_over_machines and self.column_store_url is not None:
            raise section.error(
                "node.spread-over-machines",
                "with column-store-url the shards are in a database and nodes on any machine; leave one of them out",
            )
        if self.seed.seed_node_count > self.node_count:
            raise section.error("seed.seed-node-count", f"it cannot be above node-count ({self.node_count})")


def load_server_config(path: Path | None, overrides: Mapping[str, str] | None = None) -> ServerConfig:
    """Defaults, then the file at ``path``, then ``overrides`` (``{"http.port": "9090"}``, keys below ``filoray``).

    Raises ConfigError naming key and place: unknown keys, wrong types, sizes, durations, ranges, missing keys.
    """
    defaults = ConfigSource(_DEFAULTS_FILE, shipped_config_text(_DEFAULTS_FILE))
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
    root = ConfigSection(tree, "", sources, path.parent if path else Path())
    config = read_settings(ServerConfig, root.section("filoray"))
    return replace(config, datasets=datasets + config.datasets)


@functools.cache
def default_server_config() -> ServerConfig:
    """The configuration with nothing overridden."""
    return load_server_config(None)


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
    return parse_own(shipped_config_text(_DEFAULTS_FILE), _DEFAULTS_FILE)
