"""What came out of random histories: of one, and of many put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from filoray.cluster.simulation.cluster import SimulatedCluster
from filoray.cluster.simulation.faults import present_troubles
from filoray.cluster.simulation.history import FaultMark, HistoryFailed, HistoryShape, play_history


@dataclass(frozen=True, slots=True)
class Failure:
    """``rule``: the one that was broken, in words; ``problem``: by what."""

    rule: str
    problem: str


@dataclass(frozen=True, slots=True)
class Spread:
    """Shards of a node in the end: the fewest and the most."""

    fewest: int
    most: int


@dataclass(frozen=True, slots=True)
class HistoryResult:
    """Picklable. ``checks``: how often each rule was put to the test. ``lasted_ms``: in the cluster's time.

    ``gaps_ms``: how often a shard that was served before was served by nobody for how long. ``moves``: assignments of
    a shard beyond its first. ``spread``: None if there was nothing to spread.
    """

    seed: int
    lasted_ms: int
    checks: dict[str, int]
    faults: Counter[str]
    troubles: tuple[str, ...]
    gaps_ms: Counter[int]
    moves: int
    spread: Spread | None
    failure: Failure | None = None

    @property
    def gap_total_ms(self) -> int:
        return sum(length_ms * count for length_ms, count in self.gaps_ms.items())


def play(seed: int, shape: HistoryShape) -> HistoryResult:
    """A history from its beginning to its end, or to what fails in it."""
    try:
        history = play_history(seed, shape)
    except HistoryFailed as failed:
        return result_of(seed, failed.cluster, failed.faults, Failure(failed.rule, failed.problem))
    return result_of(seed, history.cluster, history.faults)


def result_of(
    seed: int, cluster: SimulatedCluster, faults: Iterable[FaultMark], failure: Failure | None = None
) -> HistoryResult:
    watch = cluster.watch
    return HistoryResult(
        seed,
        cluster.now_ms,
        cluster.checkers.counts(),
        Counter(fault.kind for fault in faults),
        present_troubles(cluster.drawn_rates),
        watch.gap_lengths_ms(),
        watch.moves,
        spread_of(cluster),
        failure,
    )


def spread_of(cluster: SimulatedCluster) -> Spread | None:
    """Over the members, of all datasets."""
    if cluster.coordinator is None:
        return None
    manager = cluster.coordinator.core.manager
    maps = [shard_map for _, shard_map in manager.datasets.values()]
    loads = [sum(shard_map.load_of(node) for shard_map in maps) for node in manager.members]
    return Spread(min(loads), max(loads)) if maps and loads else None


@dataclass(slots=True)
class Tally:
    """Of the histories added so far. ``spreads``: how often one node had how many shards more than another.

    ``worst_seed``: of the history in which shards were without an owner the longest, all together.
    """

    histories: int = 0
    lasted_ms: int = 0
    moves: int = 0
    checks: Counter[str] = field(default_factory=Counter)
    broken: dict[str, list[int]] = field(default_factory=dict)
    """Rule to the seeds that broke it."""
    failures: dict[int, Failure] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    gaps_ms: Counter[int] = field(default_factory=Counter)
    spread: Spread | None = None
    spreads: Counter[int] = field(default_factory=Counter)
    worst_seed: int = 0
    worst_gap_ms: int = -1

    def add(self, result: HistoryResult) -> None:
        self.histories += 1
        self.lasted_ms += result.lasted_ms
        self.moves += result.moves
        self.checks.update(result.checks)
        self.faults += result.faults
        self.troubles.update(result.troubles)
        self.gaps_ms += result.gaps_ms
        if (failure := result.failure) is not None:
            self.failures[result.seed] = failure
            self.broken.setdefault(failure.rule, []).append(result.seed)
            self.checks.setdefault(failure.rule, 0)
        if (spread := result.spread) is not None:
            known = self.spread or spread
            self.spread = Spread(min(known.fewest, spread.fewest), max(known.most, spread.most))
            self.spreads[spread.most - spread.fewest] += 1
        if result.gap_total_ms > self.worst_gap_ms:
            self.worst_seed, self.worst_gap_ms = result.seed, result.gap_total_ms

    @property
    def gaps(self) -> GapFigures:
        return GapFigures.of(self.gaps_ms)


@dataclass(frozen=True, slots=True)
class GapFigures:
    """How long shards stood without an owner."""

    count: int
    median_ms: int
    p99_ms: int
    max_ms: int
    total_ms: int

    @classmethod
    def of(cls, gaps_ms: Counter[int]) -> GapFigures:
        return cls(
            count=gaps_ms.total(),
            median_ms=_quantile(gaps_ms, 0.5),
            p99_ms=_quantile(gaps_ms, 0.99),
            max_ms=max(gaps_ms, default=0),
            total_ms=sum(length_ms * count for length_ms, count in gaps_ms.items()),
        )


def _quantile(counts: Counter[int], share: float) -> int:
    """The smallest value that is not below so large a share of all; 0 of nothing."""
    wanted = share * counts.total()
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return value
    return 0
