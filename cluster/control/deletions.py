"""Files of deleted datasets that are still to be removed, and by whom: a part of the ShardManager.

What a node is to delete it is told once, and says only that it is done: what it was told in between would count as done
with it, so a node that has an order gets no other. What no node was told of waits for one.

Where each node has a machine of its own, nobody else can delete what one has that is away: a deletion is over without
it, and what is left is deleted when the node is back and says what it found.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.assignment import node_order
from filoray.cluster.node_protocol import StoredCopies


@dataclass(slots=True)
class _Deletion:
    """``by_node``: what each was told to delete; None: nobody yet."""

    config: DatasetConfig
    by_node: dict[str | None, tuple[int, ...]]


class Deletions:
    """By the datasets' names: at most one of each."""

    def __init__(self, restored: Iterable[DatasetConfig] = ()) -> None:
        """Nobody is known to have been told of ``restored``."""
        self._found: dict[str, tuple[StoredCopies, ...]] = {}
        self._by_name = {config.name: _Deletion(config, {None: tuple(range(config.num_shards))}) for config in restored}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def config(self, name: str) -> DatasetConfig:
        return self._by_name[name].config

    def undeleted(self, name: str) -> Mapping[str | None, tuple[int, ...]]:
        """Shards whose files are still to be removed, by the node that was told to; None: they wait for one."""
        deletion = self._by_name.get(name)
        return {} if deletion is None else dict(deletion.by_node)

    def begin(self, config: DatasetConfig, by_node: Mapping[str | None, tuple[int, ...]]) -> None:
        """``by_node``: who is being told to delete what it has itself; None: what nobody has."""
        self._by_name[config.name] = _Deletion(config, dict(by_node))

    def waiting(self, name: str) -> tuple[int, ...]:
        """Shards that no node was told of."""
        return self._by_name[name].by_node.get(None, ())

    def free(self, name: str, nodes: Iterable[str]) -> list[str]:
        """Those of ``nodes`` that have no order now, by name."""
        return sorted(set(nodes) - self._by_name[name].by_node.keys(), key=node_order)

    def give(self, name: str, node: str) -> tuple[int, ...]:
        """What no node was told of is ``node``'s to delete, with what it has to already; returns all that."""
        by_node = self._by_name[name].by_node
        by_node[node] = tuple(sorted({*by_node.get(node, ()), *by_node.pop(None)}))
        return by_node[node]

    def done(self, name: str, node: str) -> tuple[int, ...]:
        """``node`` removed what it was told to; returns that."""
        return self._by_name[name].by_node.pop(node, ())

    def is_over(self, name: str) -> bool:
        return not self._by_name[name].by_node

    def forget(self, name: str) -> None:
        del self._by_name[name]

    def lost(self, node: str) -> None:
        """What it was told to delete waits for another."""
        for deletion in self._by_name.values():
            by_node = deletion.by_node
            if node in by_node:
                by_node[None] = tuple(sorted({*by_node.get(None, ()), *by_node.pop(node)}))

    # ---- what is left on nodes' own machines

    def found(self, node: str, stored: tuple[StoredCopies, ...]) -> None:
        """What ``node`` has found on its machine when it came."""
        self._found[node] = stored

    def take_left(
        self, members: Collection[str], present: Collection[tuple[str, int]]
    ) -> list[tuple[str, StoredCopies]]:
        """Of ``members`` what they found of data sets that are not ``present`` (name, generation): each once."""
        left = []
        for node in sorted(self._found.keys() & set(members), key=node_order):
            kept = tuple(one for one in self._found[node] if (one.dataset, one.generation) in present)
            left += [(node, one) for one in self._found[node] if one not in kept]
            self._found[node] = kept
        return left
