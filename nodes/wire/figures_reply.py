"""A node's answer to FIGURES: its NodeFigures as arrays of plain values, each record's fields in their order."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from filoray.cluster.process.process_figures import ProcessFigures
from filoray.nodes.data.node_figures import CopyFigures, FollowerFigures, NodeFigures, RequestFigures, ShardFigures
from filoray.nodes.wire.field_checks import items
from filoray.nodes.wire.protocol import SHARDS_MAX


def encode_node_figures(figures: NodeFigures) -> list[Any]:
    return [
        figures.incarnation,
        _row(figures.process),
        _row(figures.requests),
        figures.ingest_queue,
        [[*_row(shard)[:-1], [_row(follower) for follower in shard.followers]] for shard in figures.shards],
        [_row(copy) for copy in figures.copies],
    ]


def decode_node_figures(body: object) -> NodeFigures:
    """The inverse. Raises BadData for what has another shape; what is in it is taken as it is."""
    incarnation, process, requests, ingest_queue, shards, copies = items(body, "a node's figures", 6, exactly=6)
    return NodeFigures(
        incarnation,
        ProcessFigures(*_fields_of(ProcessFigures, process)),
        RequestFigures(*_fields_of(RequestFigures, requests)),
        ingest_queue,
        tuple([_shard(shard) for shard in items(shards, "shards", SHARDS_MAX)]),
        tuple([CopyFigures(*_fields_of(CopyFigures, copy)) for copy in items(copies, "copies", SHARDS_MAX)]),
    )


def _shard(plain: object) -> ShardFigures:
    values = _fields_of(ShardFigures, plain)
    followers = items(values[-1], "followers", SHARDS_MAX)
    found = tuple([FollowerFigures(*_fields_of(FollowerFigures, one)) for one in followers])
    return ShardFigures(*[*values[:-1], found])


_Record = ProcessFigures | RequestFigures | ShardFigures | FollowerFigures | CopyFigures


def _row(record: _Record) -> list[Any]:
    return [getattr(record, field.name) for field in fields(record)]


def _fields_of(kind: type[_Record], plain: object) -> list[Any]:
    count = len(fields(kind))
    return items(plain, kind.__name__, count, exactly=count)
