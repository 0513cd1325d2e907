"""What happened to the shards of a recorded history, as bands of a time line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from filoray.cluster.actor_names import slot_index
from filoray.cluster.control.assignment import node_order
from filoray.cluster.control.shard_map import ShardEntry
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.simulation.checkers import ShardKey
from filoray.cluster.simulation.report.timeline import Band, Segment
from filoray.cluster.simulation.shard_watch import EntryChange, HistoryRecord, ServingChange

SHARDS_MAX = 48
"""With more, there is a band for each node."""

_OWNER_COLOURS = 8
_COLOURS = {
    StatusKind.DOWN: "var(--down)",
    StatusKind.ERROR: "var(--error)",
    StatusKind.STOPPED: "var(--stopped)",
    StatusKind.UNASSIGNED: "var(--unassigned)",
}

LEGEND = [
    ("background:var(--owner-0)", "Active, in the colour of its owner"),
    ("background:var(--owner-0);opacity:.45", "Assigned or Recovery"),
    ("background:var(--error)", "Error"),
    ("background:var(--down)", "Down"),
    ("background:var(--stopped)", "Stopped by an operator"),
    ("background:var(--unassigned)", "Unassigned"),
    ("background:var(--down);height:3px;vertical-align:middle", "no process serves it"),
]


NODES_LEGEND = [("background:var(--owner-0)", "shards that a node serves: the more, the stronger its colour")]


def bands_of(record: HistoryRecord, end_ms: int) -> tuple[list[Band], list[tuple[str, str]]]:
    """A band for each shard, or, of many, for each node; and the legend of their colours."""
    shards = sorted({change.shard for change in record.entries})
    if len(shards) <= SHARDS_MAX:
        return list(_shard_bands(record, shards, end_ms)), LEGEND
    return list(_node_bands(record, end_ms)), NODES_LEGEND


def _shard_bands(record: HistoryRecord, shards: Sequence[ShardKey], end_ms: int) -> Iterator[Band]:
    for shard in shards:
        entries = [change for change in record.entries if change.shard == shard]
        serving = [change for change in record.serving if change.shard == shard]
        segments = [*_statuses(entries, end_ms), *_unserved(entries, serving, end_ms)]
        yield Band(f"{shard[0]} {shard[1]}", segments)


def _statuses(changes: Sequence[EntryChange], end_ms: int) -> Iterator[Segment]:
    for change, until_ms in zip(changes, [*(later.at_ms for later in changes[1:]), end_ms], strict=True):
        entry = change.entry
        if entry is None or until_ms == change.at_ms:
            continue
        status = entry.status.kind.value.removeprefix("ShardStatus")
        owner = f" at {entry.node}, epoch {entry.epoch}" if entry.node is not None else ""
        title = f"{status}{owner}: {change.at_ms / 1000:.2f} to {until_ms / 1000:.2f} s"
        is_active = entry.status.kind is StatusKind.ACTIVE
        opacity = 0.45 if entry.status.kind in (StatusKind.ASSIGNED, StatusKind.RECOVERY) else 1.0
        label = entry.node if is_active and entry.node is not None else ""
        yield Segment(change.at_ms, until_ms, _colour(entry), title, label, opacity)


def _colour(entry: ShardEntry) -> str:
    return _COLOURS.get(entry.status.kind) or owner_colour(entry.node or "")


def owner_colour(node: str) -> str:
    return f"var(--owner-{slot_index(node) % _OWNER_COLOURS})"


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
    return Segment(from_ms, to_ms, "var(--down)", title, is_thin=True)


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
        yield Band(node, list(_load_segments(node, loads[node], most, end_ms)))


def _load_segments(node: str, load: Sequence[tuple[int, int]], most: int, end_ms: int) -> Iterator[Segment]:
    for (at_ms, count), to_ms in zip(load, [*(at_ms for at_ms, _ in load[1:]), end_ms], strict=True):
        if count:
            title = f"{count} shards from {at_ms / 1000:.2f} s on"
            yield Segment(at_ms, to_ms, owner_colour(node), title, opacity=count / most)
