"""The tables of column stores in PostgreSQL: one set for all data sets and shards of a cluster.

    column_stores  dataset, shard: format, epoch of the owner, revision, group count, next series id, next offset
    part_keys      dataset, shard, row_id: data                       part keys, compressed, a row per commit or merged
    log            dataset, shard, offset: data                       samples that are not all in chunks yet
    chunks         dataset, shard, batch_id: written_ms, meta, data   chunk batches
    checkpoints    dataset, shard, flush_group: offset
    clocks         dataset, shard: a ClockReading                     the retention clock at the last flush

``dataset`` is the data set's storage name: a later one of its name has other rows. The bytes are those of the embedded
store. ``revision`` counts a store's changes.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

TABLES = sa.MetaData()


def _of_shard(name: str, *columns: sa.Column[Any], **options: Any) -> sa.Table:
    dataset = sa.Column("dataset", sa.Text, primary_key=True)
    shard = sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False)
    return sa.Table(name, TABLES, dataset, shard, *columns, **options)


def _key(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, primary_key=True, autoincrement=False)


def _number(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _bytes(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


STORES = _of_shard(
    "column_stores",
    _number("format"),
    _number("epoch"),
    _number("revision"),
    _number("group_count"),
    _number("next_series_id"),
    _number("next_offset"),
    # One row per shard that every commit updates: room in its page lets PostgreSQL do that without new index entries.
    postgresql_with={"fillfactor": 20},
)
PART_KEYS = _of_shard("part_keys", _key("row_id"), _bytes("data"))
LOG = _of_shard("log", _key("offset"), _bytes("data"))
CHUNKS = _of_shard("chunks", _key("batch_id"), _number("written_ms"), _bytes("meta"), _bytes("data"))
CHECKPOINTS = _of_shard("checkpoints", _key("flush_group"), _number("offset"))
CLOCKS = _of_shard("clocks", _number("wall_ms"), _number("retention_ms"), _number("owed_ms"), _number("owed_since_ms"))

for _table in (PART_KEYS, LOG, CHUNKS):
    # The bytes are compressed already; and a piece of a value that is stored uncompressed is read without the rest.
    _statement = "ALTER TABLE %(fullname)s ALTER COLUMN data SET STORAGE EXTERNAL"
    _uncompressed = sa.DDL(_statement)  # type: ignore[no-untyped-call]  # SQLAlchemy's own
    sa.event.listen(_table, "after_create", _uncompressed)
