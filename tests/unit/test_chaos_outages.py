"""How long clients waited for a fault."""

from __future__ import annotations

from filoray.cluster.chaos.operations import Outcome
from filoray.cluster.chaos.outages import Outage, OutageRow, outage_table, outages
from filoray.cluster.chaos.timeline import Call, Mark, MarkKind, Timeline

OK, UNKNOWN, FAILED = Outcome.OK, Outcome.UNKNOWN, Outcome.FAILED


def fault(at_ms: int, text: str = "kill node 0", remark: str = "") -> Mark:
    return Mark(MarkKind.FAULT, 1, text, at_ms, at_ms, remark)


def calls(client: str, *times: tuple[int, int, Outcome], is_write: bool = True) -> list[Call]:
    return [Call(client, is_write, begun_ms, ended_ms, outcome) for begun_ms, ended_ms, outcome in times]


def test_a_fault_that_nobody_notices_has_the_outage_of_an_ordinary_call() -> None:
    timeline = Timeline([fault(1000)], [], calls("w", (0, 5, OK), (1200, 1206, OK), (1400, 1407, OK)), 2000)
    assert outages(timeline) == [Outage("kill node", 7, None)]


def test_a_call_without_an_answer_waits_until_the_client_is_answered() -> None:
    some = calls("w", (900, 905, OK), (1100, 1300, UNKNOWN), (1310, 1500, FAILED), (1600, 1610, OK))
    assert outages(Timeline([fault(1000)], [], some, 3000)) == [Outage("kill node", 510, None)]


def test_a_call_that_was_open_when_it_struck_waits_from_then() -> None:
    assert outages(Timeline([fault(1000)], [], calls("w", (900, 1250, OK)), 2000)) == [Outage("kill node", 250, None)]


def test_the_longest_of_all_clients_counts_each_kind_by_itself() -> None:
    some = calls("w1", (1100, 1200, OK)) + calls("w2", (1100, 1400, OK))
    reads = calls("r", (1100, 1150, OK), is_write=False)
    assert outages(Timeline([fault(1000)], [], some + reads, 2000)) == [Outage("kill node", 300, 50)]


def test_what_is_asked_after_the_next_fault_is_that_ones() -> None:
    some = calls("w", (1100, 1110, OK), (2100, 2400, OK))
    timeline = Timeline([fault(1000), fault(2000, "hang node 1")], [], some, 3000)
    assert outages(timeline) == [Outage("kill node", 10, None), Outage("hang node", 300, None)]


def test_a_fault_that_strikes_while_an_earlier_one_is_not_over_has_no_outage_of_its_own() -> None:
    some = calls("w", (1100, 5000, OK), (5010, 5020, OK)) + calls("w2", (4100, 4200, OK))
    timeline = Timeline([fault(1000), fault(4000, "kill coordinator")], [], some, 9000)
    assert outages(timeline) == [Outage("kill node", 3900, None), Outage("kill coordinator", None, None)]


def test_who_is_never_answered_again_has_no_number() -> None:
    timeline = Timeline([fault(1000)], [], calls("w", (1100, 1200, UNKNOWN)), 2000)
    assert outages(timeline) == [Outage("kill node", None, None)]


def test_a_fault_that_could_not_be_done_is_none() -> None:
    assert outages(Timeline([fault(1000, remark="there is no such process now")], [], [], 2000)) == []


def test_the_table_has_median_p99_and_maximum_by_kind() -> None:
    found = [Outage("kill node", ms, None) for ms in range(1, 201)] + [Outage("hang node", None, 5)]
    assert outage_table(found) == [
        OutageRow("kill node", 200, (100.5, 198, 200), None),
        OutageRow("hang node", 1, None, (5, 5, 5)),
    ]
