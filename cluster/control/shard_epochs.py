"""The last epoch of each shard, and which of them were given to nobody who is remembered: a part of the ShardManager.

An epoch only grows, over restarts and over deletions of a dataset, and each names one owner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from filoray.cluster.control.fences import ShardKey


class ShardEpochs:
    """``restored``: what the MetaStore has; of ``owned``, the owners at those epochs are remembered."""

    def __init__(self, restored: Mapping[ShardKey, int], owned: frozenset[ShardKey]) -> None:
        self._epochs = dict(restored)
        self._ownerless = {key: epoch for key, epoch in restored.items() if epoch and key not in owned}

    def __getitem__(self, key: ShardKey) -> int:
        """0 before the first."""
        return self._epochs.get(key, 0)

    def next(self, key: ShardKey) -> int:
        epoch = self._epochs[key] = self[key] + 1
        return epoch

    def overtaken(self, key: ShardKey, stored_epoch: int) -> None:
        """The shard's store has a higher one than was ever given out here."""
        self._epochs[key] = stored_epoch

    def of_unknown_owners(self) -> Iterator[tuple[ShardKey, int]]:
        """Shards that nobody was given since the last restart: any node that lived before may have one at its epoch.

        Also those of datasets that are no more: one that is set up again goes on with its epochs.
        """
        for key, epoch in self._ownerless.items():
            if self._epochs[key] == epoch:
                yield key, epoch
