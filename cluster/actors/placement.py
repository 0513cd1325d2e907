"""Which machine of a Ray cluster runs which node, and the gateway beside it. A pure function.

Nodes are spread over the machines where any machine can take any shard over, because the shards' data are in a
database that all reach. Where each shard is a file in the data directory, all nodes stay where that directory is: on
another machine they would find nothing and begin empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Placement:
    """``machines``: of node i and gateway i, as Ray's node ids. ``home``: where the cluster was launched.

    ``is_bound``: nodes may live nowhere else; otherwise another machine takes them when theirs is lost.
    """

    home: str
    machines: tuple[str, ...]
    is_bound: bool


def place_nodes(count: int, home: str, machines: Sequence[str], *, is_bound: bool) -> Placement:
    """``machines``: all that are alive. Round robin, home first, so that gateway 0 is where it was launched."""
    others = [] if is_bound else sorted(machine for machine in machines if machine != home)
    order = [home, *others]
    return Placement(home, tuple(order[index % len(order)] for index in range(count)), is_bound)
