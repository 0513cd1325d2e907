"""Gates: how many run, how many wait, who is refused."""

import asyncio
from random import Random

import pytest

from filoray.cluster.errors import QueryTimeout, Unavailable
from filoray.http.server.admission import AdmissionGate, ClientShare


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


async def test_the_client_with_fewest_running_is_next():
    gate, release = AdmissionGate("queries", 2, 9, "key"), asyncio.Event()
    order = []

    async def run(client, number):
        async with gate.slot(60_000, client):
            order.append((client, number))
            await release.wait()

    flood = [asyncio.create_task(run("flood", number)) for number in range(5)]
    await asyncio.sleep(0)
    other = [asyncio.create_task(run("other", number)) for number in range(2)]
    await asyncio.sleep(0)
    assert (gate.running, gate.waiting) == (2, 5)
    release.set()
    await asyncio.gather(*flood, *other)
    assert order == [("flood", 0), ("flood", 1), ("other", 0), ("flood", 2), ("other", 1), ("flood", 3), ("flood", 4)]
    assert (gate.running, gate.waiting) == (0, 0)


async def test_no_client_has_all_slots():
    gate, release = AdmissionGate("queries", 5, 9, "key", ClientShare(80)), asyncio.Event()

    async def run(client):
        async with gate.slot(60_000, client):
            await release.wait()

    flood = [asyncio.create_task(run("flood")) for _ in range(6)]
    await asyncio.sleep(0)
    assert (gate.running, gate.waiting) == (4, 2)
    other = asyncio.create_task(run("other"))
    await asyncio.sleep(0)
    assert (gate.running, gate.waiting) == (5, 2)
    release.set()
    await asyncio.gather(*flood, other)


async def test_a_full_queue_refuses_whoever_waits_with_most():
    gate, release = AdmissionGate("queries", 1, 3, "key"), asyncio.Event()

    async def run(client):
        async with gate.slot(60_000, client):
            await release.wait()

    flood = [asyncio.create_task(run("flood")) for _ in range(4)]
    await asyncio.sleep(0)
    others = [asyncio.create_task(run(client)) for client in ("a", "b")]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [task.done() for task in flood] == [False, False, True, True]
    with pytest.raises(Unavailable, match="too many queries"):
        await run("a")
    with pytest.raises(Unavailable, match="too many queries"):
        await run("flood")
    assert gate.waiting == 3
    release.set()
    answers = await asyncio.gather(*flood, *others, return_exceptions=True)
    assert [type(answer) for answer in answers[2:4]] == [Unavailable] * 2
    assert (gate.running, gate.waiting) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_comes_and_goes_the_counts_add_up(seed):
    random = Random(seed)
    gate = AdmissionGate("queries", 3, 6, "key", ClientShare(random.choice((30, 70, 100))))

    async def run(client):
        async with gate.slot(random.choice((1, 5_000)), client):
            assert gate.running <= 3
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0)

    tasks = []
    for _ in range(200):
        tasks.append(asyncio.create_task(run(random.choice("aaaabc"))))
        if random.random() < 0.3:
            random.choice(tasks).cancel()
        if random.random() < 0.5:
            await asyncio.sleep(0)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    kinds = {type(answer) for answer in answers if answer is not None}
    assert kinds <= {Unavailable, QueryTimeout, asyncio.CancelledError}
    assert None in answers
    assert (gate.running, gate.waiting) == (0, 0)
    async with gate.slot(1):
        pass
