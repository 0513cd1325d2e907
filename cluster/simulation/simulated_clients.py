"""Clients of a simulated cluster, whose samples are known again: what they are told goes to the checker of scenarios.

A request is asked at one gateway, which routes it to the owners of all shards and asks again what was refused, as the
real ones do, until it is late. It fails with its gateway's process. Series belong to shards by their number.
"""

from __future__ import annotations

from collections.abc import Callable

from filoray.cluster.chaos.clients import (
    LATE_MS,
    READ_INTERVAL_MS,
    WRITE_INTERVAL_MS,
    Turns,
    Writer,
    writer_to_read,
)
from filoray.cluster.chaos.driver import Witness
from filoray.cluster.chaos.operations import Operation, Outcome, Read, Write
from filoray.cluster.simulation.cluster import SimulatedCluster
from filoray.cluster.simulation.shard_file import SentSample, ServedShard
from filoray.cluster.simulation.simulated_gateway import SimulatedGateway
from filoray.cluster.simulation.simulated_node import SimulatedNode
from filoray.cluster.simulation.world import Action, SimulatedWorld

_AGAIN_MS = 20
_ATTEMPT_MS = 1000


class _Request:
    """One write or read of one data set. ``ended``: told once how it ended."""

    def __init__(
        self, world: SimulatedWorld, gateway: SimulatedGateway, dataset: str, ended: Callable[[_Request], None]
    ) -> None:
        self.outcome: Outcome | None = None
        self.answer: dict[str, dict[int, float]] = {}
        self.gateway = gateway
        self._world = world
        self._dataset = dataset
        self._ended = ended
        self._left: set[str] = set()
        self._attempts: dict[str, int] = {}

    def send(self, request: Write | Read, num_shards: int) -> None:
        self._world.after(LATE_MS, lambda: self._end(Outcome.UNKNOWN))
        self._left = set(request.series)
        if self.gateway.is_dead:
            self._end(Outcome.FAILED)
        for series in request.series:
            self._attempt(request, series, int(series.rpartition("/")[2]) % num_shards, 0)

    def _attempt(self, request: Write | Read, series: str, shard: int, former: int) -> None:
        """``former``: attempts before; nothing if there was another meanwhile."""
        if self.outcome is not None or series not in self._left or self._attempts.get(series, 0) != former:
            return
        self._attempts[series] = former + 1
        if self.gateway.is_dead:
            self._end(Outcome.UNKNOWN)
            return

        def again() -> None:
            self.gateway.was_refused()
            self._world.after(_AGAIN_MS, lambda: self._attempt(request, series, shard, former + 1))

        def act(node: SimulatedNode, epoch: int) -> None:
            key = (self._dataset, shard)
            if isinstance(request, Write):
                taken = self._reply(node, lambda: self._take(series))
                node.take_write(key, epoch, again, SentSample(series, request.timestamp_ms, request.value, taken))
            else:
                node.take_read(key, epoch, 0, again, lambda served: self._show(node, served, request, series))

        if not self.gateway.is_hung:
            self.gateway.ask_owner((self._dataset, shard), act, again)
        self._world.after(_ATTEMPT_MS, lambda: self._attempt(request, series, shard, former + 1))

    def _show(self, node: SimulatedNode, served: ServedShard, read: Read, series: str) -> None:
        found = node.contents(served, series, read.after_ms, read.until_ms)
        shown = {sample.timestamp_ms: sample.value for sample in found}

        def take() -> None:
            self.answer.setdefault(series, shown)
            self._take(series)

        self._reply(node, take)()

    def _reply(self, node: SimulatedNode, arrive: Action) -> Action:
        return lambda: self._world.send(node.name, self.gateway.name, arrive)

    def _take(self, series: str) -> None:
        if self.gateway.is_dead:
            self._end(Outcome.UNKNOWN)
        elif not self.gateway.is_hung:
            self._left.discard(series)
            if not self._left:
                self._end(Outcome.OK)

    def _end(self, outcome: Outcome) -> None:
        if self.outcome is None:
            self.outcome = outcome
            self._ended(self)


class SimulatedClients:
    def __init__(self, cluster: SimulatedCluster, witness: Witness, began_ms: int) -> None:
        self.writers: list[Writer] = []
        self.num_shards: dict[str, int] = {}
        """By data set. A gateway that was just begun does not know it."""
        self._cluster = cluster
        self._world = cluster.world
        self._witness = witness
        self._began_ms = began_ms
        self._readers = 0
        self._write_era = 0
        self._read_era = 0

    def start_writing(self, writers: list[Writer]) -> None:
        for number, writer in enumerate(writers, start=len(self.writers)):
            self._write(writer, Turns(self._cluster.node_count, number), self._write_era)
        self.writers += writers

    def start_reading(self, readers: int) -> None:
        for number in range(self._readers, self._readers + readers):
            self._read(f"reader-{number}", Turns(self._cluster.node_count, number), number, self._read_era)
        self._readers += readers

    def stop_writing(self) -> None:
        self._write_era += 1

    def stop_reading(self) -> None:
        self._read_era += 1

    def ask(
        self, client: str, writer: Writer, request: Write | Read, gateway: int, heard: Callable[[Outcome], None]
    ) -> None:
        """``heard``: told of the outcome, after the witness."""
        begun_ms = self._now_ms()

        def ended(it: _Request) -> None:
            outcome = it.outcome or Outcome.UNKNOWN
            if isinstance(request, Read) and outcome is not Outcome.OK:
                outcome = Outcome.FAILED
            answer = it.answer if isinstance(request, Read) else None
            self._witness.ended(Operation(client, request, begun_ms, self._now_ms(), outcome, it.gateway.name, answer))
            heard(outcome)

        if isinstance(request, Write):
            self._witness.begins(request, begun_ms)
        num_shards = self.num_shards[writer.dataset]
        _Request(self._world, self._cluster.gateway_at(gateway), writer.dataset, ended).send(request, num_shards)

    def _write(self, writer: Writer, turns: Turns, era: int) -> None:
        if era != self._write_era:
            return
        next_ms = self._world.now_ms + WRITE_INTERVAL_MS

        def heard(outcome: Outcome) -> None:
            if outcome is not Outcome.OK:
                turns.go_on()
            self._world.at(max(next_ms, self._world.now_ms + 1), lambda: self._write(writer, turns, era))

        self.ask(writer.name, writer, writer.next_write(self._now_ms()), turns.present, heard)

    def _read(self, reader: str, turns: Turns, turn: int, era: int) -> None:
        if era != self._read_era:
            return
        next_ms = self._world.now_ms + READ_INTERVAL_MS

        def heard(outcome: Outcome) -> None:
            if outcome is not Outcome.OK:
                turns.go_on()
            self._world.at(max(next_ms, self._world.now_ms + 1), lambda: self._read(reader, turns, turn + 1, era))

        writer = writer_to_read(self.writers, turn)
        if writer is None:
            heard(Outcome.OK)
        else:
            self.ask(reader, writer, writer.last_window(self._now_ms()), turns.present, heard)

    def _now_ms(self) -> int:
        return self._world.now_ms - self._began_ms
