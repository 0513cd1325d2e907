"""Which of several coordinators may act: a lease on the store that they share. A pure core; one for each candidate.

The store has one row: who leads, in which term, and a beat that only grows. Whoever leads makes it grow often, as long
as the term is still its own. A candidate that sees the same beat for longer than the lease takes the lead: it sets the
row to its own name and the next term, if it is still the one it saw. Clocks are never compared:

* Who leads counts its lease from before it *asked* for a beat, and does nothing any more when it has ended by its
  own clock, whether it knows of another or not.
* Who waits counts from when it *saw* the beat, which is later than the asking, and adds a fiftieth for clocks that do
  not run equally fast.

So the old one has stopped when the new one begins. Should what it sent before still be on its way, it is refused: its
writes by the store, which knows the later generation (``meta_store.py``), its orders to nodes by their epochs, and what
it granted nodes ends, counted from then, before the new one gives their shards to others (``membership.py``).

    waiting --beat unchanged for a lease--> taking --the store said yes--> leading --lease ended--> over
       ^                                      |
       +---------- the store said no ---------+
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeaderRow:
    """What the store has. ``holder``: the candidate that leads, "" after one that went in order."""

    holder: str
    term: int
    beat: int


NOBODY_YET = LeaderRow("", 0, 0)


class Role(enum.Enum):
    WAITING = "waiting"
    TAKING = "taking"
    LEADING = "leading"
    OVER = "over"
    """It led, and must end: what it has in memory is of then."""


class Leadership:
    """One life of a candidate. ``now_ms``: of any clock that goes on while the machine sleeps, the same each time."""

    def __init__(self, name: str, lease_ms: int) -> None:
        self._name = name
        self._lease_ms = lease_ms
        self._role = Role.WAITING
        self._seen: LeaderRow | None = None
        self._seen_ms = 0
        self._term = 0
        self._until_ms = 0

    @property
    def role(self) -> Role:
        return self._role

    def may_act(self, now_ms: int) -> bool:
        """Whether it leads at this moment. Once it does not any more it never does again."""
        if self._role is Role.LEADING and now_ms >= self._until_ms:
            self._role = Role.OVER
        return self._role is Role.LEADING

    # ---- waiting

    def saw(self, row: LeaderRow, now_ms: int) -> LeaderRow | None:
        """What the store has, looked up just now. Not None: take the lead, if the store still has that row."""
        if self._role is not Role.WAITING:
            return None
        if row != self._seen:
            self._seen, self._seen_ms = row, now_ms
        is_free = not row.holder
        if is_free or now_ms - self._seen_ms >= self._lease_ms + self._lease_ms // 50:
            self._role = Role.TAKING
            return row
        return None

    def took(self, row: LeaderRow | None, asked_ms: int) -> None:
        """The store's answer to what was asked at ``asked_ms``: the row that is ours now; None: another was first."""
        self._seen = None
        if row is None:
            self._role = Role.WAITING
        else:
            self._role, self._term, self._until_ms = Role.LEADING, row.term, asked_ms + self._lease_ms

    # ---- leading

    @property
    def term(self) -> int:
        """That a renewal must find; 0: it never led."""
        return self._term

    def renewed(self, asked_ms: int, now_ms: int, *, is_ours: bool) -> None:
        """The store's answer to a renewal that was asked at ``asked_ms``. Not ``is_ours``: another leads."""
        if self.may_act(now_ms):
            self._until_ms = max(self._until_ms, asked_ms + self._lease_ms)
            if not is_ours:
                self._role = Role.OVER
