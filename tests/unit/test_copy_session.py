"""One session with a follower, step by step: what is sent when, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from filoray.cluster.errors import ConnectionLost, Unavailable, reason_of
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.host.replication import copy_session
from filoray.nodes.host.replication.copy_session import CopySession
from filoray.nodes.host.replication.peer_link import PeerLink
from filoray.nodes.wire.copy_bodies import Step
from filoray.nodes.wire.node_client import Reply
from filoray.nodes.wire.protocol import Frames, Kind

UP = MetricMetadata("up", "gauge", "", "")


class Client:
    """A follower. ``held_up``: what it does not answer before ``go_on``; ``fails``: where its connection is lost.

    ``has_stored``: the last entry that it has stored, whatever is sent; 0: it stores what it gets.
    """

    def __init__(self) -> None:
        self.said: list[str] = []
        self.held_up: str = ""
        self.fails: str = ""
        self.has_stored = 0
        self.go_on = asyncio.Event()

    async def request(
        self, kind: Kind, dataset: str, shards: Any, timeout_ms: int, body: Any = None, frames: Frames | None = None
    ) -> Reply:
        if kind is Kind.SYNC:
            said = f"{Step(body[2]).name} {body[3]}"
        else:
            said = " ".join(bytes(frame).decode() for frame in frames or [])
        self.said.append(said)
        if self.fails == said:
            raise ConnectionLost("gone")
        if self.held_up == said:
            await self.go_on.wait()
        if kind is Kind.REPLICATE:
            return Reply([[self.has_stored or body[1][0][1] + body[1][0][2] - 1, None]], [])
        if body[2] == Step.AWAIT:
            return Reply([[body[3], None]], [])
        return Reply([[1, 99]] if body[2] == Step.BEGIN else None, [])

    def close(self) -> None: ...


class Snapshot:
    def __init__(self) -> None:
        self.held: list[tuple[int, int]] = []
        self.is_closed = False

    def pieces(self, bytes_max: int, without: Sequence[tuple[int, int]], *, with_data: bool) -> Iterator[bytes]:
        assert with_data, "the follower has a store of its own"
        self.held = list(without)
        yield from (b"one", b"two")

    def close(self) -> None:
        self.is_closed = True


class Leader:
    """``made``: number of the last entry. Makes one more at whatever step of the follower's is to be said."""

    def __init__(self) -> None:
        self.client = Client()
        self.link = PeerLink("b", self.client)
        self.told: list[str] = []
        self.taken = Snapshot()
        self.made = 3
        self.session = CopySession(self, self.link, "b", 1, ("d", 0), (0, 1), ThreadPoolExecutor(1))  # type: ignore[arg-type]

    async def snapshot(self) -> tuple[Any, int]:
        self.make()  # between the question and its answer: the snapshot has it
        return self.taken, self.made

    def make(self) -> None:
        self.made += 1
        if self.session.takes_entries:
            self.session.entry(self.made, f"e{self.made}".encode())

    def metrics(self) -> Sequence[MetricMetadata]:
        return [UP]

    def opened(self, session: CopySession, seq: int) -> None:
        self.told.append(f"opened {seq}")

    def stored(self, session: CopySession, seq: int) -> None:
        self.told.append(f"stored {seq}")

    def failed(self, session: CopySession, error: Exception) -> None:
        self.told.append(f"failed: {reason_of(error)}")

    async def until(self, wanted: str) -> None:
        async with asyncio.timeout(20):
            while wanted not in [*self.told, *self.client.said]:
                await asyncio.sleep(0.001)


async def test_a_follower_gets_what_there_is_and_then_what_was_made_meanwhile() -> None:
    leader = Leader()
    leader.client.held_up = "END 4"
    await leader.until("END 4")
    leader.make()
    leader.make()
    assert leader.told == []
    leader.client.go_on.set()
    await leader.until("stored 6")
    assert leader.client.said == ["BEGIN 0", "PIECE 0", "PIECE 1", "METRICS 0", "END 4", "e5 e6"]
    assert leader.told == ["opened 4", "stored 6"]
    assert (leader.taken.held, leader.taken.is_closed) == ([(1, 99)], True)
    leader.make()
    await leader.until("stored 7")


async def test_one_that_reads_messages_first_says_later_that_it_has_stored_the_entry() -> None:
    leader = Leader()
    await leader.until("opened 4")
    leader.client.has_stored, leader.client.held_up = 4, "AWAIT 5"
    leader.make()
    await leader.until("AWAIT 5")
    leader.make()
    await leader.until("e6")
    assert leader.told == ["opened 4", "stored 4"] or leader.told == ["opened 4", "stored 4", "stored 4"]
    leader.client.go_on.set()
    await leader.until("stored 6")
    assert leader.client.said[-2:] == ["e6", "AWAIT 6"], "one question at a time"
    assert leader.told[-2:] == ["stored 5", "stored 6"]
    leader.client.fails = "AWAIT 7"
    leader.make()
    await leader.until("failed: gone")
    assert leader.session.is_over


async def test_entries_that_come_while_others_are_on_their_way_go_together() -> None:
    leader = Leader()
    await leader.until("opened 4")
    leader.client.held_up = "e5"
    for _ in range(20):
        leader.make()
        await asyncio.sleep(0)
    leader.client.go_on.set()
    await leader.until("stored 24")
    entries = [said for said in leader.client.said if said.startswith("e")]
    assert " ".join(entries).split() == [f"e{number}" for number in range(5, 25)]


@pytest.mark.parametrize("step", ["BEGIN 0", "PIECE 0", "PIECE 1", "END 4", "e5"])
async def test_a_connection_that_is_lost_ends_the_session_wherever_it_is(step: str) -> None:
    leader = Leader()
    leader.client.fails = step
    if step == "e5":
        await leader.until("opened 4")
        leader.make()
    await leader.until("failed: gone")
    said = len(leader.client.said)
    leader.make()
    leader.session.failed(Unavailable("once more"))
    await asyncio.sleep(0.02)
    assert leader.told[-1:] == ["failed: gone"]
    assert len(leader.client.said) == said
    assert not leader.link.is_used
    assert leader.taken.is_closed == (step not in ("BEGIN 0",))


@pytest.mark.parametrize("step", ["PIECE 0", "END 4"])
async def test_a_join_that_is_outrun_by_entries_gets_to_its_end_and_makes_room_for_the_next(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(copy_session, "WAITING_BYTES_MAX", 10)
    leader = Leader()
    leader.client.held_up = step
    await leader.until(step)
    for _ in range(6):
        leader.make()
    assert (leader.session.waiting_bytes, leader.session.takes_entries, leader.told) == (0, False, [])
    leader.client.go_on.set()
    outrun = (
        "failed: entries of more than 10 bytes were made while it got what there was: it gets the rest in another "
        "session"
    )
    await leader.until(outrun)
    assert leader.told == [outrun]
    assert leader.client.said == ["BEGIN 0", "PIECE 0", "PIECE 1", "METRICS 0", "END 4"]
    assert not leader.link.is_used


async def test_a_follower_that_takes_entries_too_slowly_has_its_session_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_session, "WAITING_BYTES_MAX", 10)
    leader = Leader()
    await leader.until("opened 4")
    for _ in range(50):  # the link takes some at once, and has no time to hear of any
        leader.make()
    assert leader.told == ["opened 4", "failed: entries of 11 bytes wait for it, more than the 10 that are kept"]


async def test_a_session_that_is_ended_tells_and_sends_nothing_more() -> None:
    leader = Leader()
    leader.client.held_up = "PIECE 1"
    await leader.until("PIECE 1")
    leader.session.end()
    leader.client.go_on.set()
    await asyncio.sleep(0.05)
    assert (leader.told, leader.client.said[-1], leader.taken.is_closed) == ([], "PIECE 1", True)


async def test_a_shard_of_which_no_snapshot_can_be_taken_fails_the_session() -> None:
    leader = Leader()

    async def fail() -> tuple[Any, int]:
        raise Unavailable("the disk is full")

    leader.snapshot = fail  # type: ignore[method-assign]
    await leader.until("failed: the disk is full")
