"""What happened to the shards of a recorded history, as bands of a time line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from filoray.cluster.control.assignment import node_order
from filoray.cluster.control.shard_status import OWNED
from filoray.cluster.report.shard_statuses import STATUS_LEGEND, StatusSpan, shard_label
from filoray.cluster.report.time_chart import Band, Segment
from filoray.cluster.simulation.checkers import ShardKey
from filoray.cluster.simulation.shard_watch import EntryChange, HistoryRecord, ServingChange

SHARDS_MAX = 48
"""With more, there is a band for each node."""

_LEGEND = [*STATUS_LEGEND, ("s-unserved", "no process serves it")]
_NODES_LEGEND = [("s-active", "shards that a node serves: the more, the stronger its colour")]


def bands_of(record: HistoryRecord, end_ms: int) -> tuple[list[Band], list[tuple[str, str]]]:
    """A band for each shard, or, of many, for each node; and the legend of their colours."""
    shards = sorted({change.shard for change in record.entries})
    if len(shards) <= SHARDS_MAX:
        return list(_shard_bands(record, shards, end_ms)), _LEGEND
    return list(_node_bands(record, end_ms)), _NODES_LEGEND


def _shard_bands(record: HistoryRecord, shards: Sequence[ShardKey], end_ms: int) -> Iterator[Band]:
    for shard in shards:
        entries = [change for change in record.entries if change.shard == shard]
        serving = [change for change in record.serving if change.shard == shard]
        segments = [*_statuses(entries, end_ms), *_unserved(entries, serving, end_ms)]
        yield Band(shard_label(*shard), segments)


def _statuses(changes: Sequence[EntryChange], end_ms: int) -> Iterator[Segment]:
    for change, until_ms in zip(changes, [*(later.at_ms for later in changes[1:]), end_ms], strict=True):
        entry = change.entry
        if entry is not None and until_ms > change.at_ms:
            kind = entry.status.kind
            node = (entry.node or "") if kind in OWNED else ""
            yield StatusSpan(change.at_ms, until_ms, kind, node, entry.epoch).segment()


def _unserved(entries: Sequence[EntryChange], serving: Sequence[ServingChange], end_ms: int) -> Iterator[Segment]:
    """From the end of its last server to the next one, or until its dataset is no more."""
    holders = 0
    for change, until_ms in zip(serving, [*(later.at_ms for later in serving[1:]), end_ms], strict=True):
        holders += 1 if change.is_begin else -1
        if holders:
            continue
        known = [entry for entry in entries if entry.at_ms <= change.at_ms]
        if known and known[-1].entry is None:
            continue
        deleted_ms = [entry.at_ms for entry in entries if entry.entry is None and entry.at_ms > change.at_ms]
        to_ms = min([until_ms, *deleted_ms])
        if to_ms > change.at_ms:
            yield _unserved_segment(change.at_ms, to_ms)


def _unserved_segment(from_ms: int, to_ms: int) -> Segment:
    title = f"no process serves it for {(to_ms - from_ms) / 1000:.2f} s, from {from_ms / 1000:.2f} s on"
    return Segment(from_ms, to_ms, "s-unserved", title, is_thin=True)


def _node_bands(record: HistoryRecord, end_ms: int) -> Iterator[Band]:
    """As strong as it has many shards, compared with the one that ever had most."""
    loads: dict[str, list[tuple[int, int]]] = {}
    """Of each node, (from when, how many)."""
    for change in record.serving:
        load = loads.setdefault(change.process[0], [(0, 0)])
        count = load[-1][1] + (1 if change.is_begin else -1)
        if load[-1][0] == change.at_ms:
            load.pop()
        load.append((change.at_ms, count))
    most = max((count for load in loads.values() for _, count in load), default=1)
    for node in sorted(loads, key=node_order):
        yield Band(node, list(_load_segments(loads[node], most, end_ms)))


def _load_segments(load: Sequence[tuple[int, int]], most: int, end_ms: int) -> Iterator[Segment]:
    for (at_ms, count), to_ms in zip(load, [*(at_ms for at_ms, _ in load[1:]), end_ms], strict=True):
        if count:
            title = f"{at_ms / 1000:.3f} to {to_ms / 1000:.3f} s: {count} shards"
            yield Segment(at_ms, to_ms, "s-active", title, opacity=count / most)
