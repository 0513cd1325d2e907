"""Gates: how many run, how many wait, who is refused."""

import asyncio

import pytest

from filoray.cluster.errors import QueryTimeout, TooManyRequests, Unavailable
from filoray.http.admission import AdmissionGate, ByteBudget


async def hold(gate, release, timeout_ms=60_000):
    async with gate.slot(timeout_ms):
        await release.wait()


async def test_who_finds_the_queue_full_is_refused_at_once():
    gate, release = AdmissionGate("queries", 1, 1, "filoray.query.max-concurrent"), asyncio.Event()
    runs = asyncio.create_task(hold(gate, release))
    waits = asyncio.create_task(hold(gate, release))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (gate.running, gate.waiting) == (1, 1)
    with pytest.raises(Unavailable, match=r"too many queries at once: 1 are running and 1 waiting; filoray\.query"):
        async with gate.slot(1000):
            pass
    release.set()
    await asyncio.gather(runs, waits)
    assert (gate.running, gate.waiting) == (0, 0)


async def test_waiting_is_part_of_the_time_that_is_allowed():
    gate, release = AdmissionGate("queries", 1, 9, "key"), asyncio.Event()
    runs = asyncio.create_task(hold(gate, release))
    await asyncio.sleep(0)
    with pytest.raises(QueryTimeout, match="timed out after 5 ms in the queue: 1 queries are running"):
        await hold(gate, release, timeout_ms=5)
    assert gate.waiting == 0
    release.set()
    await runs


async def test_a_waiter_that_goes_away_leaves_no_trace():
    gate, release = AdmissionGate("queries", 1, 1, "key"), asyncio.Event()
    runs = asyncio.create_task(hold(gate, release))
    waits = asyncio.create_task(hold(gate, release))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    release.set()
    await runs
    async with gate.slot(10) as left_ms:
        assert 0 < left_ms <= 10
    assert (gate.running, gate.waiting) == (0, 0)


def test_a_byte_budget_takes_one_of_any_size_and_then_what_fits():
    budget = ByteBudget(100, "filoray.write.max-pending-size")
    with budget.share() as first, budget.share() as second:
        first.grow(60)
        first.grow(940)
        with pytest.raises(TooManyRequests, match="1000 bytes of other writes"):
            second.grow(1)
    with budget.share() as first, budget.share() as second:
        first.grow(60)
        second.grow(40)
        with pytest.raises(TooManyRequests):
            first.grow(1)
        assert (first.size_bytes, second.size_bytes) == (60, 40)
    with budget.share() as alone:
        alone.grow(101)
