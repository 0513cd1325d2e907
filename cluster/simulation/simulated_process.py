"""What a simulated node is as a process: it dies, hangs, is cut off from the coordinator, and may hold a lease."""

from __future__ import annotations

from filoray.cluster.actor_names import node_actor_name, slot_index
from filoray.cluster.node_protocol import HeartbeatAnswer, LeaseGrant
from filoray.cluster.simulation.checkers import Process
from filoray.cluster.simulation.pending_call import PendingCall
from filoray.cluster.simulation.world import Action, SimulatedWorld

_LONG_AGO_MS = -1_000_000


class SimulatedProcess:
    def __init__(self, world: SimulatedWorld, process: Process) -> None:
        self.process = process
        self.name = node_actor_name(*process)
        self.machine = ""
        """The id of the one it was launched on, where there are several."""
        self.is_up = False
        self.is_dead = False
        self.is_hung = False
        self.is_deaf = False
        """What the coordinator says does not reach its machine."""
        self.is_mute = False
        """What it says does not reach the coordinator."""
        self.is_apart = False
        """No other node can reach it, nor be reached from it."""
        self.is_given_up = False
        """It was to be killed while it was cut off; it ends when its machine is back."""
        self.heard_since_ms = _LONG_AGO_MS
        """When it last began to be heard again."""
        self.lease_end_ms = 0
        self.watchers: list[PendingCall] = []
        self._peers: list[Action] = []
        self.calls: dict[int, PendingCall] = {}
        """Orders that it has taken and not answered, by request."""
        self._world = world
        self._clock_ahead_ms = 1000 * process[1] + slot_index(process[0])
        self._stuck: list[Action] = []
        self._stuck_messages: list[Action] = []

    def die(self) -> None:
        self.is_dead = True
        for call in self.calls.values():
            call.fail(ConnectionError("the node died"))
        for watcher in self.watchers:
            watcher.end("the node died")
        for lost in self._peers:
            lost()

    def watch(self, lost: Action) -> None:
        """``lost``: what happens when it dies, for another node."""
        self._peers.append(lost)

    def go_on(self) -> None:
        """What waited while it hung or was cut off happens now, in any order."""
        if not self.is_hung:
            stuck, self._stuck = self._stuck, []
            if not self.is_cut:
                stuck += self._stuck_messages
                self._stuck_messages = []
            for action in self._world.shuffled(stuck):
                self.run(action)

    def run(self, action: Action) -> None:
        """What it does by itself, and for gateways."""
        if not self.is_dead:
            if self.is_hung:
                self._stuck.append(action)
            else:
                action()

    @property
    def is_cut(self) -> bool:
        return self.is_deaf or self.is_mute

    def hear(self, action: Action) -> bool:
        """A message of the coordinator. False: it has to wait."""
        if self.is_hung or self.is_deaf:
            self._stuck_messages.append(action)
            return False
        action()
        return True

    def let_out(self, action: Action) -> bool:
        """A message that it sent arrives at the coordinator. False: it does not, now."""
        if self.is_mute:
            self._stuck_messages.append(action)
        else:
            action()
        return not self.is_mute

    def say(self, action: Action) -> None:
        """It tells the coordinator something, which waits while it hangs or does not get through."""
        if self.is_hung or self.is_mute:
            self._stuck_messages.append(action)
        else:
            action()

    def later(self, delay_ms_max: int, action: Action) -> None:
        self._world.after(self._world.between(1, delay_ms_max), lambda: self.run(action))

    # ---- its lease

    def beat(self, grant: LeaseGrant) -> HeartbeatAnswer:
        self.lease_end_ms = max(self.lease_end_ms, grant.from_ms + grant.duration_ms)
        return HeartbeatAnswer(clock_ms=self.clock_ms)

    @property
    def clock_ms(self) -> int:
        """Each process's clock counts from elsewhere."""
        return self._world.now_ms + self._clock_ahead_ms

    def may_answer(self) -> bool:
        return not self._world.rates.lease_ms or self.clock_ms < self.lease_end_ms
