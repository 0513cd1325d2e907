"""Who serves which shard of a simulated cluster, for how long nobody did, and how often shards were given out anew.

In: what nodes begin and end to serve, and the coordinator's shard maps whenever they may have changed. Out: figures of
a whole history, and, if wanted, a record of it from which a report or a story is made. It decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.shard_map import ShardEntry, ShardMap
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.simulation.checkers import Process, ShardKey
from filoray.cluster.simulation.world import SimulatedWorld


@dataclass(frozen=True, slots=True)
class EntryChange:
    """What the coordinator's map says of a shard from ``at_ms`` on; ``entry`` None: its dataset is no more.

    ``cause``: the id by which the trace tells what led to it.
    """

    at_ms: int
    shard: ShardKey
    entry: ShardEntry | None
    cause: str = ""

    def __str__(self) -> str:
        dataset, shard = self.shard
        if self.entry is None:
            return f"shard {dataset}/{shard} is no more"
        owner = f" at {self.entry.node}, epoch {self.entry.epoch}" if self.entry.node is not None else ""
        return f"shard {dataset}/{shard} is {_short(self.entry.status.kind)}{owner}"


@dataclass(frozen=True, slots=True)
class ServingChange:
    """A process begins, or ends, to serve a shard."""

    at_ms: int
    shard: ShardKey
    process: Process
    is_begin: bool

    def __str__(self) -> str:
        node, incarnation = self.process
        verb = "serves" if self.is_begin else "serves no more"
        return f"{node}#{incarnation} {verb} {self.shard[0]}/{self.shard[1]}"


@dataclass(slots=True)
class HistoryRecord:
    """In the order in which it happened."""

    entries: list[EntryChange] = field(default_factory=list)
    serving: list[ServingChange] = field(default_factory=list)


@dataclass(slots=True)
class _Gap:
    """A time in which nobody serves a shard. ``since_ms``: None while an operator wants it stopped."""

    since_ms: int | None
    counted_ms: int = 0

    def length_ms(self, now_ms: int) -> int:
        return self.counted_ms + (0 if self.since_ms is None else now_ms - self.since_ms)


class ShardWatch:
    """``record``: filled as things happen. ``look_every_ms``: how seldom it looks at the coordinator's maps."""

    def __init__(self, world: SimulatedWorld, record: HistoryRecord | None = None, look_every_ms: int = 0) -> None:
        self.record = record
        self.moves = 0
        """Assignments of a shard beyond its first."""
        self.last_gap_ms: dict[ShardKey, int] = {}
        """For how long nobody served each shard the last time that it was so and is over."""
        self._world = world
        self._look_every_ms = look_every_ms
        self._look_due_ms = 0
        self._maps: dict[str, tuple[int, ShardMap]] = {}
        self._serving: dict[ShardKey, list[Process]] = {}
        self._served: set[ShardKey] = set()
        """Those that were served since their dataset was set up."""
        self._epochs: dict[ShardKey, int] = {}
        """Of those that were given out since their dataset was set up."""
        self._stopped: set[ShardKey] = set()
        self._gaps: dict[ShardKey, _Gap] = {}
        self._gap_lengths_ms: Counter[int] = Counter()

    # ---- what nodes do

    def began(self, key: ShardKey, process: Process) -> None:
        self._serving.setdefault(key, []).append(process)
        self._served.add(key)
        gap = self._gaps.pop(key, None)
        if gap is not None:
            length_ms = self.last_gap_ms[key] = gap.length_ms(self._world.now_ms)
            self._gap_lengths_ms[length_ms] += 1
        self._note_serving(key, process, is_begin=True)

    def ended(self, key: ShardKey, process: Process) -> None:
        holders = self._serving[key]
        holders.remove(process)
        if not holders:
            del self._serving[key]
            if key in self._served:
                self._gaps[key] = _Gap(None if key in self._stopped else self._world.now_ms)
        self._note_serving(key, process, is_begin=False)

    def holders(self, key: ShardKey) -> Collection[Process]:
        """Processes that serve it."""
        return self._serving.get(key, ())

    # ---- what the coordinator says

    def look(self, datasets: Mapping[str, tuple[DatasetConfig, ShardMap]], cause: str = "") -> None:
        """Its datasets may be others than before."""
        if self._world.now_ms < self._look_due_ms:
            return
        self._look_due_ms = self._world.now_ms + self._look_every_ms
        for name in self._maps.keys() - datasets.keys():
            self._forget(name, cause)
        for name, (config, shard_map) in datasets.items():
            generation, former = self._maps.get(name, (config.generation, None))
            if generation != config.generation:
                self._forget(name, cause)
                former = None
            if former is not shard_map:
                self._maps[name] = (config.generation, shard_map)
                for entry in shard_map.changed_since(former):
                    self._changed((name, entry.shard), entry, cause)

    def _changed(self, key: ShardKey, entry: ShardEntry, cause: str) -> None:
        known_epoch = self._epochs.get(key, 0)
        if entry.node is not None and entry.epoch > known_epoch:
            self.moves += known_epoch > 0
            self._epochs[key] = entry.epoch
        is_stopped = entry.status.kind is StatusKind.STOPPED
        if is_stopped != (key in self._stopped):
            self._count_gap(key, is_stopped=is_stopped)
        self._note_entry(key, entry, cause)

    def _count_gap(self, key: ShardKey, *, is_stopped: bool) -> None:
        """What an operator wants is no failing."""
        now_ms = self._world.now_ms
        if is_stopped:
            self._stopped.add(key)
        else:
            self._stopped.discard(key)
        gap = self._gaps.get(key)
        if gap is not None:
            gap.counted_ms, gap.since_ms = gap.length_ms(now_ms), None if is_stopped else now_ms

    def _forget(self, name: str, cause: str) -> None:
        """The dataset is no more: nobody is to serve it."""
        _, shard_map = self._maps.pop(name)
        keys = [(name, entry.shard) for entry in shard_map.shards]
        for key in keys:
            self._gaps.pop(key, None)
            self._epochs.pop(key, None)
        self._served.difference_update(keys)
        self._stopped.difference_update(keys)
        for key in keys:
            self._note_entry(key, None, cause)

    # ---- the record, which the trace has too

    def _note_serving(self, key: ShardKey, process: Process, *, is_begin: bool) -> None:
        if self.record is not None:
            change = ServingChange(self._world.now_ms, key, process, is_begin)
            self.record.serving.append(change)
            self._world.note("%s", change)

    def _note_entry(self, key: ShardKey, entry: ShardEntry | None, cause: str) -> None:
        if self.record is not None:
            change = EntryChange(self._world.now_ms, key, entry, cause)
            self.record.entries.append(change)
            self._world.note("%s", change, cause=cause)

    # ---- what can be asked

    def gap_lengths_ms(self) -> Counter[int]:
        """How often nobody served a shard for how long, those times included that are not over."""
        now_ms = self._world.now_ms
        return self._gap_lengths_ms + Counter(gap.length_ms(now_ms) for gap in self._gaps.values())


def _short(kind: StatusKind) -> str:
    return kind.value.removeprefix("ShardStatus")
