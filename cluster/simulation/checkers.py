"""What must hold in every history, each a small class with its rule in words: violations raise RuleBroken.

The simulated parts call the hooks as things happen; a checker takes those that it needs, and counts how often it has
looked, as a rule that was never put to the test says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import ClassVar

from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.control.shard_map import ShardMap

ShardKey = tuple[str, int]
"""(dataset, shard)."""

FileKey = tuple[str, int, int]
"""(dataset, shard, generation)."""

StoredKey = tuple[str, int, int, str]
"""(dataset, shard, generation, node): where a file is; "" for the node: in the place that all nodes share."""

SampleId = int
"""Of one sample that a leader took, the same in all copies."""

Process = tuple[str, int]
"""(node, incarnation)."""

RETRY_MIN_MS = 100
"""Less than any delay before a retry."""

NOTHING_UNFORESEEN = "Nothing raises an error that nobody foresaw."
"""The rule of whatever else fails in a history."""


class RuleBroken(AssertionError):
    """``rule``: in words. ``shard``: the one that it is about, if it is about one."""

    def __init__(self, rule: str, problem: str, shard: ShardKey | None = None) -> None:
        super().__init__(problem)
        self.rule = rule
        self.shard = shard


class Checker:
    """``count``: how often it has looked."""

    rule: ClassVar[str]

    def __init__(self) -> None:
        self.count = 0

    def broken(self, problem: str, shard: ShardKey | None = None) -> RuleBroken:
        return RuleBroken(self.rule, problem, shard)


class OneCoordinatorActs(Checker):
    """Whatever one that led before knows."""

    rule = "Once a coordinator has begun, none that began before does anything any more."

    def __init__(self) -> None:
        super().__init__()
        self._newest = 0

    def began(self, generation: int) -> None:
        self._newest = max(generation, self._newest)

    def acts(self, generation: int, what: object) -> None:
        self.count += 1
        if generation < self._newest:
            raise self.broken(f"coordinator {generation} does {what} while {self._newest} leads")


class HandedOnOnlyWhenLetGo(Checker):
    """One that still holds it would answer with old data."""

    rule = "A shard goes to a new owner only when no other process holds it."

    def ordered(self, key: ShardKey, owner: Process, epoch: int, holders: Iterable[Process]) -> None:
        self.count += 1
        for holder in holders:
            if holder != owner:
                raise self.broken(f"{key} goes to {owner} at epoch {epoch} while {holder} still holds it", key)


class OneOwnerAcknowledges(Checker):
    rule = "An epoch of a shard is acknowledged by one process only, and acknowledged epochs never go back."

    def __init__(self) -> None:
        super().__init__()
        self._owners: dict[tuple[ShardKey, int], Process] = {}
        self._newest: dict[ShardKey, int] = {}

    def acknowledged(self, key: ShardKey, epoch: int, process: Process) -> None:
        self.count += 1
        owner = self._owners.setdefault((key, epoch), process)
        if owner != process:
            raise self.broken(f"{key} epoch {epoch}: {owner} and {process} acknowledged", key)
        if epoch < self._newest.get(key, 0):
            raise self.broken(f"{key}: epoch {epoch} acknowledged after a newer one", key)
        self._newest[key] = epoch


class AcknowledgedIsKept(Checker):
    rule = "Whoever answers a read has all that was acknowledged for the shard when the read was asked."

    def __init__(self) -> None:
        super().__init__()
        self._samples: dict[FileKey, int] = {}

    def acknowledged(self, file: FileKey, samples: int) -> None:
        self._samples[file] = max(samples, self._samples.get(file, 0))

    def floor(self, file: FileKey) -> int:
        """What a read that is asked now must see."""
        return self._samples.get(file, 0)

    def answered(self, file: FileKey, floor: int, samples: int, process: Process) -> None:
        self.count += 1
        if samples < floor:
            raise self.broken(f"{process} answers for {file} with {samples} samples of {floor} acknowledged", file[:2])


class LeaderHasAll(Checker):
    rule = "Whoever leads a shard has every sample of it that was acknowledged or shown."

    def __init__(self) -> None:
        super().__init__()
        self._shown: dict[FileKey, dict[SampleId, None]] = {}

    def shown(self, file: FileKey, ids: Iterable[SampleId]) -> None:
        """Acknowledged or not."""
        self._shown.setdefault(file, {}).update(dict.fromkeys(ids))

    def leads(self, file: FileKey, found: Iterable[SampleId], process: Process) -> None:
        self.count += 1
        missing = self._shown.get(file, {}).keys() - set(found)
        if missing:
            raise self.broken(f"{process} leads {file} without the samples {sorted(missing)[:5]}", file[:2])


class InSyncHaveIt(Checker):
    rule = "What is acknowledged or shown is at that moment in every copy of those that may lead next."

    def released(self, file: FileKey, ids: Iterable[SampleId], copies: Mapping[str, Collection[SampleId]]) -> None:
        """``copies``: by node what it has, of those in the durable set in sync whose disks were not lost."""
        self.count += 1
        for node, has in copies.items():
            missing = [number for number in ids if number not in has]
            if missing:
                raise self.broken(
                    f"{file}: {node} is in sync, and does not have what is shown: {missing[:5]}", file[:2]
                )


class WarmIsTheStore(Checker):
    rule = "A node that leads a shard by what it has in memory shows exactly what the shard's store has."

    def leads(self, file: FileKey, has: object, stored: object, process: Process) -> None:
        """``has``: what it would find in its memory; ``stored``: in the store, which is its own from now on."""
        self.count += 1
        if has != stored:
            raise self.broken(f"{process} leads {file} with {has} in its memory, and the store has {stored}", file[:2])


class MovesLeaveNoGap(Checker):
    rule = "A shard that moves between healthy nodes has no owner for only as long as the switch takes."

    def moved(self, key: ShardKey, gap_ms: int, switch_ms_max: int) -> None:
        """``gap_ms``: for how long nobody served it, ``switch_ms_max``: for how long that may be."""
        self.count += 1
        if gap_ms > switch_ms_max:
            raise self.broken(f"{key} was served by nobody for {gap_ms} ms when it moved, of {switch_ms_max}", key)


class NewestAnswers(Checker):
    rule = "Whoever may answer has opened the shard at the newest epoch, whatever view the reader has."

    def __init__(self) -> None:
        super().__init__()
        self._newest: dict[ShardKey, int] = {}

    def opened(self, key: ShardKey, epoch: int) -> None:
        self._newest[key] = max(epoch, self._newest.get(key, 0))

    def answers(self, key: ShardKey, epoch: int, process: Process) -> None:
        self.count += 1
        newest = self._newest.get(key, 0)
        if newest > epoch:
            raise self.broken(f"{process} answers for {key} at epoch {epoch} while {newest} may have newer data", key)


class EpochsAgree(Checker):
    rule = "A node takes nothing that was routed by another epoch than it holds."

    def taken(self, key: ShardKey, routed: int, held: int, process: Process) -> None:
        self.count += 1
        if routed != held:
            raise self.broken(f"{process} holds {key} at epoch {held} and took what was routed by epoch {routed}", key)


class NothingServedIsDeleted(Checker):
    rule = "No owner's file is deleted under it, though deletions come late and twice."

    def __init__(self) -> None:
        super().__init__()
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
        self.count += 1
        if not is_there and not self.is_deleted(file):
            raise self.broken(f"{file} of {process} was deleted under the owner", file[:2])


class DeletedIsGone(Checker):
    rule = "When a deletion is forgotten, no file of it is left."

    def forgotten(self, dataset: str, generation: int, files: Iterable[StoredKey]) -> None:
        self.count += 1
        left = sorted(file for file in files if file[0] == dataset and file[2] <= generation)
        if left:
            raise self.broken(f"the deletion of {dataset}@{generation} is forgotten, and {left} are left", left[0][:2])


class ViewsNeverGoBack(Checker):
    rule = "A gateway's view never goes back, in version or in any shard's epoch."

    def __init__(self) -> None:
        super().__init__()
        self._versions: dict[str, int] = {}
        self._maps: dict[str, dict[str, ShardMap]] = {}
        """Of each gateway, the last of every dataset that it ever knew."""
        self._compared: set[tuple[int, int]] = set()
        """Versions of maps that follow each other at some gateway; others see the same ones."""

    def began(self, gateway: str) -> None:
        """A gateway's process is another: it has seen nothing yet."""
        self._versions.pop(gateway, None)
        self._maps[gateway] = {}

    def seen(self, gateway: str, view: ClusterView) -> None:
        self.count += 1
        former = self._versions.get(gateway, 0)
        if view.version <= former:
            raise self.broken(f"the view of {gateway} went back: {view.version} after {former}")
        self._versions[gateway] = view.version
        known = self._maps[gateway]
        for name, dataset in view.datasets.items():
            if name in known:
                self._compare(gateway, known[name], dataset.shard_map)
            known[name] = dataset.shard_map

    def _compare(self, gateway: str, former: ShardMap, shard_map: ShardMap) -> None:
        versions = (former.version, shard_map.version)
        if former is shard_map or versions in self._compared:
            return
        for entry in shard_map.changed_since(former if len(former) == len(shard_map) else None):
            newest = former[entry.shard].epoch if entry.shard < len(former) else 0
            if entry.epoch < newest:
                shard = (shard_map.dataset, entry.shard)
                raise self.broken(
                    f"a view of {gateway} went back: {shard} at epoch {entry.epoch} after {newest}", shard
                )
        self._compared.add(versions)


class SilenceIsNoDeath(Checker):
    """However long the coordinator itself did not run."""

    rule = "No node that runs and can be reached is lost for its silence."

    def __init__(self, timeout_ms: int) -> None:
        super().__init__()
        self._timeout_ms = timeout_ms

    def lost(self, process: Process, why: str, silent_ms: int) -> None:
        """``silent_ms``: for how long nothing has kept it from being heard."""
        self.count += 1
        if why.startswith("heartbeats missed") and silent_ms > self._timeout_ms:
            raise self.broken(f"{process} was lost though it runs: {why}")


class RetriesWait(Checker):
    """Orders to a process are called (kind, node, incarnation, ...)."""

    rule = "What failed is not tried again at once."

    def __init__(self) -> None:
        super().__init__()
        self._failed_ms: dict[tuple[object, ...], int] = {}
        self._coordinator: object = None

    def failed(self, what: tuple[object, ...], now_ms: int, by: object = None) -> None:
        """``by``: the coordinator; what fails for a former one, which wakes up, its successor does not know."""
        if by is None or by is self._coordinator:
            self._failed_ms[what] = now_ms

    def began(self, coordinator: object) -> None:
        """Another one, which knows of nothing that failed before."""
        self._coordinator = coordinator
        self._failed_ms = {what: ms for what, ms in self._failed_ms.items() if not isinstance(what[0], str)}

    def joined(self, process: Process) -> None:
        """What it, and those that follow what it leads, are told for that may be what they just did not hear."""
        self._failed_ms = {
            what: ms for what, ms in self._failed_ms.items() if what[1:3] != process and what[0] != "follow"
        }

    def tried(self, what: tuple[object, ...], now_ms: int) -> None:
        failed_ms = self._failed_ms.pop(what, None)
        if failed_ms is None:
            return
        self.count += 1
        if now_ms - failed_ms < RETRY_MIN_MS:
            raise self.broken(f"{what} is tried again {now_ms - failed_ms} ms after it failed")


class CoresKeepTheirRules(Checker):
    """``every_ms``: how seldom it looks at one core of a large cluster; 0: after every event."""

    rule = "The ShardManager and the NodeCores keep the rules that they state of themselves."

    def __init__(self, every_ms: int = 0) -> None:
        super().__init__()
        self._every_ms = every_ms
        self._due_ms: dict[object, int] = {}

    def check(self, core: object, check_invariants: Callable[[], None], now_ms: int) -> None:
        """``core``: what it is called."""
        if self._every_ms:
            if now_ms < self._due_ms.get(core, 0):
                return
            self._due_ms[core] = now_ms + self._every_ms
        self.count += 1
        try:
            check_invariants()
        except AssertionError as error:
            raise self.broken(str(error)) from error


class HealedBecomesWhole(Checker):
    rule = "When all that went wrong is healed, every shard becomes Active where it is held, and nothing is left over."

    def looked(self, ailment: str) -> None:
        """In the end. ``ailment``: what is not as it must be, or ""."""
        self.count += 1
        if ailment:
            raise self.broken(ailment)


class AnyMachineMayGo(Checker):
    rule = "Where all is well on several machines, the nodes of no machine have the only copies in sync of a shard."

    def looked(self, problem: str) -> None:
        """When a machine is to be lost with its disks. ``problem``: what would be lost with it, or ""."""
        self.count += 1
        if problem:
            raise self.broken(problem)


class EndsEven(Checker):
    rule = "Nodes that stay end with shards spread evenly over them, and then no healthy shard moves."

    def looked(self, problem: str) -> None:
        """In the end. ``problem``: what is uneven or moves, or ""."""
        self.count += 1
        if problem:
            raise self.broken(problem)


class Checkers:
    """One of each. ``audit_every_ms``: as ``CoresKeepTheirRules`` has it."""

    def __init__(self, heartbeat_timeout_ms: int, audit_every_ms: int = 0) -> None:
        self.one_leads = OneCoordinatorActs()
        self.handed_on = HandedOnOnlyWhenLetGo()
        self.one_owner = OneOwnerAcknowledges()
        self.kept = AcknowledgedIsKept()
        self.leader_has_all = LeaderHasAll()
        self.in_sync_have_it = InSyncHaveIt()
        self.warm = WarmIsTheStore()
        self.gaps = MovesLeaveNoGap()
        self.newest = NewestAnswers()
        self.epochs = EpochsAgree()
        self.served = NothingServedIsDeleted()
        self.gone = DeletedIsGone()
        self.views = ViewsNeverGoBack()
        self.silence = SilenceIsNoDeath(heartbeat_timeout_ms)
        self.retries = RetriesWait()
        self.cores = CoresKeepTheirRules(audit_every_ms)
        self.healed = HealedBecomesWhole()
        self.machine_may_go = AnyMachineMayGo()
        self.even = EndsEven()

    def counts(self) -> dict[str, int]:
        """How often each rule was put to the test, by its words."""
        return {checker.rule: checker.count for checker in vars(self).values()}
