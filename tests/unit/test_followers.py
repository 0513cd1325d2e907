"""A node that follows shards, spoken to as their leaders do: what is late, doubled or of another changes nothing."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from copying_nodes import DATASET, CopyingNode, copied_dataset
from shards import ALL_TIME, NOW_MS, container, samples_of
from waiting import wait_until

from filoray.cluster.control.copy_set import CopySet
from filoray.cluster.control.node_effects import OpenShard
from filoray.cluster.control.shard_status import IngestionStarted
from filoray.cluster.errors import Unavailable
from filoray.nodes.host.replication import followers
from filoray.nodes.memstore.replica_entries import CommitEntry, encode_entry
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.shard_spec import ShardSpec
from filoray.nodes.memstore.store import snapshot
from filoray.nodes.memstore.store.copy_checksums import checksum_in_store
from filoray.nodes.wire.copy_bodies import Entries, SessionEntries, Step, Stored, SyncStep, decode_held, decode_stored

UP = {"__name__": "up"}
CONFIG = copied_dataset()


class Node(CopyingNode):
    """``events``: (shard, epoch, event)."""

    def __init__(self, data_dir: Path) -> None:
        self.events: list[tuple[int, int, object]] = []
        super().__init__("b", data_dir, lambda _, *event: self.events.append(event))

    def follow(self, epoch: int = 1, version: int = 1) -> None:
        self.host.follow_shards(CONFIG, [(0, epoch, version)])

    def lead(self, epoch: int) -> Shard:
        self.host.start_shards(CONFIG, [(0, epoch)], [0])
        wait_until(lambda: (0, epoch, IngestionStarted()) in self.events, lambda: f"it leads: {self.events}")
        for version in (epoch, epoch + 1):  # what it proposes for the first set is taken
            self.host.tell_of_copies(DATASET, [(0, epoch, CopySet(version, (), (self.name,)))], [])
        return wait_until(lambda: self.shown(0, epoch), "it is shown")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.close()


class Leader:
    """A shard, and what is said to its follower at ``epoch``."""

    def __init__(self, node: Node, path: Path, session: int = 7, epoch: int = 1) -> None:
        self.node = node
        self.session = session
        self.epoch = epoch
        self.entries: list[bytes] = []
        spec = ShardSpec(DATASET, 0, epoch, path, CONFIG.store)
        self.shard = Shard.open(spec)
        self.shard.on_entry = lambda entry: self.entries.append(encode_entry(entry))

    def append(self, *times_ms: int) -> None:
        for time_ms in times_ms:
            data = container([({**UP, "instance": str(time_ms % 3)}, [(time_ms, float(time_ms))])])
            append = self.shard.begin_append([data])
            assert append.commit is not None
            self.entries.append(encode_entry(CommitEntry(append.commit)))
            self.shard.finish_append(append)

    def step(self, step: Step, number: int = 0, piece: bytes | None = None) -> object:
        said = SyncStep(0, self.session, step, number)
        frames = [] if piece is None else [piece]
        return answer_of(
            lambda answer: self.node.host.followers.take_step(DATASET, 0, self.epoch, said, frames, answer)
        )

    def pieces(self) -> list[bytes]:
        """After BEGIN."""
        snapshot = self.shard.snapshot(NOW_MS)
        try:
            return list(snapshot.pieces(4096, decode_held(self.step(Step.BEGIN))))
        finally:
            snapshot.close()

    def join(self) -> int:
        """Returns the number of the last entry that the snapshot has."""
        pieces = self.pieces()
        seq = len(self.entries)
        for number, piece in enumerate(pieces):
            assert self.step(Step.PIECE, number, piece) is None
        assert self.step(Step.END, seq) is None
        return seq

    def send(self, first: int, *entries: bytes) -> Stored:
        body = Entries(0, (SessionEntries(self.session, first, len(entries)),))
        reply = answer_of(
            lambda answer: self.node.host.followers.take_entries(
                DATASET, [(0, self.epoch)], body, list(entries), answer
            )
        )
        (stored,) = decode_stored(reply, 1)
        return stored

    def send_rest(self, after: int) -> None:
        """What was made after entry ``after``."""
        stored = self.send(after + 1, *self.entries[after:])
        assert stored == Stored(len(self.entries)), stored

    def shown(self) -> object:
        return samples_of(self.shard.select([], *ALL_TIME))


def answer_of(ask: Callable[[Callable[[object], None]], None]) -> object:
    answers: list[object] = []
    ask(answers.append)
    wait_until(lambda: answers, "it is answered")
    return answers[0]


def shown(shard: Shard) -> object:
    return samples_of(shard.select([], *ALL_TIME))


@pytest.fixture
def leader(node: Node, tmp_path: Path) -> Iterator[Leader]:
    node.follow()
    leader = Leader(node, tmp_path / "leader" / "shard-0.db")
    leader.append(*range(1000, 1040))
    leader.shard.flush_all(NOW_MS)
    leader.append(*range(2000, 2010))
    yield leader
    leader.shard.close()


def error_of(stored: Stored) -> str:
    assert stored.error is not None, stored
    return f"{stored.number} {stored.error[0]}: {stored.error[1]}"


def test_entries_that_come_twice_count_once(node: Node, leader: Leader) -> None:
    joined = leader.join()
    leader.append(3000, 3001, 3002)
    leader.send_rest(joined)
    leader.send_rest(joined)
    leader.append(4000)
    assert leader.send(joined + 2, *leader.entries[joined + 1 :]) == Stored(joined + 4)
    assert shown(node.lead(2)) == leader.shown()


def test_an_entry_out_of_its_order_ends_the_session_and_what_came_before_it_stays(node: Node, leader: Leader) -> None:
    joined = leader.join()
    leader.append(3000)
    before = leader.shown()
    leader.append(3001, 3002)
    assert leader.send(joined + 1, leader.entries[joined]) == Stored(joined + 1)
    late = leader.send(joined + 3, leader.entries[joined + 2])
    assert f"{joined + 1} StaleRoute" in error_of(late)
    assert "comes where" in error_of(late)
    assert "that session is over" in error_of(leader.send(joined + 2, leader.entries[joined + 1]))
    assert shown(node.lead(2)) == before


@pytest.mark.parametrize("what", ["another session", "an earlier epoch", "another generation", "another shard"])
def test_what_is_of_another_is_refused_and_changes_nothing(node: Node, leader: Leader, what: str) -> None:
    joined = leader.join()
    leader.append(3000)
    before = shown_by_copy(node, leader, joined)
    session, epoch, generation, shard = leader.session, 1, 0, 0
    match what:
        case "another session":
            session += 1
        case "an earlier epoch":
            epoch = 0
        case "another generation":
            generation = 1
        case _:
            shard = 1
    leader.append(4000)
    body = Entries(generation, (SessionEntries(session, joined + 2, 1),))
    reply = answer_of(
        lambda answer: node.host.followers.take_entries(DATASET, [(shard, epoch)], body, [leader.entries[-1]], answer)
    )
    (stored,) = decode_stored(reply, 1)
    assert stored.number == 0
    assert stored.error is not None
    assert stored.error[0] in ("StaleRoute", "ShardNotHere")
    assert leader.send(joined + 2, leader.entries[-1]) == Stored(joined + 2), "its own session goes on"
    assert before == len(leader.entries) - 1
    assert shown(node.lead(2)) == leader.shown()


def shown_by_copy(node: Node, leader: Leader, joined: int) -> int:
    """How many entries the copy has, when it has all."""
    leader.send_rest(joined)
    (figures,) = node.host.followers.figures()
    return figures.entries


@pytest.mark.parametrize("damage", ["cut short", "one byte is other", "of another kind"])
def test_a_damaged_entry_ends_the_session_and_the_copy_stays_as_it_was(node: Node, leader: Leader, damage: str) -> None:
    joined = leader.join()
    before = leader.shown()
    leader.append(3000)
    good = leader.entries[-1]
    bad = {"cut short": good[:-1], "one byte is other": good[:-1] + b"\x7f", "of another kind": b"x" * 100}[damage]
    assert f"{joined} " in error_of(leader.send(joined + 1, bad))
    assert shown(node.lead(2)) == before


def test_a_former_leaders_entries_are_refused_once_the_copy_leads_or_follows_another(
    node: Node, leader: Leader
) -> None:
    joined = leader.join()
    leader.append(3000, 4000)
    assert leader.send(joined + 1, leader.entries[joined]) == Stored(joined + 1)
    shard = node.lead(2)
    before = shown(shard)
    assert "not followed here" in error_of(leader.send(joined + 2, leader.entries[joined + 1]))
    assert shown(shard) == before
    node.follow(epoch=3, version=5)
    wait_until(lambda: node.host.followers.figures(), "it follows again")
    assert "followed at epoch 3 here, not 1" in error_of(leader.send(joined + 2, leader.entries[joined + 1]))


@pytest.mark.parametrize(
    "reached", ["nothing", "begun", "a piece", "all pieces", "a damaged piece", "a piece twice", "an end too early"]
)
def test_a_snapshot_that_breaks_off_leaves_the_copy_as_it_was(node: Node, leader: Leader, reached: str) -> None:
    leader.join()
    before = leader.shown()
    leader.append(*range(5000, 5200))
    leader.session = 8
    if reached != "nothing":
        pieces = leader.pieces()
        assert len(pieces) > 1
        match reached:
            case "a piece":
                leader.step(Step.PIECE, 0, pieces[0])
            case "all pieces":
                for number, piece in enumerate(pieces):
                    assert leader.step(Step.PIECE, number, piece) is None
            case "a damaged piece":
                assert isinstance(leader.step(Step.PIECE, 0, pieces[0][:-1] + b"\x7f"), Exception)
                assert isinstance(leader.step(Step.PIECE, 0, pieces[0]), Exception)
            case "a piece twice":
                assert leader.step(Step.PIECE, 0, pieces[0]) is None
                assert isinstance(leader.step(Step.PIECE, 0, pieces[0]), Exception)
                assert isinstance(leader.step(Step.END, 5), Exception)
            case "an end too early":
                leader.step(Step.PIECE, 0, pieces[0])
                assert isinstance(leader.step(Step.END, 5), Exception)
    assert shown(node.lead(2)) == before
    assert not node.copy_path(CONFIG, 0).with_suffix(".joining").exists()


def test_a_snapshot_that_broke_off_is_followed_by_a_whole_one(node: Node, leader: Leader) -> None:
    for session in (8, 9, 10):
        leader.session = session
        pieces = leader.pieces()
        leader.step(Step.PIECE, 0, pieces[0])
    leader.session = 11
    joined = leader.join()
    leader.append(3000)
    leader.send_rest(joined)
    assert shown(node.lead(2)) == leader.shown()


def test_the_copy_that_is_being_opened_when_it_is_to_lead_leads_when_it_is(node: Node, leader: Leader) -> None:
    pieces = leader.pieces()
    for number, piece in enumerate(pieces):
        assert leader.step(Step.PIECE, number, piece) is None
    answers: list[object] = []
    end = SyncStep(0, leader.session, Step.END, len(leader.entries))
    node.host.followers.take_step(DATASET, 0, 1, end, [], answers.append)
    assert shown(node.lead(2)) == leader.shown()


def test_a_copy_that_is_closed_while_it_is_opened_is_closed_all_the_same(node: Node, leader: Leader) -> None:
    pieces = leader.pieces()
    for number, piece in enumerate(pieces):
        assert leader.step(Step.PIECE, number, piece) is None
    answers: list[object] = []
    end = SyncStep(0, leader.session, Step.END, len(leader.entries))
    node.host.followers.take_step(DATASET, 0, 1, end, [], answers.append)
    node.host.stop_shards(DATASET, [(0, 1)])
    assert node.host.held() == ()
    assert node.host.followers.figures() == ()
    thief = Shard.open(ShardSpec(DATASET, 0, 9, node.copy_path(CONFIG, 0), CONFIG.store))
    thief.close()


def test_a_copy_that_is_to_lead_does_not_wait_until_all_that_it_has_was_read_for_a_join(
    node: Node, leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for time_ms in range(3000, 3005):
        leader.append(time_ms)
        leader.shard.flush_all(NOW_MS)
    leader.join()
    expected = leader.shown()
    is_wanted, read = threading.Event(), list[int]()

    def slow(connection: sqlite3.Connection, batch_id: int) -> int | None:
        read.append(batch_id)
        assert is_wanted.wait(60)
        return checksum_in_store(connection, batch_id)

    monkeypatch.setattr(snapshot, "checksum_in_store", slow)
    answers: list[object] = []
    begin = SyncStep(0, leader.session + 1, Step.BEGIN, 0)
    node.host.followers.take_step(DATASET, 0, 1, begin, [], answers.append)
    wait_until(lambda: read, "it is being read")
    node.host.start_shards(CONFIG, [(0, 2)], [0])
    node.host.followers.run("what was ordered before is done by then", is_wanted.set)
    assert shown(node.lead(2)) == expected
    assert len(read) == 1
    assert isinstance(answers[0], Unavailable)
    assert not node.copy_path(CONFIG, 0).with_suffix(".joining").exists()


def test_a_follower_that_never_joined_leads_with_what_is_stored(node: Node, leader: Leader) -> None:
    leader.join()
    expected = leader.shown()
    node.host.stop_shards(DATASET, [(0, 1)])
    node.follow(epoch=2, version=2)
    assert shown(node.lead(3)) == expected


def test_upkeep_that_fails_is_said_once(
    node: Node, leader: Leader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    leader.join()
    tried: list[int] = []

    def fail(_: Shard, now_ms: int) -> bool:
        tried.append(now_ms)
        raise Unavailable("the disk is full")

    monkeypatch.setattr(Shard, "follower_upkeep", fail)
    wait_until(lambda: len(tried) >= 3, "it is tried again")
    said = "dataset d shard 0: upkeep of the copy failed: the disk is full"
    assert [message for message in caplog.messages if "upkeep" in message] == [said]


def test_copies_whose_upkeep_takes_long_have_it_in_turn(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "_UPKEEP_MAX_S", -1.0)
    kept: list[int] = []
    all_kept = Shard.follower_upkeep

    def keep(shard: Shard, now_ms: int) -> bool:
        kept.append(shard.spec.shard)
        return all_kept(shard, now_ms)

    monkeypatch.setattr(Shard, "follower_upkeep", keep)
    orders = [OpenShard(CONFIG, number, 1, number + 1, was_open=False, is_follower=True) for number in range(3)]
    shards = [
        Shard.open(ShardSpec(DATASET, it.shard, 1, tmp_path / f"shard-{it.shard}.db", CONFIG.store)) for it in orders
    ]

    def register() -> None:
        for order, shard in zip(orders, shards, strict=True):
            node.host.followers.register(order)
            node.host.followers._copies[order.key].shard = shard

    node.host.followers.run("three copies", register)
    wait_until(lambda: len(kept) >= 9, "each has had its turn thrice")
    assert kept[:9] == [0, 1, 2] * 3
    closed: list[Shard | None] = []
    for order in orders:
        node.host.followers.give_away(order.opening, order.key, closed.append)
    wait_until(lambda: len(closed) == 3, "all are given away")
    for shard in closed:
        assert shard is not None
        shard.close()
