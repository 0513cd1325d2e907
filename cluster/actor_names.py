"""Names of the cluster's actors inside its Ray namespace."""

from __future__ import annotations

COORDINATOR = "coordinator"
COORDINATORS = ("coordinator-0", "coordinator-1")
"""Where one stands by for the other: on many machines, with a store that all reach."""
SEED_DISCOVERY = "seed-discovery"


def node_name(index: int) -> str:
    """The slot of the index-th node (from 0); its incarnations come and go."""
    return f"node-{index}"


def gateway_name(index: int) -> str:
    return f"gateway-{index}"


def gateway_index(gateway: str) -> int:
    """The index of a gateway's name; raises ValueError if it is none."""
    return int(gateway.removeprefix("gateway-"))


def node_actor_name(node: str, incarnation: int) -> str:
    """Every incarnation is an actor of its own, so a name never means two processes."""
    return f"{node}#{incarnation}"


def slot_index(node: str) -> int:
    """The index of a slot name; raises ValueError if it is none."""
    return int(node.removeprefix("node-"))
