"""A simulated copy that follows: it takes a snapshot, then entry after entry, of the one leader that it is told of.

What comes twice, late, out of order or of another epoch is refused and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping

from filoray.cluster.control.node_effects import OpenShard
from filoray.cluster.simulation.checkers import StoredKey
from filoray.cluster.simulation.copy_entries import CommitEntry, Entry, FlushEntry, SessionOrigin
from filoray.cluster.simulation.shard_file import ShardFile
from filoray.cluster.simulation.simulated_leader import PIECES, Snapshot, commit

Reply = Callable[[str], None]


class SimulatedFollower:
    """``stored``: where its copy is, in ``files``; where the store is shared those are its own memory.

    ``file``: the copy that a session of this opening installed, if one did.
    """

    def __init__(
        self,
        order: OpenShard,
        stored: StoredKey,
        files: MutableMapping[StoredKey, ShardFile],
        is_deleted: Callable[[], bool],
    ) -> None:
        self.file: ShardFile | None = None
        self._order = order
        self.stored = stored
        self._files = files
        self._is_deleted = is_deleted
        self._session: SessionOrigin | None = None
        self._newest = (0, 0, 0)
        self._pieces = 0
        self._seq: int | None = None
        """The last entry that it has; None while it is given a snapshot."""

    def begin(self, origin: SessionOrigin, reply: Reply) -> None:
        if not self.is_epoch_of(origin) or origin.order <= self._newest:
            reply("it is not of the present epoch")
            return
        self._newest, self._session, self._pieces, self._seq = origin.order, origin, 0, None
        reply("")

    def piece(self, origin: SessionOrigin, number: int, reply: Reply) -> None:
        if not self._is_present(origin) or self._seq is not None or number != self._pieces:
            reply("a piece that does not follow")
            return
        self._pieces += 1
        reply("")

    def install(self, origin: SessionOrigin, snapshot: Snapshot, reply: Reply, *, is_disk_full: bool) -> None:
        """In place of what was stored before, all at once."""
        former = self._files.get(self.stored)
        if not self._is_present(origin) or self._seq is not None or self._pieces != PIECES or is_disk_full:
            reply("a snapshot that cannot be taken")
        elif former is not None and former.epoch > origin.epoch:
            reply(f"its file has epoch {former.epoch}")
        else:
            self.file = snapshot.file.copied()
            self.file.epoch, self.file.is_late = origin.epoch, self._is_deleted()
            self._files[self.stored] = self.file
            self._seq = snapshot.seq
            reply("")

    def store(self, origin: SessionOrigin, seq: int, entry: Entry, reply: Reply, *, is_disk_full: bool) -> None:
        if not self._is_present(origin) or self._seq is None or seq != self._seq + 1:
            reply(f"entry {seq} does not follow {self._seq}")
        elif is_disk_full or not self.is_sound():
            self.end_session()
            reply("what it has is not sound, or its disk is full")
        else:
            assert self.file is not None, "it is sound"
            problem = _carry_out(self.file, entry)
            self._seq = seq
            if problem:
                self.end_session()
            reply(problem)

    @property
    def is_warm(self) -> bool:
        """Whether it has the shard in its memory only."""
        return self._order.config.shares_store

    def end_session(self) -> None:
        """Nothing that is sent in it is taken any more."""
        self._session = None

    def is_sound(self) -> bool:
        """Whether it has the copy that it installed, and nobody else has done anything to that."""
        return self.file is not None and self._files.get(self.stored) is self.file and self._is_own_epoch()

    def is_epoch_of(self, origin: SessionOrigin) -> bool:
        """Whether it is told to follow what that session's leader leads."""
        order = self._order
        return (origin.epoch, origin.generation) == (order.epoch, order.config.generation)

    def _is_own_epoch(self) -> bool:
        return self.file is not None and self.file.epoch == self._order.epoch

    def _is_present(self, origin: SessionOrigin) -> bool:
        return self._session == origin


def _carry_out(stored: ShardFile, entry: Entry) -> str:
    """Why it could not, or ""."""
    if isinstance(entry, CommitEntry):
        commit(stored, entry)
    elif isinstance(entry, FlushEntry):
        moved = tuple(stored.ids)[stored.checkpoint :]
        stored.flush()
        if moved != entry.ids:
            return "its flush moved other samples than the leader's"
    return ""
