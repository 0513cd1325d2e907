"""A call that one life of the simulated coordinator waits for."""

from __future__ import annotations

from collections.abc import Callable

from filoray.cluster.control.coordinator_effects import CallResult
from filoray.cluster.simulation.world import Action, SimulatedWorld


class PendingCall:
    """Ends or fails once, by what arrives first. ``receiver``: who was called; ``deliver``: to who waits for it.

    ``timeout_ms``: None if it is waited for as long as it takes. ``keeps_order``: it is not overtaken by later ones.
    """

    def __init__(
        self,
        world: SimulatedWorld,
        receiver: str,
        deliver: Callable[[Action], object],
        ended: Callable[[CallResult], None],
        failed: Callable[[Exception], None],
        *,
        timeout_ms: int | None = None,
        keeps_order: bool = False,
    ) -> None:
        self.is_answer_lost = False
        """The connection breaks before the answer comes."""
        self.passes: Callable[[Action], bool] = _at_once
        """Lets the answer through when it arrives, or has it wait: False."""
        self.keeps_order = keeps_order
        self._is_over = False
        self._world = world
        self._receiver = receiver
        self._deliver = deliver
        self._ended = ended
        self._failed = failed
        self._ends_ms = None if timeout_ms is None else world.now_ms + timeout_ms

    def end(self, result: CallResult = None) -> None:
        if self.is_answer_lost:
            self.fail(ConnectionResetError("the connection was lost"))
        else:
            self._answer(lambda: self._ended(result))

    def fail(self, error: Exception) -> None:
        self._answer(lambda: self._failed(error))

    def waits(self) -> None:
        """The call, or its answer, waits for who knows how long."""
        if self._ends_ms is not None:
            late = TimeoutError("no answer in time")
            self._world.at(max(self._ends_ms, self._world.now_ms), lambda: self._finish(lambda: self._failed(late)))

    def _answer(self, action: Action) -> None:
        def arrive() -> None:
            if not self.passes(lambda: self._finish(action)):
                self.waits()

        self._world.send(self._receiver, "coordinator", arrive, keeps_order=self.keeps_order)

    def _finish(self, action: Action) -> None:
        if not self._is_over:
            self._is_over = True
            self._deliver(action)


def _at_once(action: Action) -> bool:
    action()
    return True
