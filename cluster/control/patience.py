"""How long the coordinator waits for whom, where no configuration says so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """The defaults are the product's; tests have less of it."""

    adopt_ms: int = 5000
    """For a node that lived when the last coordinator ended to announce itself."""
    active_ms: int = 5000
    """For the shards of a new dataset, before its operator is answered."""
    known_ms: int = 2000
    """For gateways to take a view, before an operator is answered."""
    deletion_ms: int = 20_000
    stop_ms: int = 10_000
    retry_ms: int = 1000
    """Before what failed is tried again: an order, a kill, a watch, a gateway."""
    look_ms: int = 1000
    """Between two looks at which machines are there."""
    look_timeout_ms: int = 3000
    even_ms: int = 5000
    """For how long machines must have been the same before a node moves to make them even."""
    stall_poll_ms: int = 250
    """How often a launch that waits looks whether anything still moves."""
