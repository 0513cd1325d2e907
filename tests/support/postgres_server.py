"""A real PostgreSQL for tests: Debian's, in a directory of its own, on a free port, gone at the end."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
_USER = "filoray"
_PASSWORD = "s3cret/@"
_SETTINGS = """
fsync = off
full_page_writes = off
shared_buffers = 64MB
max_connections = 60
autovacuum_naptime = 5s
log_min_messages = warning
"""


@dataclass(frozen=True, slots=True)
class ServerPlace:
    """Where a server runs. ``entering``: what a command begins with that runs there; ``tmp``: its /tmp, from here.

    ``port``: 0 for a free one.
    """

    address: str = "127.0.0.1"
    entering: Sequence[str] = ()
    tmp: Path = Path("/tmp")
    port: int = 0


_HERE = ServerPlace()


class PostgresServer:
    """Use as a context manager. PostgreSQL refuses to run as root: it then runs as ``postgres`` or ``nobody``."""

    def __init__(self, place: ServerPlace = _HERE) -> None:
        self._account = _account() if os.geteuid() == 0 else None
        self._binaries = _BINARIES[-1]
        self._place = place

    def __enter__(self) -> PostgresServer:
        self._dir = Path(tempfile.mkdtemp(prefix="filoray-pg-", dir=self._place.tmp))  # sockets' paths must be short
        self._dir_there = Path("/tmp") / self._dir.name
        self.port = self._place.port or _free_port()
        password_file = self._dir / "password"
        password_file.write_text(_PASSWORD)
        if self._account is not None:
            for path in (self._dir, password_file):
                os.chown(path, self._account.pw_uid, self._account.pw_gid)
        self._run(
            "initdb", "--pgdata", self.data, "--username", _USER, "--pwfile", str(self._dir_there / "password"),
            "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--no-sync",
        )  # fmt: skip
        with open(self._dir / "data" / "postgresql.conf", "a") as file:
            file.write(
                f"{_SETTINGS}listen_addresses = '{self._place.address}'\n"
                f"port = {self.port}\nunix_socket_directories = '{self._dir_there}'\n"
            )
        with open(self._dir / "data" / "pg_hba.conf", "a") as file:
            file.write("host all all samenet scram-sha-256\n")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._dir)

    @property
    def data(self) -> str:
        """Its directory, as its own machine calls it."""
        return str(self._dir_there / "data")

    def start(self) -> None:
        self._run("pg_ctl", "start", "--pgdata", self.data, "--wait", "--log", str(self._dir_there / "log"))

    def stop(self, mode: str = "immediate") -> None:
        """``immediate`` is a crash; open connections are cut."""
        self._run("pg_ctl", "stop", "--pgdata", self.data, "--wait", "--mode", mode)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The server accepts connections but says nothing."""
        pid = int((self._dir / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def new_database(self) -> str:
        """Make an empty database; returns its URL."""
        name = f"d{uuid.uuid4().hex[:12]}"
        self.sql(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def url(self, database: str, port: int | None = None) -> str:
        return f"postgresql+psycopg://{_USER}:s3cret%2F%40@{self._place.address}:{port or self.port}/{database}"

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        import psycopg

        with psycopg.connect(
            host=self._place.address, port=self.port, user=_USER, password=_PASSWORD, dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str) -> None:
        account = self._account
        identity = () if account is None else (f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}")
        as_account = ["setpriv", *identity, "--clear-groups", "--"] if identity else []
        done = subprocess.run(
            [*self._place.entering, *as_account, self._binaries / program, *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if program == "initdb" else subprocess.DEVNULL,
            cwd="/", text=True, timeout=60, check=False,
        )  # fmt: skip
        log = self._dir / "log"
        assert done.returncode == 0, f"{program} failed: {done.stdout}{log.read_text() if log.exists() else ''}"


@contextlib.contextmanager
def running_postgres(place: ServerPlace = _HERE) -> Iterator[PostgresServer]:
    """A server, or the test is skipped with the reason."""
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    if not _BINARIES:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    if os.geteuid() == 0 and _account() is None:
        pytest.skip("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
    with PostgresServer(place) as server:
        yield server


def _account() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
