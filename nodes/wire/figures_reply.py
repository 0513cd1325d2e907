"""A node's answer to FIGURES: its NodeFigures as arrays of plain values, each record's fields in their order."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from filoray.cluster.process.process_figures import ProcessFigures
from filoray.nodes.data.node_figures import NodeFigures, RequestFigures, ShardFigures
from filoray.nodes.wire.field_checks import items
from filoray.nodes.wire.protocol import SHARDS_MAX


def encode_node_figures(figures: NodeFigures) -> list[Any]:
    return [
        figures.incarnation,
        _row(figures.process),
        _row(figures.requests),
        figures.ingest_queue,
        [_row(shard) for shard in figures.shards],
    ]


def decode_node_figures(body: object) -> NodeFigures:
    """The inverse. Raises BadData for what has another shape; what is in it is taken as it is."""
    incarnation, process, requests, ingest_queue, shards = items(body, "a node's figures", 5, exactly=5)
    return NodeFigures(
        incarnation,
        ProcessFigures(*_fields_of(ProcessFigures, process)),
        RequestFigures(*_fields_of(RequestFigures, requests)),
        ingest_queue,
        tuple([ShardFigures(*_fields_of(ShardFigures, shard)) for shard in items(shards, "shards", SHARDS_MAX)]),
    )


def _row(record: ProcessFigures | RequestFigures | ShardFigures) -> list[Any]:
    return [getattr(record, field.name) for field in fields(record)]


def _fields_of(kind: type[ProcessFigures | RequestFigures | ShardFigures], plain: object) -> list[Any]:
    count = len(fields(kind))
    return items(plain, kind.__name__, count, exactly=count)
