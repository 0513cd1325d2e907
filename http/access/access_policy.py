"""Who may do what: roles, and the people and programs that have them. Pure.

Roles grow: who may write may read, and an admin may do everything. They are given by dataset, ``*`` standing for all
of them and for what belongs to none (log levels, processes, metrics). Of what ``*`` and the dataset's own name say, the
greater role holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from filoray.cluster.errors import Forbidden

EVERYTHING = "*"


class Role(IntEnum):
    NONE = 0
    READ = 1
    WRITE = 2
    ADMIN = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who proved a name. ``roles``: by dataset, or ``*``."""

    name: str
    roles: Mapping[str, Role]

    def role(self, dataset: str | None) -> Role:
        """For a dataset; None: for what belongs to none."""
        everywhere = self.roles.get(EVERYTHING, Role.NONE)
        return everywhere if dataset is None else max(everywhere, self.roles.get(dataset, Role.NONE))

    def check(self, needed: Role, dataset: str | None) -> None:
        """Raises Forbidden, naming the role that is needed and the one that is there."""
        role = self.role(dataset)
        if role < needed:
            place = "the whole cluster (*)" if dataset is None else f"dataset {dataset}"
            raise Forbidden(f"this needs the role {needed} for {place}; {self.name} has {role or 'none'}")


ANYBODY = Identity("anybody", {EVERYTHING: Role.ADMIN})
"""Who asks where nobody is asked who they are."""
