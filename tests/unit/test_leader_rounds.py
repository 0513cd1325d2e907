"""The rounds of a shard that has copies: what is sent when, and who is answered what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from copying_nodes import Answer
from shards import ALL_TIME, NOW_MS, container, samples_of, shard_spec

from filoray.cluster.errors import BadData, CopiesJoining, FilorayError, StaleRoute, Unavailable
from filoray.nodes.data.write_outcome import AppendReply, UnknownSeries, WriteOutcome
from filoray.nodes.host.append_jobs import ROUND_JOBS_MAX, AppendJob, PendingWrite
from filoray.nodes.host.replication.leader_rounds import OPENING_SEQ, LeaderRounds
from filoray.nodes.memstore.replica_entries import CommitEntry, ReplicaEntry, StreamedEntry
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.store.snapshot import SnapshotFile, StoreSnapshot
from filoray.nodes.wire.write_reply import Refused, ShardWriteReply

UP = {"__name__": "up"}
FIRST = OPENING_SEQ + 1


class Rounds:
    """``refusal``: why nothing may be written; ``doubt``: why what a stream has would be in too few copies."""

    def __init__(self, path: Path) -> None:
        self.refusal = ""
        self.doubt: Unavailable | None = None
        self.sent: list[tuple[int, ReplicaEntry]] = []
        self.shard = Shard.open(shard_spec(path))
        self.rounds = LeaderRounds("shard 3", self.shard, self._send, self._check, lambda: self.doubt)

    def _send(self, seq: int, entry: ReplicaEntry) -> None:
        self.sent.append((seq, entry))

    def _check(self) -> None:
        if self.refusal:
            raise Unavailable(self.refusal)

    def append(self, *data: bytes) -> list[Answer]:
        answers = [Answer() for _ in data]
        jobs = [
            AppendJob(("prom", 3), 1, one, PendingWrite(answer.take, [None]), 0)
            for one, answer in zip(data, answers, strict=True)
        ]
        self.rounds.append(jobs)
        return answers

    def release(self, seq: int) -> None:
        """And begin what waited."""
        self.rounds.released(seq)
        self.rounds.go_on()

    def shown(self) -> list[int]:
        found = samples_of(self.shard.select([], *ALL_TIME))
        return sorted(time_ms for samples in found.values() for time_ms, _ in samples)


@pytest.fixture
def rounds(tmp_path: Path) -> Iterator[Rounds]:
    rounds = Rounds(tmp_path)
    yield rounds
    rounds.shard.close()


def sample(time_ms: int, *, with_keys: bool = True) -> bytes:
    return container([(UP, [(time_ms, 1.0)])], with_keys=with_keys)


def replies(answers: Sequence[Answer]) -> list[ShardWriteReply | None]:
    return [answer.wait() if answer.is_there else None for answer in answers]


def test_what_comes_while_a_round_is_open_shares_the_next(rounds: Rounds) -> None:
    first = rounds.append(sample(1000))
    others = rounds.append(sample(2000), sample(3000)) + rounds.append(sample(4000))
    assert [seq for seq, _ in rounds.sent] == [FIRST]
    assert (replies([*first, *others]), rounds.shown()) == ([None] * 4, [])
    rounds.release(FIRST)
    assert [type(reply) for reply in replies([*first, *others])] == [WriteOutcome, *[type(None)] * 3]
    assert rounds.shown() == [1000]
    assert [seq for seq, _ in rounds.sent] == [FIRST, FIRST + 1]
    rounds.release(FIRST + 1)
    assert [type(reply) for reply in replies(others)] == [WriteOutcome] * 3
    assert rounds.shown() == [1000, 2000, 3000, 4000]
    assert not rounds.rounds.is_open


def test_what_waited_for_long_goes_in_rounds_that_are_no_longer_than_others(rounds: Rounds) -> None:
    """Else a follower that stood still for a moment would get one commit that it cannot store in time."""
    rounds.append(sample(1000))
    count = 2 * ROUND_JOBS_MAX + 1
    answers = rounds.append(*[sample(2000 + number) for number in range(count)])
    done = []
    for seq in range(FIRST, FIRST + 4):
        rounds.release(seq)
        done.append(sum(answer.is_there for answer in answers))
    assert done == [0, ROUND_JOBS_MAX, 2 * ROUND_JOBS_MAX, count]
    assert len(rounds.shown()) == count + 1


class Asked:
    """What became of messages of the shard's stream."""

    def __init__(self, rounds: Rounds, *messages: tuple[int, bytes]) -> None:
        self.outcome: list[AppendReply] | FilorayError | None = None
        offsets, containers = zip(*messages, strict=True)
        rounds.rounds.append_streamed(containers, offsets, self._take)

    def _take(self, outcome: list[AppendReply] | FilorayError) -> None:
        assert self.outcome is None, "it is answered once"
        self.outcome = outcome

    @property
    def accepted(self) -> list[int] | None:
        """Of each message, once it is there."""
        if not isinstance(self.outcome, list):
            return None
        return [reply.accepted for reply in self.outcome if isinstance(reply, WriteOutcome)]


def test_messages_of_a_stream_are_named_to_the_followers_and_shown_when_they_have_them(rounds: Rounds) -> None:
    first = Asked(rounds, (7, sample(1000)), (9, sample(2000)))
    ((seq, entry),) = rounds.sent
    assert isinstance(entry, StreamedEntry)
    assert (seq, entry.offsets, entry.sample_count) == (FIRST, (7, 9), 2)
    assert entry.commit is not None, "a series is new"
    assert (first.outcome, rounds.shown()) == (None, [])
    rounds.release(FIRST)
    assert (first.accepted, rounds.shown(), rounds.shard.stream_offset) == ([1, 1], [1000, 2000], 9)
    again = Asked(rounds, (10, sample(2000)))
    rounds.release(FIRST + 1)
    assert again.accepted == [1], "it was there already"
    assert (rounds.sent[-1][0], rounds.shard.stream_offset) == (FIRST + 1, 10), "and is passed over by all copies"


def test_a_stream_waits_with_too_few_copies_and_is_told_of_what_is_no_container(rounds: Rounds) -> None:
    rounds.doubt = Unavailable("one copy is left")
    refusal = Asked(rounds, (7, sample(1000))).outcome
    assert isinstance(refusal, CopiesJoining), "it is to ask again, however long it takes"
    assert refusal.message == "one copy is left"
    rounds.doubt = None
    bad = Asked(rounds, (7, sample(1000)), (8, b"this is none"))
    assert isinstance(bad.outcome, BadData)
    assert (rounds.sent, rounds.shard.stream_offset) == ([], -1)
    left = Asked(rounds, (7, sample(1000)))
    rounds.rounds.close()
    assert isinstance(left.outcome, StaleRoute)
    assert isinstance(Asked(rounds, (8, sample(2000))).outcome, StaleRoute)


def test_a_snapshot_of_a_shard_that_a_stream_feeds_has_all_that_is_in_memory(rounds: Rounds, tmp_path: Path) -> None:
    Asked(rounds, (7, sample(1000)))
    rounds.release(FIRST)
    taken: list[tuple[StoreSnapshot, int]] = []
    rounds.rounds.snapshot(lambda *snapshot: taken.append(snapshot), lambda error: None)
    ((snapshot, seq),) = taken
    joining = SnapshotFile(shard_spec(tmp_path / "copy").path, 1, "process")
    for piece in snapshot.pieces(1 << 20):
        joining.add(piece)
    snapshot.close()
    joining.install()
    copy = Shard.open(shard_spec(tmp_path / "copy"))
    assert (copy.stream_offset, copy.stats().samples, seq) == (7, 1, rounds.sent[-1][0])
    copy.close()


def test_a_release_of_what_came_before_does_not_end_a_round(rounds: Rounds) -> None:
    (answer,) = rounds.append(sample(1000))
    assert not rounds.rounds.is_shown
    rounds.release(OPENING_SEQ)
    assert (answer.is_there, rounds.rounds.is_shown) == (False, True)
    rounds.release(FIRST)
    rounds.release(FIRST)
    assert isinstance(answer.wait(), WriteOutcome)


def test_a_bad_container_is_its_senders_affair_alone(rounds: Rounds) -> None:
    answers = rounds.append(sample(1000), b"this is none", sample(2000))
    while rounds.rounds.is_open:
        rounds.release(rounds.sent[-1][0])
    assert [type(reply) for reply in replies(answers)] == [WriteOutcome, Refused, WriteOutcome]
    bad = answers[1].wait()
    assert isinstance(bad, Refused)
    assert bad.error_class == "BadData"
    assert rounds.shown() == [1000, 2000]


def test_what_stores_nothing_is_answered_at_once_and_sent_to_nobody(rounds: Rounds) -> None:
    (answer,) = rounds.append(sample(1000, with_keys=False))
    assert isinstance(answer.wait(), UnknownSeries)
    assert rounds.sent == []
    assert not rounds.rounds.is_open


def test_what_may_not_be_written_is_refused_before_anything_is_stored(rounds: Rounds) -> None:
    rounds.refusal = "too few are in sync"
    (answer,) = rounds.append(sample(1000))
    assert answer.wait() == Refused("Unavailable", "too few are in sync")
    assert rounds.sent == []
    rounds.refusal = ""
    rounds.append(sample(2000))
    rounds.release(FIRST)
    assert rounds.shown() == [2000]


@pytest.mark.parametrize("reason", ["one copy is left", "its lease ended while it hung"])
def test_what_may_not_be_written_any_more_when_it_is_released_is_shown_and_not_acknowledged(
    rounds: Rounds, reason: str
) -> None:
    (answer,) = rounds.append(sample(1000))
    rounds.refusal = reason
    rounds.release(FIRST)
    assert answer.wait() == Refused("Unavailable", reason)
    assert rounds.shown() == [1000]


def test_upkeep_is_numbered_among_the_commits(rounds: Rounds) -> None:
    rounds.append(sample(1000))
    rounds.release(FIRST)
    rounds.shard.flush_all(NOW_MS)
    rounds.append(sample(2000))
    assert [seq for seq, _ in rounds.sent] == [*range(FIRST, FIRST + len(rounds.sent))]
    kinds = [isinstance(entry, CommitEntry) for _, entry in rounds.sent]
    assert (kinds[0], kinds[-1], all(kinds)) == (True, True, False)


def test_a_snapshot_is_taken_between_two_rounds(rounds: Rounds) -> None:
    taken: list[tuple[StoreSnapshot, int]] = []
    failed: list[Exception] = []
    rounds.append(sample(1000))
    rounds.append(sample(2000))
    rounds.rounds.snapshot(lambda *snapshot: taken.append(snapshot), failed.append)
    assert taken == []
    rounds.release(FIRST)
    ((snapshot, seq),) = taken
    snapshot.close()
    assert seq == FIRST
    rounds.rounds.close()
    rounds.rounds.snapshot(lambda *snapshot: taken.append(snapshot), failed.append)
    assert (len(taken), len(failed)) == (1, 1)


def test_who_waits_when_the_shard_is_closed_is_told_that_it_is_elsewhere(rounds: Rounds) -> None:
    answers = rounds.append(sample(1000)) + rounds.append(sample(2000), sample(3000))
    failed: list[Exception] = []
    rounds.rounds.snapshot(lambda *snapshot: None, failed.append)
    rounds.rounds.close()
    assert [reply.error_class for reply in replies(answers) if isinstance(reply, Refused)] == ["StaleRoute"] * 3
    assert len(failed) == 1
    rounds.release(FIRST)
    assert rounds.shown() == []
