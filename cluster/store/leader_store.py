"""The row of the coordinator's store that says which candidate leads (``control/leadership.py``), in PostgreSQL.

Each method is one statement on a connection of its own, with short limits: who leads must know in time whether it
still does, so what takes longer than a lease has failed.

    coordinator_leader  one row: holder, term, beat
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from filoray.cluster.control.leadership import NOBODY_YET, LeaderRow
from filoray.cluster.store.postgres import create_tables, errors_as_unavailable, postgres_engine, postgres_url

_TABLES = sa.MetaData()
_LEADER = sa.Table(
    "coordinator_leader",
    _TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("term", sa.BigInteger, nullable=False),
    sa.Column("beat", sa.BigInteger, nullable=False),
)


class LeaderStore:
    """``url``: of PostgreSQL. ``patience_ms``: for one statement. Every method raises Unavailable. Of one thread."""

    def __init__(self, url: str, patience_ms: int) -> None:
        given = postgres_url(url)
        limits = {
            "connect_timeout": str(max(2, patience_ms // 1000)),  # libpq takes no less
            "tcp_user_timeout": str(patience_ms),
            "options": f"-c statement_timeout={patience_ms} -c lock_timeout={patience_ms}",
        }
        self._url = given.update_query_dict({name: text for name, text in limits.items() if name not in given.query})
        self._engine = postgres_engine(self._url, pool_size=1, isolation_level="AUTOCOMMIT")
        with errors_as_unavailable(given, "open the coordinator's store"):
            create_tables(self._engine, _TABLES)

    def close(self) -> None:
        self._engine.dispose()

    def row(self) -> LeaderRow:
        with errors_as_unavailable(self._url, "see who leads"), self._engine.connect() as connection:
            found = connection.execute(sa.select(_LEADER)).one_or_none()
        return NOBODY_YET if found is None else LeaderRow(found.holder, found.term, found.beat)

    def take(self, seen: LeaderRow, name: str) -> LeaderRow | None:
        """Set the row to the next term of ``name`` if it is still as ``seen``; None: it is not."""
        taken = LeaderRow(name, seen.term + 1, seen.beat + 1)
        values = {"holder": taken.holder, "term": taken.term, "beat": taken.beat}
        is_as_seen = sa.and_(_LEADER.c.term == seen.term, _LEADER.c.beat == seen.beat)
        statement = postgresql.insert(_LEADER).values(id=1, **values)
        if seen == NOBODY_YET:
            statement = statement.on_conflict_do_nothing(index_elements=["id"])
        else:
            statement = statement.on_conflict_do_update(index_elements=["id"], set_=values, where=is_as_seen)
        with errors_as_unavailable(self._url, "take the lead"), self._engine.connect() as connection:
            changed = connection.execute(statement.returning(_LEADER.c.term)).one_or_none()
        return None if changed is None else taken

    def renew(self, term: int) -> bool:
        """One beat more; False: another term has begun."""
        return self._update(term, {"beat": _LEADER.c.beat + 1})

    def release(self, term: int) -> None:
        """Whoever wants to may lead at once."""
        self._update(term, {"holder": "", "beat": _LEADER.c.beat + 1})

    def _update(self, term: int, values: dict[str, object]) -> bool:
        statement = sa.update(_LEADER).where(_LEADER.c.id == 1, _LEADER.c.term == term).values(values)
        with errors_as_unavailable(self._url, "renew the lead"), self._engine.connect() as connection:
            return connection.execute(statement).rowcount == 1
