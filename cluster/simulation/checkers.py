"""What must hold in every history, each a small class with a name: violations raise AssertionError.

The simulated parts call the hooks as things happen; a checker takes those that it needs. What is checked only when all
has been healed is in ``cluster/simulation/cluster.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

ShardKey = tuple[str, int]
"""(dataset, shard)."""

FileKey = tuple[str, int, int]
"""(dataset, shard, generation)."""

Process = tuple[str, int]
"""(node, incarnation)."""

RETRY_MIN_MS = 100
"""Less than any delay before a retry."""


class OneCoordinatorActs:
    """Once a coordinator has begun, none that began before does anything any more, whatever it knows."""

    def __init__(self) -> None:
        self._newest = 0

    def began(self, generation: int) -> None:
        self._newest = max(generation, self._newest)

    def acts(self, generation: int, what: object) -> None:
        assert generation >= self._newest, f"coordinator {generation} does {what} while {self._newest} leads"


class HandedOnOnlyWhenLetGo:
    """A shard goes to a new owner only when no other process holds it: one that does would answer with old data."""

    @staticmethod
    def ordered(key: ShardKey, owner: Process, epoch: int, holders: Iterable[Process]) -> None:
        for holder in holders:
            assert holder == owner, f"{key} goes to {owner} at epoch {epoch} while {holder} still holds it"


class OneOwnerAcknowledges:
    """An epoch of a shard is acknowledged by one process only, and acknowledged epochs never go back."""

    def __init__(self) -> None:
        self.count = 0
        self._owners: dict[tuple[ShardKey, int], Process] = {}
        self._newest: dict[ShardKey, int] = {}

    def acknowledged(self, key: ShardKey, epoch: int, process: Process) -> None:
        owner = self._owners.setdefault((key, epoch), process)
        assert owner == process, f"{key} epoch {epoch}: {owner} and {process} acknowledged"
        assert epoch >= self._newest.get(key, 0), f"{key}: epoch {epoch} acknowledged after a newer one"
        self._newest[key] = epoch
        self.count += 1


class AcknowledgedIsKept:
    """Whoever answers a read has all that was acknowledged for the shard when the read was asked."""

    def __init__(self) -> None:
        self._samples: dict[FileKey, int] = {}

    def acknowledged(self, file: FileKey, samples: int) -> None:
        self._samples[file] = max(samples, self._samples.get(file, 0))

    def floor(self, file: FileKey) -> int:
        """What a read that is asked now must see."""
        return self._samples.get(file, 0)

    @staticmethod
    def answered(file: FileKey, floor: int, samples: int, process: Process) -> None:
        assert samples >= floor, f"{process} answers for {file} with {samples} samples of {floor} acknowledged"


class NewestAnswers:
    """Whoever may answer has opened the shard at the newest epoch, whatever view the reader has."""

    def __init__(self) -> None:
        self._newest: dict[ShardKey, int] = {}

    def opened(self, key: ShardKey, epoch: int) -> None:
        self._newest[key] = max(epoch, self._newest.get(key, 0))

    def answers(self, key: ShardKey, epoch: int, process: Process) -> None:
        newest = self._newest.get(key, 0)
        assert newest <= epoch, f"{process} answers for {key} at epoch {epoch} while {newest} may have newer data"


class EpochsAgree:
    """A node refuses what was routed by another epoch than it holds."""

    @staticmethod
    def taken(key: ShardKey, routed: int, held: int, process: Process) -> None:
        assert routed == held, f"{process} holds {key} at epoch {held} and took what was routed by epoch {routed}"


class NothingServedIsDeleted:
    """No owner's file is deleted under it, though deletions come late and twice."""

    def __init__(self) -> None:
        self._deleted: set[tuple[str, int]] = set()

    def set_up(self, dataset: str, generation: int) -> None:
        self._deleted.discard((dataset, generation))

    def deleted(self, dataset: str, generation: int) -> None:
        self._deleted.add((dataset, generation))

    def is_deleted(self, file: FileKey) -> bool:
        return (file[0], file[2]) in self._deleted

    def last_deleted(self, dataset: str) -> int:
        """Its generation."""
        return max((generation for name, generation in self._deleted if name == dataset), default=-1)

    def committed(self, file: FileKey, process: Process, *, is_there: bool) -> None:
        """A file that was removed under its owner takes its writes all the same."""
        assert is_there or self.is_deleted(file), f"{file} of {process} was deleted under the owner"


class DeletedIsGone:
    """When a deletion is forgotten, no file of it is left."""

    @staticmethod
    def forgotten(dataset: str, generation: int, files: Iterable[FileKey]) -> None:
        left = sorted(file for file in files if file[0] == dataset and file[2] <= generation)
        assert not left, f"the deletion of {dataset}@{generation} is forgotten, and {left} are left"


class ViewsNeverGoBack:
    """A gateway's view never goes back, in version or in any shard's epoch."""

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}
        self._epochs: dict[str, dict[ShardKey, int]] = {}

    def began(self, gateway: str) -> None:
        """A gateway's process is another: it has seen nothing yet."""
        self._versions.pop(gateway, None)
        self._epochs[gateway] = {}

    def seen(self, gateway: str, version: int, epochs: Iterable[tuple[ShardKey, int]]) -> None:
        """``epochs``: of shards that may have another than in its view before."""
        former = self._versions.get(gateway, 0)
        assert version > former, f"the view of {gateway} went back: {version} after {former}"
        self._versions[gateway] = version
        known = self._epochs[gateway]
        for shard, epoch in epochs:
            newest = known.get(shard, 0)
            assert epoch >= newest, f"a view of {gateway} went back: {shard} at epoch {epoch} after {newest}"
            known[shard] = epoch


class SilenceIsNoDeath:
    """No node that runs and can be reached is lost for its silence, however long the coordinator did not run."""

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_ms = timeout_ms

    def lost(self, process: Process, why: str, silent_ms: int) -> None:
        """``silent_ms``: for how long nothing has kept it from being heard."""
        is_blamed = why.startswith("heartbeats missed") and silent_ms > self._timeout_ms
        assert not is_blamed, f"{process} was lost though it runs: {why}"


class RetriesWait:
    """What failed is not tried again at once. Orders to a process are called (kind, node, incarnation, ...)."""

    def __init__(self) -> None:
        self._failed_ms: dict[tuple[object, ...], int] = {}

    def failed(self, what: tuple[object, ...], now_ms: int) -> None:
        self._failed_ms[what] = now_ms

    def joined(self, process: Process) -> None:
        """What it is told for that may be what it was told just before, and did not hear."""
        self._failed_ms = {what: ms for what, ms in self._failed_ms.items() if what[1:3] != process}

    def tried(self, what: tuple[object, ...], now_ms: int) -> None:
        failed_ms = self._failed_ms.pop(what, None)
        is_at_once = failed_ms is not None and now_ms - failed_ms < RETRY_MIN_MS
        assert not is_at_once, f"{what} is tried again {now_ms - (failed_ms or 0)} ms after it failed"


class Checkers:
    """One of each."""

    def __init__(self, heartbeat_timeout_ms: int) -> None:
        self.one_leads = OneCoordinatorActs()
        self.handed_on = HandedOnOnlyWhenLetGo()
        self.one_owner = OneOwnerAcknowledges()
        self.kept = AcknowledgedIsKept()
        self.newest = NewestAnswers()
        self.epochs = EpochsAgree()
        self.served = NothingServedIsDeleted()
        self.gone = DeletedIsGone()
        self.views = ViewsNeverGoBack()
        self.silence = SilenceIsNoDeath(heartbeat_timeout_ms)
        self.retries = RetriesWait()
