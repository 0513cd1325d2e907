"""The lines of a failed history that matter, in order, each with its time and the id of its cause."""

from __future__ import annotations

from filoray.cluster.simulation.checkers import ShardKey
from filoray.cluster.simulation.history import FaultMark, HistoryFailed
from filoray.cluster.simulation.shard_watch import EntryChange, ServingChange
from filoray.cluster.simulation.world import TraceLine

LINES_MAX = 60
_NOISE = ("shards dataset=", "heartbeat missed", "a gateway took no view")
"""Told otherwise, or of no account."""


def tell(failed: HistoryFailed) -> list[str]:
    """Of a history that was played with a record: faults, lives of processes, and what happened to the shard.

    Of a failure that is about no shard, what happened to all of them.
    """
    lines: list[str] = []
    last: tuple[object, ...] = ()
    for line in failed.cluster.world.lines:
        if _matters(line, failed.shard) and (line.text, line.values) != last:  # once of what is said again and again
            last = (line.text, line.values)
            lines.append(_in_words(line))
    left_out = len(lines) - LINES_MAX
    if left_out > 0:
        lines = [f"          … {left_out} lines before these", *lines[left_out:]]
    return lines


def _matters(line: TraceLine, shard: ShardKey | None) -> bool:
    about = line.values[0] if line.values else None
    match about:
        case FaultMark():
            return True
        case EntryChange(shard=other) | ServingChange(shard=other):
            return shard is None or other == shard
        case _:
            return not line.text.startswith(_NOISE) and (shard is None or _shard_of(line) in (None, shard))


def _shard_of(line: TraceLine) -> object:
    """The one that a node or the coordinator speaks of, if it does."""
    if line.text.startswith("a report does not fit"):
        return line.values[:2]
    return next((value for value in line.values if isinstance(value, tuple)), None)


def _in_words(line: TraceLine) -> str:
    return f"{line}   [{line.cause}]" if line.cause else str(line)
