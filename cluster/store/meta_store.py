"""What the coordinator may not lose: datasets, shard maps, epochs, nodes. A SQLite file, or any database by URL.

Every method is one small transaction that is durable when it returns. Nothing here decides anything; the ShardManager
and the Membership say what to keep. SQLAlchemy Core, so PostgreSQL (``postgresql+psycopg://…``) works the same. Its
tables are in ``meta_tables.py``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from filoray.cluster.actor_names import slot_index
from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.shard_map import ShardMap
from filoray.cluster.control.shard_table import RestoredState
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.errors import Unavailable
from filoray.cluster.node_protocol import NodeProcessId
from filoray.cluster.store.meta_tables import (
    DATASET_GENERATIONS,
    DATASETS,
    DRAINED_NODES,
    GATEWAY_KEYS,
    GENERATION,
    IDENTITY,
    NODE_COUNT,
    NODE_MACHINES,
    NODES,
    OPENED_SHARDS,
    RESTART_LEFT,
    SHARD_ENTRIES,
    SHARD_EPOCHS,
    TABLES,
)
from filoray.cluster.store.postgres import (
    create_tables,
    errors_as_unavailable,
    place_of,
    postgres_engine,
    postgres_url,
)
from filoray.cluster.store.shard_rows import IN_ROWS, map_of, text_of

SQLITE_FILE = "coordinator.db"

_HOLDER_LOCK = 0x66696C6F726A  # the advisory lock of the coordinator that uses a database


_POSTGRES_OPTIONS = "-c lock_timeout=5s -c idle_in_transaction_session_timeout=4s"
"""Less than others wait for a lock: a coordinator that was cut off while it wrote keeps none from taking its place."""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """``pid`` is None once the process is certainly gone or before it announced itself."""

    name: str
    incarnation: int
    pid: int | None
    pid_started_s: float | None


class StoreInUse(Unavailable):
    """Another coordinator uses the store."""


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """``path`` and ``inode``: of the store's file; "" and 0 before it was first opened."""

    cluster_id: str
    path: str
    inode: int


class MetaStore:
    """``url``: a SQLAlchemy URL (PostgreSQL or SQLite). Tables are made when they are not there.

    Every method raises Unavailable, naming the server, if it cannot be reached. Once ``next_generation`` was called,
    writes raise StoreInUse if a later coordinator has called it.
    """

    def __init__(self, url: str) -> None:
        self._url = postgres_url(url, or_sqlite=True)
        self._generation: int | None = None
        self._written: dict[str, ShardMap] = {}
        """What the store has for certain, as nobody else has written to it since."""
        self._hold: contextlib.ExitStack | None = None
        if self._url.get_backend_name() == "sqlite":
            self._engine = sa.create_engine(self._url)
            sa.event.listen(self._engine, "connect", _prepare_sqlite)
        else:
            if "options" not in self._url.query:
                self._url = self._url.update_query_dict({"options": _POSTGRES_OPTIONS})
            # One event loop uses it. The ping: a server that was restarted meanwhile is no failure.
            self._engine = postgres_engine(self._url, pool_size=1, pool_pre_ping=True)
        with errors_as_unavailable(self._url, "open the coordinator's store"):
            create_tables(self._engine, TABLES)
        self._is_new = self._has_no_generation()

    @classmethod
    def open(cls, url: str | None, data_dir: Path) -> MetaStore:
        """The store at ``url``, or a SQLite file in ``data_dir``."""
        if url is None:
            data_dir.mkdir(parents=True, exist_ok=True)
            url = f"sqlite:///{data_dir / SQLITE_FILE}"
        return cls(url)

    def close(self) -> None:
        if self._hold is not None:
            self._hold.close()
        self._engine.dispose()

    # ---- whose it is

    @property
    def file(self) -> Path | None:
        """Of a SQLite store on disk."""
        database = self._url.database
        is_file = self._url.get_backend_name() == "sqlite" and database not in (None, "", ":memory:")
        return Path(database) if is_file and database is not None else None

    @property
    def is_new(self) -> bool:
        """Whether no coordinator had begun on it when it was opened."""
        return self._is_new

    def hold(self) -> None:
        """Keep all others out until this process ends or ``close``. Raises StoreInUse if somebody is in."""
        with contextlib.ExitStack() as stack:
            if self._url.get_backend_name() == "sqlite":
                if self.file is not None:
                    self._lock_file(stack, self.file)
            else:
                self._lock_database(stack)
            self._hold = stack.pop_all()

    def _lock_file(self, stack: contextlib.ExitStack, file: Path) -> None:
        lock = stack.enter_context(file.with_name(f"{file.name}.lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreInUse(f"another coordinator uses {file}; stop it, or give this one a store of its own") from None

    def _lock_database(self, stack: contextlib.ExitStack) -> None:
        """PostgreSQL lets go of the lock when the connection ends, and ends it when its other end does not answer."""
        engine = postgres_engine(self._url, pool_size=1)
        stack.callback(engine.dispose)  # with the connection the lock ends
        with errors_as_unavailable(self._url, "lock the coordinator's store"):
            connection = stack.enter_context(engine.connect().execution_options(isolation_level="AUTOCOMMIT"))
            for setting, value in (("idle", 5), ("interval", 2), ("count", 3)):
                connection.execute(sa.text(f"SET tcp_keepalives_{setting} = {value}"))
            if not connection.execute(sa.select(sa.func.pg_try_advisory_lock(_HOLDER_LOCK))).scalar():
                raise StoreInUse(
                    f"another coordinator uses {place_of(self._url)}; "
                    "stop it, or give this one a meta-store-url of its own"
                )

    def identity(self) -> StoreIdentity | None:
        with self._reading() as connection:
            row = connection.execute(sa.select(IDENTITY)).one_or_none()
        return None if row is None else StoreIdentity(row.cluster_id, row.path, row.inode)

    def put_identity(self, identity: StoreIdentity) -> None:
        values: dict[str, object] = dataclasses.asdict(identity)
        with self._writing() as connection:
            self._upsert(connection, IDENTITY, {"id": 1}, values)

    def forget_processes(self) -> None:
        """They are another cluster's."""
        with self._writing() as connection:
            connection.execute(sa.update(NODES).values(pid=None, pid_started_s=None))

    def _has_no_generation(self) -> bool:
        with self._reading() as connection:
            return connection.execute(sa.select(GENERATION.c.number)).first() is None

    # ---- reading

    def next_generation(self) -> int:
        """A number higher than any given out before. Writes of whoever has an earlier one are refused from now on."""
        with self._writing() as connection:
            insert = self._insert(GENERATION).values(id=1, number=1)
            one_more = {"number": GENERATION.c.number + 1}
            upsert = insert.on_conflict_do_update(index_elements=["id"], set_=one_more)
            generation = int(connection.execute(upsert.returning(GENERATION.c.number)).scalar_one())
        self._generation = generation
        return generation

    def gateway_keys(self) -> KeyPair:
        """The cluster's pair, made when first asked for."""
        fresh = KeyPair.generate()
        row = {"id": 1, "public": fresh.public.decode(), "secret": fresh.secret.decode()}
        with self._writing() as connection:
            connection.execute(self._insert(GATEWAY_KEYS).values(row).on_conflict_do_nothing(index_elements=["id"]))
            kept = connection.execute(sa.select(GATEWAY_KEYS)).one()
        return KeyPair(kept.public.encode(), kept.secret.encode())

    def nodes(self) -> dict[str, NodeRow]:
        with self._reading() as connection:
            rows = connection.execute(sa.select(NODES)).all()
        return {row.name: NodeRow(row.name, row.incarnation, row.pid, row.pid_started_s) for row in rows}

    def restored_state(self, members: dict[str, int]) -> RestoredState:
        """Datasets and epochs; ``members`` are the nodes that may still live. A shard of any other has no owner."""
        with self._reading() as connection:
            dataset_rows = connection.execute(sa.select(DATASETS).order_by(DATASETS.c.name)).all()
            epoch_rows = connection.execute(sa.select(SHARD_EPOCHS)).all()
            entry_rows = connection.execute(sa.select(SHARD_ENTRIES)).all()
            generation_rows = connection.execute(sa.select(DATASET_GENERATIONS)).all()
            drained = frozenset(connection.execute(sa.select(DRAINED_NODES.c.name)).scalars())
            machine_rows = connection.execute(sa.select(NODE_MACHINES)).all()
            cluster_id = connection.execute(sa.select(IDENTITY.c.cluster_id)).scalar() or ""
        epochs = {(row.dataset, row.shard): row.epoch for row in epoch_rows}
        # A name with epochs and without generation is one of a store from before there were generations: it had one.
        generations = dict.fromkeys((row.dataset for row in epoch_rows), 0)
        generations |= {row.name: row.generation for row in generation_rows}
        texts: dict[str, dict[int, str]] = {}
        for row in entry_rows:
            texts.setdefault(row.dataset, {})[row.shard] = row.entry
        maps, deleting = [], []
        for row in dataset_rows:
            config = DatasetConfig.from_json(row.config)
            if row.is_deleting:
                deleting.append(config)
            else:
                maps.append((config, map_of(config, row.shard_map, texts.get(row.name, {}), epochs, members)))
        machines = {row.name: row.address for row in machine_rows}
        return RestoredState(tuple(maps), tuple(deleting), epochs, members, drained, generations, machines, cluster_id)

    def opened_shards(self) -> dict[tuple[str, int], int]:
        """(dataset, shard) to the last generation in which it was Active."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(OPENED_SHARDS)).all()
        return {(row.dataset, row.shard): row.generation for row in rows}

    def node_count(self) -> int | None:
        """How many nodes there are to be; None: what the launch says."""
        with self._reading() as connection:
            return connection.execute(sa.select(NODE_COUNT.c.count)).scalar()

    def restart_left(self) -> tuple[NodeProcessId, ...]:
        """Node processes that a rolling restart has still to replace, the next first."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(RESTART_LEFT).order_by(RESTART_LEFT.c.place)).all()
        return tuple((row.name, row.incarnation) for row in rows)

    # ---- writing

    def put_node_count(self, count: int) -> None:
        """As ``node_count`` gives it."""
        with self._writing() as connection:
            self._upsert(connection, NODE_COUNT, {"id": 1}, {"count": count})

    def forget_node_count(self) -> None:
        """A launch says how many. Nodes that were too many until now are drained no more: they went, or are wanted."""
        with self._writing() as connection:
            if (count := connection.execute(sa.select(NODE_COUNT.c.count)).scalar()) is not None:
                drained = connection.execute(sa.select(DRAINED_NODES.c.name)).scalars()
                surplus = [node for node in drained if slot_index(node) >= count]
                connection.execute(sa.delete(DRAINED_NODES).where(DRAINED_NODES.c.name.in_(surplus)))
                connection.execute(sa.delete(NODE_COUNT))

    def put_restart(self, left: tuple[NodeProcessId, ...]) -> None:
        """As ``restart_left`` gives them."""
        rows = [{"place": i, "name": node, "incarnation": incarnation} for i, (node, incarnation) in enumerate(left)]
        with self._writing() as connection:
            connection.execute(sa.delete(RESTART_LEFT))
            if rows:
                connection.execute(sa.insert(RESTART_LEFT), rows)

    def put_opened(self, opened: Mapping[tuple[str, int], int]) -> None:
        """As ``opened_shards`` gives them."""
        rows = [{"dataset": name, "shard": shard, "generation": number} for (name, shard), number in opened.items()]
        with self._writing() as connection:
            self._put_of_shards(connection, OPENED_SHARDS, "generation", rows)

    def put_dataset(self, config: DatasetConfig, *, is_deleting: bool) -> None:
        self._written.pop(config.name, None)
        with self._writing() as connection:
            connection.execute(sa.delete(SHARD_ENTRIES).where(SHARD_ENTRIES.c.dataset == config.name))
            values: dict[str, object] = {"config": config.to_json(), "shard_map": None, "is_deleting": is_deleting}
            self._upsert(connection, DATASETS, {"name": config.name}, values)
            self._upsert(connection, DATASET_GENERATIONS, {"name": config.name}, {"generation": config.generation})

    def put_generation(self, name: str, generation: int) -> None:
        """The last that a dataset of that name had."""
        with self._writing() as connection:
            self._upsert(connection, DATASET_GENERATIONS, {"name": name}, {"generation": generation})

    def forget_dataset(self, name: str) -> None:
        self._written.pop(name, None)
        with self._writing() as connection:
            connection.execute(sa.delete(SHARD_ENTRIES).where(SHARD_ENTRIES.c.dataset == name))
            connection.execute(sa.delete(DATASETS).where(DATASETS.c.name == name))

    def put_shard_map(self, shard_map: ShardMap) -> None:
        """Owners and epochs, together, of shards that are not as they were written last."""
        name = shard_map.dataset
        former = self._written.pop(name, None)  # if this fails, what the store has then is not known
        changed = list(shard_map.changed_since(former))
        of_shard = [{"dataset": name, "shard": entry.shard} for entry in changed]
        entries = [{**key, "entry": text_of(entry)} for key, entry in zip(of_shard, changed, strict=True)]
        epochs = [{**key, "epoch": entry.epoch} for key, entry in zip(of_shard, changed, strict=True) if entry.epoch]
        with self._writing() as connection:
            if former is None:
                connection.execute(sa.update(DATASETS).where(DATASETS.c.name == name).values(shard_map=IN_ROWS))
            self._put_of_shards(connection, SHARD_ENTRIES, "entry", entries)
            self._put_of_shards(connection, SHARD_EPOCHS, "epoch", epochs)
        if self._generation is not None:  # whoever writes next after this is refused, or this no more
            self._written[name] = shard_map

    def put_drained(self, node: str, *, is_drained: bool) -> None:
        """Whether the node is to have no shards."""
        row = {"name": node}
        with self._writing() as connection:
            if is_drained:
                insert = self._insert(DRAINED_NODES).values(row)
                connection.execute(insert.on_conflict_do_nothing(index_elements=["name"]))
            else:
                connection.execute(sa.delete(DRAINED_NODES).where(DRAINED_NODES.c.name == node))

    def put_machine(self, node: str, address: str) -> None:
        """The machine where the node's files are, for good; "": it has none any more."""
        with self._writing() as connection:
            self._upsert(connection, NODE_MACHINES, {"name": node}, {"address": address})

    def put_incarnation(self, node: str, incarnation: int) -> None:
        """Before the process exists."""
        with self._writing() as connection:
            values: dict[str, object] = {"incarnation": incarnation, "pid": None, "pid_started_s": None}
            self._upsert(connection, NODES, {"name": node}, values)

    def put_process(self, node: str, pid: int | None, pid_started_s: float | None) -> None:
        """The process of the node's last incarnation; None when it is gone."""
        with self._writing() as connection:
            connection.execute(
                sa.update(NODES).where(NODES.c.name == node).values(pid=pid, pid_started_s=pid_started_s)
            )

    # ---- connections and dialects

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with errors_as_unavailable(self._url, "read the coordinator's store"), self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with errors_as_unavailable(self._url, "write the coordinator's store"), self._engine.begin() as connection:
            if self._generation is not None:
                present = sa.select(GENERATION.c.number).with_for_update(read=True)
                number = connection.execute(present).scalar()
                if number != self._generation:
                    raise StoreInUse(
                        f"{place_of(self._url)}: coordinator {number} has taken the place of this, {self._generation}"
                    )
            yield connection

    def _insert(self, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
        return postgresql.insert(table) if self._engine.dialect.name == "postgresql" else sqlite.insert(table)

    def _put_of_shards(
        self, connection: sa.Connection, table: sa.Table, column: str, rows: list[dict[str, object]]
    ) -> None:
        if rows:
            insert = self._insert(table)
            newer = {column: insert.excluded[column]}
            connection.execute(insert.on_conflict_do_update(index_elements=["dataset", "shard"], set_=newer), rows)

    def _upsert(
        self, connection: sa.Connection, table: sa.Table, key: dict[str, object], values: dict[str, object]
    ) -> None:
        insert = self._insert(table).values({**key, **values})
        connection.execute(insert.on_conflict_do_update(index_elements=list(key), set_=values))


def _prepare_sqlite(connection: object, _record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]  # the driver's own connection
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # an epoch must survive what a power-durable shard file survives
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()
