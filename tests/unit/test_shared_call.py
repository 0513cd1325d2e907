"""Many ask, few calls are made, and each asker's answer is newer than its question."""

import asyncio

import pytest

from filoray.http.fanout.shared_call import SharedCall


class Source:
    def __init__(self):
        self.begun = 0
        self.hold = asyncio.Event()
        self.error = None

    async def call(self):
        self.begun += 1
        number = self.begun
        await self.hold.wait()
        if self.error:
            raise self.error
        return number


async def test_who_asks_during_a_call_gets_the_next_one():
    source = Source()
    shared = SharedCall(source.call)
    first = asyncio.create_task(shared.get())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(shared.get()) for _ in range(100)]
    await asyncio.sleep(0)
    assert source.begun == 1
    source.hold.set()
    assert await asyncio.gather(first, *others) == [1] + [2] * 100
    assert await shared.get() == 3


async def test_an_error_is_everybodys_and_the_next_call_is_made_anew():
    source = Source()
    source.error = ValueError("no")
    shared = SharedCall(source.call)
    asking = [asyncio.create_task(shared.get()) for _ in range(3)]
    await asyncio.sleep(0)
    source.hold.set()
    assert [type(answer) for answer in await asyncio.gather(*asking, return_exceptions=True)] == [ValueError] * 3
    source.error = None
    assert await shared.get() == 3


async def test_who_goes_away_takes_no_other_answer_along():
    source = Source()
    shared = SharedCall(source.call)
    first, second, third = (asyncio.create_task(shared.get()) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    source.hold.set()
    assert await third == 2
    with pytest.raises(asyncio.CancelledError):
        await first
