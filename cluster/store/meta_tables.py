"""The tables of the MetaStore.

generation    one row: how often a coordinator started on this store
datasets      name, source configuration (JSON), whether it is being deleted; last shard map (JSON) or null, as earlier
              releases wrote it whole
shard_entries dataset, shard, what the last shard map says of it (JSON); none of datasets that are being deleted
dataset_generations  name, the last generation of a dataset of that name; rows outlive their dataset
shard_epochs  dataset, shard, last epoch given out; rows outlive their dataset, so that no epoch is used twice
opened_shards dataset, shard, the last generation in which it was Active: what it stored then must be there
gateway_keys  one row: the key pair by which nodes know gateways, and each other
identity      one row: the cluster's id, and path and inode of the store's file when it was opened last ("", 0: no file)
drained_nodes slot of each node that is to have no shards
node_machines  slot of each node that is on one machine for good, the address of that; "" once it is gone for good
node_count    one row, if it is not what the launch said: how many nodes there are to be
restart_left  place, slot and incarnation of each node that a rolling restart has still to replace
nodes         slot, last incarnation given out, process id and its start time while it is thought alive
"""

from __future__ import annotations

import sqlalchemy as sa

TABLES = sa.MetaData()
GENERATION = sa.Table(
    "generation",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)
DATASETS = sa.Table(
    "datasets",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("config", sa.Text, nullable=False),
    sa.Column("shard_map", sa.Text),
    sa.Column("is_deleting", sa.Boolean, nullable=False),
)
SHARD_EPOCHS = sa.Table(
    "shard_epochs",
    TABLES,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("shard", sa.Integer, primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
)
SHARD_ENTRIES = sa.Table(
    "shard_entries",
    TABLES,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("shard", sa.Integer, primary_key=True),
    sa.Column("entry", sa.Text, nullable=False),
)
DATASET_GENERATIONS = sa.Table(
    "dataset_generations",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
)
OPENED_SHARDS = sa.Table(
    "opened_shards",
    TABLES,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("shard", sa.Integer, primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
)
GATEWAY_KEYS = sa.Table(
    "gateway_keys",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("public", sa.Text, nullable=False),
    sa.Column("secret", sa.Text, nullable=False),
)
IDENTITY = sa.Table(
    "identity",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("cluster_id", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("inode", sa.BigInteger, nullable=False),
)
DRAINED_NODES = sa.Table("drained_nodes", TABLES, sa.Column("name", sa.Text, primary_key=True))
NODES = sa.Table(
    "nodes",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("incarnation", sa.BigInteger, nullable=False),
    sa.Column("pid", sa.BigInteger),
    sa.Column("pid_started_s", sa.Float),
)
NODE_MACHINES = sa.Table(
    "node_machines",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("address", sa.Text, nullable=False),
)
NODE_COUNT = sa.Table(
    "node_count",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
)
RESTART_LEFT = sa.Table(
    "restart_left",
    TABLES,
    sa.Column("place", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("incarnation", sa.BigInteger, nullable=False),
)
