"""Whether a node knows that a thread it depends on has ended or is stuck, and does not cry wolf."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from waiting import wait_until

from filoray.cluster.config.server_config import load_server_config
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.node_protocol import LeaseGrant
from filoray.cluster.process.thread_watch import Beat, ThreadWatch
from filoray.nodes.data.write_outcome import WriteOutcome
from filoray.nodes.host.append_jobs import AppendJob, PendingWrite, ShardKey
from filoray.nodes.host.host_threads import HostThreads
from filoray.nodes.host.node import Node
from filoray.nodes.wire.write_reply import Refused, ShardWriteReply


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_beat_tells_waiting_and_long_work_that_gets_on_from_being_stuck() -> None:
    clock = Clock()
    beat = Beat("ingest", clock)
    for do, later_s, stuck in [
        (beat.idle, 1000, False),
        (beat.busy, 9, False),
        (beat.busy, 9, False),
        (beat.busy, 9, False),
        (beat.idle, 1000, False),
        (beat.busy, 11, False),  # late, but it may be that all was stopped: asked again below
    ]:
        do()
        clock.now_s += later_s
        assert (beat.stuck(10) is not None) is stuck
    beat.busy("an append")
    clock.now_s += 11
    assert beat.stuck(10) is None
    clock.now_s += 2
    assert beat.stuck(10) == "thread ingest has not got on with an append for 13 s"
    beat.busy("the next")
    assert beat.stuck(10) is None


def test_a_thread_that_has_ended_is_named() -> None:
    watch = ThreadWatch(10_000)
    goes_on = threading.Event()
    living = threading.Thread(target=goes_on.wait, name="living")
    dead = threading.Thread(target=lambda: None, name="reports")
    living.start()
    dead.start()
    dead.join()
    watch.watch_thread(living)
    assert watch.problem() == ""
    watch.watch_thread(dead)
    assert watch.problem() == "thread reports has ended"
    goes_on.set()


class Host:
    """Appends and upkeep that fail as told."""

    def __init__(self) -> None:
        self.upkeep_fails = False

    def append_to_shard(self, key: ShardKey, jobs: Sequence[AppendJob]) -> list[ShardWriteReply]:
        if key[0] == "raises":
            raise ZeroDivisionError("one bad item")
        if key[0] == "forgets":
            return []
        return [WriteOutcome(1)] * len(jobs)

    def upkeep(self) -> bool:
        if self.upkeep_fails:
            raise OSError("upkeep fails")
        return False


def test_the_ingest_thread_outlives_whatever_one_item_does() -> None:
    host, watch = Host(), ThreadWatch(600_000)
    worker = HostThreads(host)
    worker.watch_with(watch)

    def write(dataset: str) -> ShardWriteReply:
        answered = threading.Event()
        replies: list[ShardWriteReply] = []

        def take(found: Sequence[ShardWriteReply]) -> None:
            replies.extend(found)
            answered.set()

        worker.submit(AppendJob((dataset, 0), 1, b"", PendingWrite(take, [None]), 0))
        assert answered.wait(20), dataset
        return replies[0]

    for dataset in ("raises", "forgets"):
        refused = write(dataset)
        assert isinstance(refused, Refused), dataset
        assert refused.error_class == "Unavailable"
    host.upkeep_fails = True
    assert write("sound") == WriteOutcome(1)

    def broken() -> None:
        raise KeyError("an action that fails")

    assert isinstance(worker.run(broken).exception(20), KeyError)
    worker._queue.put(5)  # type: ignore[arg-type]  # what nobody expects there
    assert write("sound") == WriteOutcome(1)
    assert watch.problem() == ""
    worker.close()
    assert watch.problem() == "thread ingest has ended"


@pytest.mark.parametrize("part", ["ingest", "data-plane", "stuck"])
def test_a_nodes_heartbeat_says_that_a_part_of_it_has_stopped(tmp_path: Path, part: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = load_server_config(None, {"data-dir": str(tmp_path), "node.stuck-timeout": "1s"})
    node = Node("node-0", 1, config, port, KeyPair.generate().public)

    def unfit() -> str:
        return node.heartbeat(LeaseGrant(0, 0), "coordinator").unfit

    assert unfit() == ""
    go_on = threading.Event()
    if part == "ingest":
        node._host.threads.close()
        assert unfit() == "thread ingest has ended"
    elif part == "data-plane":
        node._server.close()
        assert unfit() == "thread data-plane has ended"
    else:
        node._host.threads.run(go_on.wait)
        said = wait_until(unfit, "the node says that a thread is stuck")
        assert said.startswith("thread ingest has not got on with closing or opening a shard for ")
        go_on.set()
        wait_until(lambda: not unfit(), "the node is well again")
    node._host.threads.close()
    node._server.close()
    node._handler.close()
