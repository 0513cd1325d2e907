"""The checker of operations: silent about every history that a right store can have, never about a planted fault.

A store here is a set of samples that each write changes at one moment while it is under way (or, if its outcome is
unknown, at any later one, or never), and that each read sees as it is at one moment while it is under way.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from filoray.cluster.chaos.ledger import Fault, Verdicts, check_history
from filoray.cluster.chaos.operations import Operation, Outcome, Read, Write

SERIES = ("a", "b", "c")
END_MS = 1000


@dataclass(frozen=True)
class Applied:
    """``at_ms`` None: never."""

    write: Operation
    at_ms: float | None


def right_history(seed: int, writes: int = 25, reads: int = 15) -> tuple[list[Operation], list[Applied]]:
    dice = random.Random(seed)
    applied = [applied_write(dice, timestamp_ms) for timestamp_ms in range(1, writes + 1)]
    history = [one.write for one in applied]
    for index in range(reads):
        begun_ms = dice.randrange(END_MS)
        ended_ms = begun_ms + dice.randrange(1, 200)
        history.append(seen(applied, f"reader {index}", begun_ms, ended_ms, dice.uniform(begun_ms, ended_ms)))
    history.append(seen(applied, "last reader", 5 * END_MS, 5 * END_MS + 1, 5 * END_MS))
    dice.shuffle(history)
    return history, applied


def applied_write(dice: random.Random, timestamp_ms: int) -> Applied:
    begun_ms = dice.randrange(END_MS)
    ended_ms = begun_ms + dice.randrange(1, 200)
    outcome = dice.choice((Outcome.OK, Outcome.OK, Outcome.FAILED, Outcome.UNKNOWN))
    series = tuple(dice.sample(SERIES, dice.randint(1, len(SERIES))))
    write = Operation("w", Write(series, timestamp_ms, dice.random()), begun_ms, ended_ms, outcome, "gateway-0")
    if outcome is Outcome.UNKNOWN:
        return Applied(write, dice.choice((None, dice.uniform(begun_ms, 4 * END_MS))))
    return Applied(write, dice.uniform(begun_ms, ended_ms) if outcome is Outcome.OK else None)


def seen(applied: list[Applied], client: str, begun_ms: int, ended_ms: int, at_ms: float) -> Operation:
    answer: dict[str, dict[int, float]] = {}
    for one in applied:
        if one.at_ms is not None and one.at_ms <= at_ms:
            for series in one.write.request.series:
                answer.setdefault(series, {})[one.write.request.timestamp_ms] = one.write.request.value
    return Operation(client, Read(SERIES, 0, 100), begun_ms, ended_ms, Outcome.OK, "gateway-1", answer)


def without(read: Operation, write: Operation) -> Operation:
    left = {series: dict(samples) for series, samples in (read.answer or {}).items()}
    left[write.request.series[0]].pop(write.request.timestamp_ms)
    return replace(read, answer=left)


def due_reads(history: list[Operation], write: Operation) -> list[int]:
    """Indices of reads that must show it."""
    return [
        index
        for index, one in enumerate(history)
        if isinstance(one.request, Read) and one.begun_ms > write.ended_ms and write.outcome is Outcome.OK
    ]


def faults(verdicts: Verdicts) -> set[Fault]:
    return {one.fault for one in verdicts.wrong}


@given(st.integers())
@settings(max_examples=300, deadline=None)
def test_a_right_store_is_never_blamed(seed: int) -> None:
    history, applied = right_history(seed)
    verdicts = check_history(history)
    assert (verdicts.lost_count, verdicts.wrong_count) == (0, 0), verdicts
    assert verdicts.acknowledged == sum(
        len(one.write.request.series) for one in applied if one.write.outcome is Outcome.OK
    )


@given(st.integers(), st.data())
@settings(deadline=None)
def test_a_lost_sample_is_found_and_named(seed: int, data: st.DataObject) -> None:
    history, applied = right_history(seed)
    acknowledged = [one.write for one in applied if one.write.outcome is Outcome.OK]
    assume(acknowledged)
    lost = data.draw(st.sampled_from(acknowledged))
    due = sorted(due_reads(history, lost), key=lambda index: history[index].begun_ms)
    first = data.draw(st.integers(0, len(due) - 1))
    for index in due[first:]:
        history[index] = without(history[index], lost)
    # Who was asked before the first of these and answered later may show it: it was there then.
    verdicts = check_history(history)
    assert verdicts.lost_count == 1
    assert (verdicts.lost[0].series, verdicts.lost[0].timestamp_ms) == (
        lost.request.series[0],
        lost.request.timestamp_ms,
    )
    assert faults(verdicts) == {Fault.SHORT}


@given(st.integers(), st.data())
@settings(deadline=None)
def test_a_short_answer_is_found_though_nothing_is_lost(seed: int, data: st.DataObject) -> None:
    history, applied = right_history(seed)
    acknowledged = [one.write for one in applied if one.write.outcome is Outcome.OK]
    assume(acknowledged)
    write = data.draw(st.sampled_from(acknowledged))
    due = [index for index in due_reads(history, write) if history[index].client != "last reader"]
    assume(due)
    index = data.draw(st.sampled_from(due))
    history[index] = without(history[index], write)
    verdicts = check_history(history)
    assert (verdicts.lost_count, verdicts.wrong_count) == (0, 1)
    assert verdicts.wrong[0].client == history[index].client
    marked = [*history[:index], replace(history[index], is_marked=True), *history[index + 1 :]]
    assert check_history(marked).wrong_count == 0, "it says itself that it is not whole"


@given(st.integers(), st.data())
@settings(deadline=None)
def test_what_nobody_wrote_was_refused_or_is_another_value_is_found(seed: int, data: st.DataObject) -> None:
    history, applied = right_history(seed)
    index = data.draw(st.sampled_from([i for i, one in enumerate(history) if isinstance(one.request, Read)]))
    refused = [
        one.write
        for one in applied
        if one.write.outcome is Outcome.FAILED and one.write.ended_ms < history[index].ended_ms
    ]
    planted = [("a", 99, 0.5, Fault.NEVER_WRITTEN)]
    planted += [(one.request.series[0], one.request.timestamp_ms, one.request.value, Fault.REFUSED) for one in refused]
    planted += [
        (series, timestamp_ms, value + 1, Fault.OTHER_VALUE)
        for series, samples in (history[index].answer or {}).items()
        for timestamp_ms, value in samples.items()
    ]
    series, timestamp_ms, value, fault = data.draw(st.sampled_from(planted))
    answer = {name: dict(samples) for name, samples in (history[index].answer or {}).items()}
    answer.setdefault(series, {})[timestamp_ms] = value
    history[index] = replace(history[index], answer=answer)
    assert fault in faults(check_history(history))


def test_a_sample_of_unknown_outcome_must_stay_once_it_was_shown() -> None:
    write = Operation("w", Write(("a",), 1, 0.5), 0, 10, Outcome.UNKNOWN, "gateway-0")
    reads = [
        Operation("r", Read(("a",), 0, 9), begun_ms, begun_ms + 5, Outcome.OK, "gateway-1", answer)
        for begun_ms, answer in ((20, {}), (30, {"a": {1: 0.5}}), (40, {}))
    ]
    assert check_history([write, *reads[:2]]).wrong_count == 0
    verdicts = check_history([write, *reads])
    assert (verdicts.lost_count, verdicts.wrong_count) == (1, 1)
    assert verdicts.lost[0].acknowledged_by == "shown by gateway-1"


def test_a_read_that_was_asked_before_the_acknowledgement_may_lack_it() -> None:
    write = Operation("w", Write(("a",), 1, 0.5), 0, 10, Outcome.OK, "gateway-0")
    read = Operation("r", Read(("a",), 0, 9), 10, 50, Outcome.OK, "gateway-1", {})
    assert check_history([write, read]).wrong_count == 0
    assert check_history([write, replace(read, begun_ms=11)]).wrong_count == 1
