"""Damage is told in every kind of answer, from a shard's file to what a gateway's routes are given."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from in_process_node import InProcessNode
from shards import container

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.cluster_view import ClusterView, DatasetView, NodeInfo
from filoray.cluster.config.dataset import parse_dataset_config
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.shard_map import ShardEntry, ShardMap
from filoray.cluster.control.shard_status import IngestionStarted, ShardStatus, StatusKind
from filoray.http.fanout.metadata_service import FanOutMetadataService
from filoray.http.fanout.query_service import FanOutQueryService
from filoray.http.fanout.requests import MetadataRequest, QueryRequest
from filoray.http.fanout.view_holder import ViewHolder
from filoray.nodes.host.request_handler import RequestHandler
from filoray.nodes.host.shard_host import ShardHost
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.shard_spec import ShardSpec

CONFIG = parse_dataset_config(
    orjson.dumps({
        "dataset": "d", "num-shards": 1, "min-num-nodes": 1, "sourceconfig": {},
        "sourcefactory": "filoray.nodes.streams.LogStreamFactory",
    }).decode(),
    "d",
)  # fmt: skip


@pytest.fixture
def services(tmp_path: Path) -> Iterator[tuple[FanOutQueryService, FanOutMetadataService]]:
    """Over a shard with a damaged row of part keys: the series "hidden" is not in it any more."""
    path = tmp_path / "d" / "shard-0.db"
    shard = Shard.open(ShardSpec("d", 0, 1, path, CONFIG.store))
    for name in ("seen", "hidden"):
        shard.append([container([({"__name__": name}, [(1_000, 1.0)])])])
    shard.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE part_keys SET data = CAST(data || x'00' AS BLOB) WHERE row_id = 2")
    is_open = threading.Event()

    def report(dataset: str, number: int, epoch: int, event: object) -> None:
        if isinstance(event, IngestionStarted):
            is_open.set()

    host = ShardHost("node-0", tmp_path, report)
    host.start_shards(CONFIG, [(0, 2)])
    assert is_open.wait(20)
    server_config = default_server_config()
    handler = RequestHandler(host, server_config, incarnation=1)
    client = InProcessNode(handler)
    views = ViewHolder(ClusterView(0), lambda info: client)
    entries = (ShardEntry(0, ShardStatus(StatusKind.ACTIVE), "node-0", 2),)
    node = NodeInfo("node-0", 1, NodeAddress("127.0.0.1", 1), "node-0#1", 1)
    views.update(ClusterView(1, {"node-0": node}, {"d": DatasetView(CONFIG, ShardMap("d", 1, entries))}))
    query = server_config.query
    yield FanOutQueryService(views, query), FanOutMetadataService(views, query, "node-0")
    handler.close()
    host.close()


def test_every_kind_of_answer_warns_of_damage(services: tuple[FanOutQueryService, FanOutMetadataService]) -> None:
    queries, metadata = services
    asked = MetadataRequest("d", [], 0, 10_000)
    limited = dataclasses.replace(asked, limit=1)

    async def ask() -> dict[str, tuple[str, ...]]:
        query = await queries.query(QueryRequest("d", "count({__name__=~'.+'})", 2_000, 2_000, 0, is_range=False))
        answers = {
            "series": await metadata.series(asked),
            "labels": await metadata.label_names(asked),
            "values": await metadata.label_values("__name__", asked),
            "limited values": await metadata.label_values("__name__", limited),
            "local values": await metadata.local_label_values("__name__", asked),
            "raw": await metadata.read_raw(dataclasses.replace(asked, selectors=[()])),
        }
        assert list(answers["values"].values) == ["seen"]  # type: ignore[union-attr]
        return {"query": query.warnings, **{name: answer.warnings for name, answer in answers.items()}}

    for name, warnings in asyncio.run(ask()).items():
        assert len([text for text in warnings if "part keys of row 2: checksum does not match" in text]) == 1, name
