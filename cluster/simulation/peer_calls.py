"""What nodes of a simulated cluster send each other: messages that are late, doubled, or lost with their connection.

Whoever asks hears once what became of it, if he lives. A process that ends is noticed by who had a connection to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from filoray.cluster.actor_names import node_actor_name
from filoray.cluster.simulation.checkers import Process
from filoray.cluster.simulation.world import Action, SimulatedWorld

Heard = Callable[[str], None]
"""Told why not, or ""."""

CUT_MS = 2000


class PeerProcess(Protocol):
    name: str
    is_up: bool
    is_apart: bool
    """No other node can reach it, nor be reached from it."""

    def run(self, action: Action) -> None: ...

    def watch(self, lost: Action) -> None:
        """``lost``: what happens when it dies."""


def ask(
    world: SimulatedWorld,
    asker: PeerProcess,
    found: Callable[[], PeerProcess | None],
    name: str,
    act: Callable[[Heard], None],
    heard: Heard,
) -> None:
    """``found``: the process that is asked, if it is there. ``act``: what it does, and answers."""
    is_over = False

    def answer(problem: str) -> None:
        nonlocal is_over
        if not is_over:
            is_over = True
            world.send(name, asker.name, lambda: asker.run(lambda: heard(problem)))

    def arrive(answer: Heard) -> None:
        peer = found()
        if peer is None or not peer.is_up:
            answer("it is not there")
        elif peer.is_apart or asker.is_apart:
            world.after(CUT_MS, lambda: answer("it cannot be reached"))
        else:
            peer.run(lambda: act(answer))

    rates = world.rates
    if world.happens(rates.lose):
        if world.happens(0.5):
            world.send(asker.name, name, lambda: arrive(_unheard))
        answer("the connection was lost")
        return
    world.send(asker.name, name, lambda: arrive(answer))
    if world.happens(rates.double):
        world.after(world.between(1, rates.late_ms), lambda: arrive(_unheard))


def watch(world: SimulatedWorld, asker: PeerProcess, peer: PeerProcess | None, name: str, lost: Heard) -> None:
    """``lost``: told when the connection breaks as the peer has ended."""

    def ended() -> None:
        world.send(name, asker.name, lambda: asker.run(lambda: lost("it has ended")))

    if peer is not None:
        peer.watch(ended)


def process_name(process: Process) -> str:
    return node_actor_name(*process)


def _unheard(problem: str) -> None:
    """Whoever asked is not there to hear it."""
