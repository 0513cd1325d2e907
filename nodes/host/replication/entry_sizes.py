"""How much of a shard's latest entries a follower has not stored yet, in samples and bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from filoray.nodes.memstore.replica_entries import CommitEntry, ReplicaEntry, StreamedEntry
from filoray.nodes.memstore.store.log_record import samples_in


class EntrySizes:
    """Of the entries that some follower with a copy has not stored."""

    def __init__(self) -> None:
        self._sizes: deque[tuple[int, int, int]] = deque()
        """(number, samples, bytes)."""

    def made(self, seq: int, entry: ReplicaEntry) -> None:
        """Only what was written counts: flushes are done again from what is there."""
        if isinstance(entry, StreamedEntry):
            self._sizes.append((seq, entry.sample_count, entry.byte_count))
        if isinstance(entry, CommitEntry) and entry.commit.log is not None:
            data = entry.commit.log.data
            self._sizes.append((seq, samples_in(data), len(data) + len(entry.commit.part_keys or b"")))

    def stored(self, all_stored: Iterable[int]) -> None:
        """The last entry that each follower has stored: what all have is forgotten."""
        least = min(all_stored, default=None)
        while self._sizes and (least is None or self._sizes[0][0] <= least):
            self._sizes.popleft()

    def after(self, seq: int) -> tuple[int, int]:
        """Samples and bytes of the entries after that one."""
        left = [(samples, size) for number, samples, size in self._sizes if number > seq]
        return sum(samples for samples, _ in left), sum(size for _, size in left)
