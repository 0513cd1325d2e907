"""PostgreSQL as filoray's stores use it: which URLs are taken, how connections are made, what its errors mean.

Takes the ``meta-store-url`` and ``column-store-url`` of the configuration; what is stored there is left to the stores.
A message never shows a URL's user or password: it names host, port and database.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from filoray.cluster.errors import ConfigError, Unavailable

_DRIVER = "postgresql+psycopg"
_TAKEN = {"postgresql", _DRIVER}
_DEFAULT_PORT = 5432
_SCHEMA_LOCK = 0x66696C6F726179  # "filoray": the advisory lock of whoever makes tables

_CONNECT_ARGUMENTS: dict[str, str | int] = {
    "application_name": "filoray",
    "connect_timeout": 5,
    # A server that vanished without a word (power, network) is noticed after so long.
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    # A row that another owner has locked is not waited for longer than the first; the second ends the transaction of an
    # owner that hangs in the middle of it.
    "options": "-c lock_timeout=5s -c idle_in_transaction_session_timeout=15s",
}


def postgres_url(text: str, *, or_sqlite: bool = False) -> sa.URL:
    """The URL with its driver; raises ConfigError for other databases and where the driver is not installed.

    ``or_sqlite``: whether ``sqlite:///FILE`` will do as well.
    """
    supported = "postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE" + (" or sqlite:///FILE" if or_sqlite else "")
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigError(f"this is no URL of a database; supported is {supported}") from None
    if or_sqlite and url.drivername == "sqlite":
        return url
    if url.drivername not in _TAKEN:
        raise ConfigError(f"{url.drivername}:// is not supported; supported is {supported}")
    if not url.database:
        raise ConfigError(f"the URL names no database; supported is {supported}")
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"PostgreSQL needs psycopg, which cannot be imported ({error}): pip install 'filoray[postgres]'"
        ) from None
    return url.set(drivername=_DRIVER)


def postgres_engine(url: sa.URL, **options: Any) -> sa.Engine:
    """``options`` are SQLAlchemy's. What the URL's own query says about connections goes before our settings."""
    arguments = {name: value for name, value in _CONNECT_ARGUMENTS.items() if name not in url.query}
    # Without a binary cursor, bytes come back as hexadecimal text: twice the traffic.
    return sa.create_engine(
        url,
        connect_args={**arguments, "cursor_factory": _binary_cursor()},
        use_native_hstore=False,
        pool_timeout=10,
        **options,
    )


def _binary_cursor() -> type:
    import psycopg

    class BinaryCursor(psycopg.Cursor[tuple[object, ...]]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.format = psycopg.pq.Format.BINARY

    return BinaryCursor


def create_tables(engine: sa.Engine, tables: sa.MetaData) -> None:
    """Those that are not there; any number of processes may do it at once."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # CREATE TABLE IF NOT EXISTS alone fails when two run at once.
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
            tables.create_all(connection)
        else:
            for table in tables.sorted_tables:
                connection.execute(sa.schema.CreateTable(table, if_not_exists=True))


def place_of(url: sa.URL) -> str:
    """The server and database, for messages."""
    if url.get_backend_name() == "sqlite":
        return f"SQLite file {url.database}"
    host = url.host or url.query.get("host", "localhost")
    port = url.port or url.query.get("port", _DEFAULT_PORT)
    return f"PostgreSQL at {host}:{port}, database {url.database}"


@contextlib.contextmanager
def errors_as_unavailable(url: sa.URL, doing: str) -> Iterator[None]:
    """What the database and the way to it raise becomes Unavailable, which names both."""
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
        cause = getattr(error, "orig", None) or error
        text = " ".join(str(cause).split())
        raise Unavailable(f"{place_of(url)}: cannot {doing}: {text}") from error
