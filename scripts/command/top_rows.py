"""From two readings of a cluster's figures to the rows that ``filoray top`` shows: rates, ages, what comes first.

A core: no clock, no network, no terminal. A rate is what a counter grew by, over the time that passed by the clock of
the process that has it. A counter that began anew between the two readings (a node that was started again, a shard that
was opened elsewhere) grew by all that it has; of one that was not read before, nothing is known yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from filoray.cluster.process.process_figures import ProcessFigures
from filoray.http.fanout.cluster_figures import (
    ClusterFigures,
    GatewayFigures,
    NodeReading,
    Presence,
    ShardReading,
    Standing,
)
from filoray.nodes.data.node_figures import NodeFigures, ShardFigures

_STATUS_PREFIX = "ShardStatus"
ACTIVE = "Active"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """``taken_ms``: when it arrived, by the looker's own clock that never jumps."""

    figures: ClusterFigures
    taken_ms: int


class SortBy(StrEnum):
    NAME = "name"
    RATE = "samples/s"
    SERIES = "series"
    UNFLUSHED = "unflushed"
    AGE = "age"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Somebody who ought to be there and is not, or does not answer."""

    name: str
    standing: Standing


@dataclass(frozen=True, slots=True)
class ShardError:
    """Shards of a data set that are in Error for one reason."""

    dataset: str
    shards: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Totals:
    """Over all that is known. Rates are None while none is. ``gateway``: who was asked.

    ``copies``: how many there are to be, of shards that are to have several, and ``copies_in_sync`` of them.
    """

    cluster: str
    gateway: str
    nodes_up: int
    nodes: int
    gateways_up: int
    gateways: int
    datasets: tuple[str, ...]
    shards_active: int
    shards: int
    copies_in_sync: int
    copies: int
    series: int
    samples_per_s: float | None
    refused_per_s: float | None
    queries_per_s: float | None


@dataclass(frozen=True, slots=True)
class NodeRow:
    """Numbers are None where the node did not answer; rates also where it was not read before."""

    node: str
    standing: Standing
    incarnation: int
    is_drained: bool
    shards: int
    uptime_ms: int | None = None
    series: int | None = None
    samples_per_s: float | None = None
    queries_per_s: float | None = None
    cpu_percent: float | None = None
    memory_bytes: int | None = None
    queue: int | None = None
    """What waits for its ingest thread or for a thread that reads."""


@dataclass(frozen=True, slots=True)
class ShardRow:
    """``status`` without FiloDB's prefix. Numbers are None of a shard that nobody has open."""

    dataset: str
    shard: int
    status: str
    node: str | None
    epoch: int
    series: int | None = None
    samples_per_s: float | None = None
    refused_per_s: float | None = None
    unflushed_samples: int | None = None
    log_bytes: int | None = None
    memory_bytes: int | None = None
    stored_bytes: int | None = None
    newest_age_ms: int | None = None
    """How far the newest sample is behind the calendar of the gateway that was asked; negative: ahead."""
    lag: int | None = None
    """Of its source; of a shard with followers, entries that the last of them lacks, None if one has no copy yet."""
    copies: tuple[int, int] | None = None
    """Of as many as there are to be, how many are in sync; then how many there are to be."""

    @property
    def lacks_copies(self) -> bool:
        return self.copies is not None and self.copies[0] < self.copies[1]


@dataclass(frozen=True, slots=True)
class Overview:
    totals: Totals
    troubles: tuple[Trouble, ...]
    errors: tuple[ShardError, ...]
    nodes: tuple[NodeRow, ...]
    shards: tuple[ShardRow, ...]


def overview(before: Snapshot | None, now: Snapshot) -> Overview:
    """Rows in the order of their names."""
    shards = tuple(_shard_rows(before, now))
    nodes = tuple([_node_row(before, now, reading, shards) for reading in now.figures.nodes])
    return Overview(
        _totals(before, now, shards), tuple(_troubles(now.figures)), tuple(_errors(now.figures)), nodes, shards
    )


def chosen_nodes(rows: Sequence[NodeRow], room: int | None) -> list[NodeRow]:
    """As many as there is room for: by name if that is all, else those that are not up, then the busiest."""
    if room is None or len(rows) <= room:
        return list(rows)
    ranked = sorted(rows, key=lambda row: (row.standing.presence is Presence.UP, -(row.samples_per_s or 0)))
    return ranked[:room]


def chosen_shards(rows: Sequence[ShardRow], room: int | None, sort_by: SortBy) -> list[ShardRow]:
    """As many as there is room for, in the order asked for: if that is not all, those that are not Active come first,
    then those that lack copies.
    """
    if room is None or len(rows) <= room:
        return sorted(rows, key=_ORDERS[sort_by])
    order = _ORDERS[SortBy.RATE if sort_by is SortBy.NAME else sort_by]
    return sorted(rows, key=lambda row: (row.status == ACTIVE, not row.lacks_copies, order(row)))[:room]


def growth(before: int | None, now: int, *, is_anew: bool) -> int | None:
    """What a counter grew by; None: not known. ``is_anew``: it began at 0 since the last reading."""
    if is_anew:
        return now
    return None if before is None or now < before else now - before


def per_second(grown: int | None, passed_ms: int) -> float | None:
    """None while no time has passed: two answers of one reading."""
    return None if grown is None or passed_ms <= 0 else grown * 1000 / passed_ms


_ORDERS: dict[SortBy, Callable[[ShardRow], tuple[float, str, int]]] = {
    SortBy.NAME: lambda row: (0, row.dataset, row.shard),
    SortBy.RATE: lambda row: (-(row.samples_per_s or 0), row.dataset, row.shard),
    SortBy.SERIES: lambda row: (-(row.series or 0), row.dataset, row.shard),
    SortBy.UNFLUSHED: lambda row: (-(row.unflushed_samples or 0), row.dataset, row.shard),
    SortBy.AGE: lambda row: (-(row.newest_age_ms or 0), row.dataset, row.shard),
}


@dataclass(frozen=True, slots=True)
class _Passed:
    """Between two readings of one process. ``is_anew``: it was started since the first."""

    ms: int
    is_anew: bool


def _passed(
    before: ProcessFigures | None, now: ProcessFigures, between_ms: int, *, is_anew: bool = False
) -> _Passed | None:
    """None: it was not read before. ``between_ms``: between the two readings, by the looker's clock."""
    if before is None:
        return None
    if is_anew or before.pid != now.pid or now.uptime_ms < before.uptime_ms:
        return _Passed(between_ms, is_anew=True)
    return _Passed(now.uptime_ms - before.uptime_ms, is_anew=False)


def _node_row(before: Snapshot | None, now: Snapshot, reading: NodeReading, shards: Sequence[ShardRow]) -> NodeRow:
    owned = [row for row in shards if row.node == reading.node]
    figures = reading.figures
    if figures is None:
        return NodeRow(reading.node, reading.standing, reading.incarnation, reading.is_drained, len(owned))
    old = _node_figures(before, reading.node)
    passed = _node_passed(before, now, old, figures)
    process, requests = figures.process, figures.requests
    cpu = queries = None
    if passed is not None:
        cpu = per_second(growth(_cpu_ms(old), process.cpu_ms, is_anew=passed.is_anew), passed.ms)
        answered = None if old is None else old.requests.queries_answered
        queries = per_second(growth(answered, requests.queries_answered, is_anew=passed.is_anew), passed.ms)
    return NodeRow(
        reading.node,
        reading.standing,
        figures.incarnation,
        reading.is_drained,
        len(owned),
        uptime_ms=process.uptime_ms,
        series=sum(shard.series for shard in figures.shards),
        samples_per_s=_sum(row.samples_per_s for row in owned),
        queries_per_s=queries,
        cpu_percent=None if cpu is None else cpu / 10,
        memory_bytes=process.resident_bytes,
        queue=figures.ingest_queue + requests.reads_waiting,
    )


def _cpu_ms(figures: NodeFigures | None) -> int | None:
    return None if figures is None else figures.process.cpu_ms


def _node_passed(before: Snapshot | None, now: Snapshot, old: NodeFigures | None, new: NodeFigures) -> _Passed | None:
    if before is None or old is None:
        return None
    between_ms = now.taken_ms - before.taken_ms
    return _passed(old.process, new.process, between_ms, is_anew=old.incarnation != new.incarnation)


def _node_figures(snapshot: Snapshot | None, node: str) -> NodeFigures | None:
    if snapshot is None:
        return None
    return next((reading.figures for reading in snapshot.figures.nodes if reading.node == node), None)


@dataclass(frozen=True, slots=True)
class _OpenShard:
    node: str
    node_figures: NodeFigures
    figures: ShardFigures


def _open_shards(snapshot: Snapshot | None) -> dict[tuple[str, int], _OpenShard]:
    """By data set and shard; of two nodes that say they have one, the later epoch's."""
    found: dict[tuple[str, int], _OpenShard] = {}
    for reading in snapshot.figures.nodes if snapshot is not None else ():
        for shard in reading.figures.shards if reading.figures is not None else ():
            known = found.get((shard.dataset, shard.shard))
            if known is None or known.figures.epoch < shard.epoch:
                assert reading.figures is not None, "it has shards"
                found[shard.dataset, shard.shard] = _OpenShard(reading.node, reading.figures, shard)
    return found


def _shard_rows(before: Snapshot | None, now: Snapshot) -> Iterator[ShardRow]:
    opened_before, opened = _open_shards(before), _open_shards(now)
    for dataset in now.figures.datasets:
        for shard in dataset.shards:
            key = dataset.dataset, shard.shard
            found = opened.get(key)
            if found is None or (found.node, found.figures.epoch) != (shard.node, shard.epoch):
                yield _closed_row(dataset.dataset, shard)
            else:
                between_ms = 0 if before is None else now.taken_ms - before.taken_ms
                row = _open_row(shard, opened_before.get(key), found, between_ms, now.figures.time_ms)
                yield replace(row, copies=_copies(found.figures, dataset.num_replicas))


def _closed_row(dataset: str, shard: ShardReading) -> ShardRow:
    return ShardRow(dataset, shard.shard, _status(shard), shard.node, shard.epoch)


def _open_row(
    shard: ShardReading, before: _OpenShard | None, now: _OpenShard, between_ms: int, time_ms: int
) -> ShardRow:
    figures = now.figures
    passed = None
    if before is not None:
        is_anew = (before.node, before.figures.epoch) != (now.node, figures.epoch)
        passed = _passed(before.node_figures.process, now.node_figures.process, between_ms, is_anew=is_anew)
    accepted = refused = None
    if before is not None and passed is not None:
        old = before.figures
        accepted = growth(old.samples_accepted, figures.samples_accepted, is_anew=passed.is_anew)
        refused = growth(old.samples_refused, figures.samples_refused, is_anew=passed.is_anew)
    passed_ms = 0 if passed is None else passed.ms
    return ShardRow(
        figures.dataset,
        figures.shard,
        _status(shard),
        shard.node,
        shard.epoch,
        series=figures.series,
        samples_per_s=per_second(accepted, passed_ms),
        refused_per_s=per_second(refused, passed_ms),
        unflushed_samples=figures.unflushed_samples,
        log_bytes=figures.log_bytes,
        memory_bytes=figures.memory_bytes,
        stored_bytes=figures.stored_bytes,
        newest_age_ms=None if figures.newest_sample_ms is None else time_ms - figures.newest_sample_ms,
        lag=_lag_of(figures),
    )


def _copies(figures: ShardFigures, wanted: int) -> tuple[int, int]:
    """More follow while a shard moves: those are to take the others' place."""
    return min(wanted, 1 + sum(it.in_sync for it in figures.followers)), wanted


def _lag_of(figures: ShardFigures) -> int | None:
    lags = [it.lag_entries for it in figures.followers]
    known = [lag for lag in lags if lag is not None]
    if not lags:
        return figures.stream_lag
    return max(known) if len(known) == len(lags) else None


def _status(shard: ShardReading) -> str:
    return shard.status.removeprefix(_STATUS_PREFIX)


def _totals(before: Snapshot | None, now: Snapshot, shards: Sequence[ShardRow]) -> Totals:
    figures = now.figures
    replicated = {one.dataset: one for one in figures.datasets if one.num_replicas > 1}
    return Totals(
        cluster=figures.cluster,
        gateway=figures.gateway,
        nodes_up=sum(reading.standing.presence is Presence.UP for reading in figures.nodes),
        nodes=len(figures.nodes),
        gateways_up=sum(reading.standing.presence is Presence.UP for reading in figures.gateways),
        gateways=len(figures.gateways),
        datasets=tuple([reading.dataset for reading in figures.datasets]),
        shards_active=sum(row.status == ACTIVE for row in shards),
        shards=len(shards),
        copies_in_sync=sum(row.copies[0] for row in shards if row.copies is not None and row.dataset in replicated),
        copies=sum(one.num_replicas * len(one.shards) for one in replicated.values()),
        series=sum(row.series or 0 for row in shards),
        samples_per_s=_sum(row.samples_per_s for row in shards),
        refused_per_s=_sum(row.refused_per_s for row in shards),
        queries_per_s=_sum(_gateway_queries(before, now)),
    )


def _gateway_queries(before: Snapshot | None, now: Snapshot) -> Iterator[float | None]:
    """Of each gateway that answered."""
    old: dict[str, GatewayFigures] = {}
    if before is not None:
        old = {one.gateway: one.figures for one in before.figures.gateways if one.figures is not None}
    for reading in now.figures.gateways:
        known, figures = old.get(reading.gateway), reading.figures
        if before is None or known is None or figures is None:
            continue
        passed = _passed(known.process, figures.process, now.taken_ms - before.taken_ms)
        assert passed is not None, "it was read before"
        yield per_second(growth(known.queries_answered, figures.queries_answered, is_anew=passed.is_anew), passed.ms)


def _troubles(figures: ClusterFigures) -> Iterator[Trouble]:
    named = [("coordinator", figures.coordinator)]
    named += [(reading.node, reading.standing) for reading in figures.nodes]
    named += [(reading.gateway, reading.standing) for reading in figures.gateways]
    for name, standing in named:
        if standing.presence is not Presence.UP:
            yield Trouble(name, standing)


def _errors(figures: ClusterFigures) -> Iterator[ShardError]:
    for dataset in figures.datasets:
        by_reason: dict[str, list[int]] = {}
        for shard in dataset.shards:
            if shard.reason:
                by_reason.setdefault(shard.reason, []).append(shard.shard)
        for reason, shards in by_reason.items():
            yield ShardError(dataset.dataset, tuple(shards), reason)


def _sum(values: Iterable[float | None]) -> float | None:
    """Of those that are known; None if none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
