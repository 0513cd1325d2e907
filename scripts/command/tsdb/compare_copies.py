"""Whether the copies of each shard have stored the same chunk batches: read and hashed, one copy after the other.

Leaders may go on meanwhile. A batch that only one copy has may be on its way to the others, and one that is dropped
goes from one copy after the other; so what differs is looked at again, and is a difference once it has stayed as it is
for a while. What a copy has in its log alone is not compared: it is in chunks soon.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from filoray.cluster.control.assignment import node_order
from filoray.cluster.errors import FilorayError, NotFound
from filoray.command.tsdb.shard_copies import read_places
from filoray.command.tsdb.shard_files import ShardFile
from filoray.nodes.memstore.store.copy_checksums import stored_checksums

LOOK_AGAIN_S = 0.5
UNCHANGED_S = 3.0
"""For so long a difference has to stay as it is: far more than an entry is on its way to a follower in sync."""
LOOKING_S_MAX = 60.0
"""After which it is told as it is, though a follower that joins may be getting what it lacks."""

Checksums = Mapping[int, int]
Looked = Mapping[str, Checksums | str]
"""Node to the checksums of its copy's batches, or to what is wrong with the copy."""


@dataclass(frozen=True, slots=True)
class ComparedShard:
    """``batches``: how many the newest copy had at first. ``differences``: sentences; none if the copies are equal."""

    dataset: str
    shard: int
    nodes: tuple[str, ...]
    batches: int
    differences: tuple[str, ...]


class _Comparison:
    """Of one shard's copies. ``batch_ids``: those that differed when they were looked at last, None: look at all."""

    def __init__(self, copies: Sequence[ShardFile]) -> None:
        self.copies = sorted(copies, key=lambda file: node_order(file.node))
        self.batch_ids: frozenset[int] | None = None
        self.batches = 0
        self.looked: Looked = {}
        self.changed_s = 0.0

    @property
    def is_equal(self) -> bool:
        return self.batch_ids == frozenset() and len(self.copies) > 1

    def look(self, now_s: float, on_copy: Callable[[], None] = lambda: None) -> None:
        looked: dict[str, Checksums | str] = {}
        for file in self.copies:
            looked[file.node] = _checksums_or_problem(file, self.batch_ids)
            on_copy()
        readable = [one for one in looked.values() if not isinstance(one, str)]
        if self.batch_ids is None:
            self.batches = max(map(len, readable), default=0)
        ids = frozenset(batch_id for one in readable for batch_id in one)
        unequal = frozenset(batch_id for batch_id in ids if len({one.get(batch_id) for one in readable}) > 1)
        present: Looked = {
            node: one if isinstance(one, str) else {key: one[key] for key in sorted(unequal & one.keys())}
            for node, one in looked.items()
        }
        if present != self.looked:
            self.looked, self.changed_s = present, now_s
        self.batch_ids = unequal if len(readable) == len(looked) else None

    def result(self) -> ComparedShard:
        first = self.copies[0]
        nodes = tuple(file.node for file in self.copies)
        return ComparedShard(first.dataset, first.shard, nodes, self.batches, tuple(self._differences()))

    def _differences(self) -> Iterator[str]:
        if len(self.copies) == 1:
            yield f"{self.copies[0].node} has the only copy"
        yield from (one for one in self.looked.values() if isinstance(one, str))
        readable = {node: one for node, one in self.looked.items() if not isinstance(one, str)}
        batch_ids = sorted({batch_id for one in readable.values() for batch_id in one})
        if not batch_ids:
            return
        places, _ = read_places(self.copies)
        newest = max((file for file in self.copies if file in places), key=lambda file: places[file]).node
        for batch_id in batch_ids:
            yield f"chunk batch {batch_id}: {_told(batch_id, readable, newest)}"


def compare_copies(files: Sequence[ShardFile], on_copy: Callable[[], None] = lambda: None) -> list[ComparedShard]:
    """Each shard that has copies. ``on_copy``: when a copy was read for the first time. Raises NotFound for none."""
    copies = sorted(file for file in files if file.node)
    if not copies:
        raise NotFound("no data set there has several copies of its shards (num-replicas)")
    groups = groupby(copies, lambda file: (file.dataset, file.shard))
    comparisons = [_Comparison(list(group)) for _, group in groups]
    for comparison in comparisons:
        comparison.look(time.monotonic(), on_copy)
    began_s = time.monotonic()
    while waiting := [one for one in comparisons if len(one.copies) > 1 and _may_become_equal(one, began_s)]:
        time.sleep(LOOK_AGAIN_S)
        for comparison in waiting:
            comparison.look(time.monotonic())
    return [comparison.result() for comparison in comparisons]


def _may_become_equal(comparison: _Comparison, began_s: float) -> bool:
    now_s = time.monotonic()
    is_changing = now_s - max(comparison.changed_s, began_s) < UNCHANGED_S
    return not comparison.is_equal and is_changing and now_s - began_s < LOOKING_S_MAX


def _checksums_or_problem(file: ShardFile, batch_ids: frozenset[int] | None) -> Checksums | str:
    try:
        return stored_checksums(file.path, within=batch_ids)
    except FilorayError as error:
        return f"{file.node}'s copy cannot be read: {error.message}"


def _told(batch_id: int, readable: Mapping[str, Checksums], newest: str) -> str:
    """Who has it, who has it otherwise, who has it not."""
    having: dict[int, list[str]] = {}
    for node, checksums in readable.items():
        if batch_id in checksums:
            having.setdefault(checksums[batch_id], []).append(node)
    missing = [node for node, checksums in readable.items() if batch_id not in checksums]
    parts = [f"{', '.join(nodes)} has it with checksum {checksum:016x}" for checksum, nodes in having.items()]
    if newest in missing:
        parts.append(f"extra, for the newest copy ({newest}) has it not")
    if missing:
        parts.append(f"missing at {', '.join(missing)}")
    return "; ".join(parts)
