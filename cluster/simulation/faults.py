"""What goes wrong in a simulated cluster, and how often: drawn from a seed, so that histories differ in kind."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class FaultRates:
    """Probabilities, each of one occasion. The defaults are a world in which nothing goes wrong by itself.

    ``latency_ms``: at most, of a message that keeps the order. ``late_ms``: of one that does not, or comes twice.
    """

    latency_ms: int = 5
    late_ms: int = 3000
    lease_ms: int = 0
    """0: all nodes are on one machine, and need no lease."""
    has_own_disks: bool = False
    """Each of many machines, with the copies of the nodes that are there for good."""
    heartbeat_ms: int = 500
    crash: float = 0.0
    """The coordinator ends after any single effect."""
    lose: float = 0.0
    """A call's connection breaks: it was carried out, or not."""
    double: float = 0.0
    """An order comes again, late."""
    reorder: float = 0.0
    """A message is overtaken by later ones."""
    fail_kill: float = 0.0
    fail_launch: float = 0.0
    fail_opening: float = 0.0
    hang_opening: float = 0.0
    """A shard's source does not answer while it is opened."""
    fail_flush: float = 0.0
    fail_deletion: float = 0.0
    doubt_store: float = 0.0
    """A commit meets something that makes the node open the shard anew."""
    fail_store: float = 0.0
    """A write to the coordinator's store fails; it was carried out, or not."""
    slow_store: float = 0.0
    slow_store_ms: int = 2000
    is_disk_full: bool = False
    """Nothing more can be stored, by nodes and the coordinator."""
    disk_delay_ms: int = 0
    """How much longer each commit takes, at most."""
    fault_every_ms: int = 2000
    """Between what happens to processes, machines and datasets; on average half of that."""
    work_every_ms: int = 40
    """Between what gateways write and read."""

    def calm(self) -> FaultRates:
        """As it is when all that can be healed is: messages still take their time."""
        return FaultRates(
            latency_ms=self.latency_ms,
            lease_ms=self.lease_ms,
            has_own_disks=self.has_own_disks,
            heartbeat_ms=self.heartbeat_ms,
            fault_every_ms=self.fault_every_ms,
            work_every_ms=self.work_every_ms,
        )


NODE_LEASE_MS = 8000
"""Of nodes that are on many machines."""

TROUBLES = (
    "crash",
    "lose",
    "double",
    "reorder",
    "fail_kill",
    "fail_launch",
    "fail_opening",
    "hang_opening",
    "fail_flush",
    "fail_deletion",
    "doubt_store",
    "fail_store",
    "slow_store",
)
"""The rates of what goes wrong by itself: a history may be played without any of them."""


def present_troubles(rates: FaultRates) -> tuple[str, ...]:
    return tuple(name for name in TROUBLES if getattr(rates, name))


def draw_rates(dice: random.Random) -> FaultRates:
    """One kind of trouble is often absent, so that none hides the others."""
    is_spread = dice.random() < 0.5  # over machines, which are far from each other
    rates = FaultRates(
        latency_ms=dice.choice((20, 600) if is_spread else (2, 20, 400)),
        lease_ms=NODE_LEASE_MS if is_spread else 0,
        crash=dice.choice((0, 0, 0.003, 0.03)),
        lose=dice.choice((0, 0, 0.02, 0.1)),
        double=dice.choice((0, 0.2)),
        reorder=dice.choice((0, 0, 0.05)),
        fault_every_ms=dice.choice((1000, 4000, 8000)),
        heartbeat_ms=dice.choice((500, 1000, 1500)),
    )
    return replace(
        rates,
        fail_kill=dice.choice((0, 0.2)),
        fail_launch=dice.choice((0, 0.2)),
        fail_opening=dice.choice((0, 0, 0.2)),
        hang_opening=dice.choice((0, 0, 0.05)),
        fail_flush=dice.choice((0, 0.2)),
        fail_deletion=dice.choice((0, 0.2)),
        doubt_store=dice.choice((0, 0, 0.005)),
        fail_store=dice.choice((0, 0, 0, 0.01)),
        slow_store=dice.choice((0, 0, 0.05)),
        work_every_ms=max(40, rates.fault_every_ms // 50),  # what finds a fault's traces, not more for longer peace
    )
