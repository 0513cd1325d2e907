"""The row in a real PostgreSQL: of two who take what they saw one is first, and a term that is over renews nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres_server import PostgresServer, running_postgres

from filoray.cluster.control.leadership import NOBODY_YET, LeaderRow
from filoray.cluster.errors import Unavailable
from filoray.cluster.store.leader_store import LeaderStore


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as running:
        yield running


def test_terms_and_beats(server: PostgresServer) -> None:
    url = server.new_database()
    one, other = LeaderStore(url, 2000), LeaderStore(url, 2000)
    assert one.row() == NOBODY_YET
    first = one.take(NOBODY_YET, "one")
    assert first == LeaderRow("one", 1, 1)
    assert other.take(NOBODY_YET, "other") is None
    assert one.renew(1)
    seen = other.row()
    assert seen == LeaderRow("one", 1, 2)
    assert one.renew(1)
    assert other.take(seen, "other") is None, "it beat meanwhile"
    second = other.take(other.row(), "other")
    assert second == LeaderRow("other", 2, 4)
    assert not one.renew(1)
    one.release(1)
    assert other.row() == second, "a term that is over lets nobody in"
    other.release(2)
    assert one.row() == LeaderRow("", 2, 5)
    one.close()
    other.close()


def test_a_server_that_says_nothing_is_not_waited_for(server: PostgresServer) -> None:
    store = LeaderStore(server.new_database(), 2000)
    store.take(NOBODY_YET, "one")
    store.close()
    with server.frozen(), pytest.raises(Unavailable):
        store.renew(1)


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(Unavailable, match=r"PostgreSQL at 127\.0\.0\.1:1"):
        LeaderStore("postgresql+psycopg://u:p@127.0.0.1:1/d", 2000)
