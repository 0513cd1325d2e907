"""The dispatcher's real world: actors, the MetaStore, an event loop and the clocks. It decides nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine

from filoray.cluster.actors.ray_actors import ActorPort
from filoray.cluster.config.dataset import parse_for_cluster
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.coordinator_effects import (
    AdoptProcess,
    AnswerValue,
    Call,
    CallResult,
    CloseNode,
    GiveOrder,
    KillProcess,
    LaunchProcess,
    LookAtMachines,
    NodeProcess,
    PlaceGateway,
    PlaceStandby,
    PushView,
    ReadSourceConfig,
    Say,
    SendHeartbeat,
    TellMembers,
    WatchProcess,
)
from filoray.cluster.control.coordinator_events import RequestId
from filoray.cluster.control.shard_messages import (
    DeleteShards,
    DropCopies,
    FollowShards,
    StartShards,
    StopShards,
    TellCopies,
)
from filoray.cluster.errors import FilorayError, Unavailable
from filoray.cluster.node_protocol import NodeAnnouncement
from filoray.cluster.process.observed_clock import monotonic_ms
from filoray.cluster.store.meta_store import MetaStore

logger = logging.getLogger(__name__)


class RealWorld:
    """A ``World`` (``coordinator_dispatcher.py``). Belongs to one event loop."""

    def __init__(
        self,
        config: ServerConfig,
        store: MetaStore,
        actors: ActorPort,
        abort: Callable[[], None],
        may_act: Callable[[], bool],
    ) -> None:
        self.store = store
        self._may_act = may_act
        self._config = config
        self._actors = actors
        self._abort = abort
        self._answers: dict[RequestId, asyncio.Future[AnswerValue]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._is_retired = False

    def expect_answer(self, request: RequestId) -> asyncio.Future[AnswerValue]:
        """Raises Unavailable when nobody is left who would give one."""
        if self._is_retired:
            raise Unavailable("the cluster is shut down")
        answer = self._answers[request] = asyncio.get_running_loop().create_future()
        return answer

    def monotonic_ms(self) -> int:
        return monotonic_ms()

    def may_act(self) -> bool:
        return self._may_act()

    def calendar_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        def act() -> None:
            self._timers.discard(timer)
            action()

        timer = asyncio.get_running_loop().call_later(delay_ms / 1000, act)
        self._timers.add(timer)

    def answer(self, request: RequestId, value: AnswerValue) -> None:
        answer = self._answers.pop(request)
        if not answer.done():  # whoever asked may be gone
            answer.set_result(value)

    def refuse(self, request: RequestId, error: FilorayError) -> None:
        answer = self._answers.pop(request)
        if not answer.done():
            answer.set_exception(error)

    def say(self, line: Say) -> None:
        logger.log(line.level, line.text, *line.values, extra={"cause": line.cause})

    def retire(self) -> None:
        self._is_retired = True
        for timer in self._timers:
            timer.cancel()
        for task in self._tasks:
            task.cancel()

    def abort(self, problem: str) -> None:
        logger.critical("this coordinator ends, to start anew from what is durable error=%s", problem, exc_info=True)
        self._abort()

    # ---- what takes time

    def call(self, call: Call, ended: Callable[[CallResult], None], failed: Callable[[Exception], None]) -> None:
        task = asyncio.get_running_loop().create_task(self._finish(call, ended, failed))
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    async def _finish(
        self, call: Call, ended: Callable[[CallResult], None], failed: Callable[[Exception], None]
    ) -> None:
        try:
            result = await self._begin(call)
        except Exception as error:
            failed(error)
        else:
            ended(result)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a task of the coordinator failed", exc_info=error)

    def _begin(self, call: Call) -> Coroutine[object, object, CallResult]:
        actors = self._actors
        match call:
            case LaunchProcess(node, incarnation, port, gateway_keys, timeout_ms, machine):
                return self._come(actors.launch(node, incarnation, port, gateway_keys, machine, timeout_ms / 1000))
            case AdoptProcess(node, incarnation, timeout_ms):
                return self._come(actors.adopt(node, incarnation, timeout_ms / 1000))
            case WatchProcess(node, incarnation):
                return actors.wait_until_death(node, incarnation)
            case SendHeartbeat(node, incarnation, grant, timeout_ms):
                return actors.heartbeat(node, incarnation, grant, timeout_ms / 1000)
            case KillProcess(node, incarnation, pid, pid_started_s):
                return actors.kill(node, incarnation, pid, pid_started_s)
            case CloseNode(node, incarnation, timeout_ms):
                return actors.shutdown(node, incarnation, timeout_ms / 1000)
            case GiveOrder(StartShards(node, incarnation, config, shards), opened):
                return actors.start_shards(node, incarnation, config, shards, opened)
            case GiveOrder(FollowShards(node, incarnation, config, shards)):
                return actors.follow_shards(node, incarnation, config, shards)
            case GiveOrder(DropCopies(node, incarnation, dataset, shards, generation)):
                return actors.drop_copies(node, incarnation, dataset, generation, shards)
            case GiveOrder(TellCopies(node, incarnation, dataset, copies), peers=peers):
                return actors.tell_copies(node, incarnation, dataset, copies, peers)
            case GiveOrder(StopShards(node, incarnation, dataset, shards)):
                return actors.stop_shards(node, incarnation, dataset, shards)
            case GiveOrder(DeleteShards(node, incarnation, dataset, shards, generation)):
                return actors.delete_shards(node, incarnation, dataset, generation, shards)
            case PushView(gateway, view, timeout_ms):
                return actors.push_view(gateway, view, timeout_ms / 1000)
            case TellMembers(addresses, timeout_ms):
                return actors.push_members(addresses, timeout_ms / 1000)
            case LookAtMachines(timeout_ms):
                return actors.machines(timeout_ms / 1000)
            case PlaceGateway(gateway, machine):
                return actors.place_gateway(gateway, machine)
            case PlaceStandby(machine):
                return actors.place_standby(machine)
            case ReadSourceConfig(_, dataset, text):
                return asyncio.to_thread(parse_for_cluster, self._config, dataset, text)
        raise AssertionError(f"a call that nobody makes: {call}")

    async def _come(self, work: Coroutine[object, object, NodeAnnouncement]) -> NodeProcess:
        announcement = await work
        return NodeProcess(announcement, self._actors.process_started_s(announcement))
