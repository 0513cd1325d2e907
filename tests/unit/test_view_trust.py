from __future__ import annotations

import asyncio
from collections.abc import Callable

from filoray.http.fanout.view_trust import ViewTrust


class Sleeper:
    """A gateway whose clock the test turns, and what it asked for."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.asked = 0
        self.gate = asyncio.Event()
        self.trust = ViewTrust(1000, self.ask, lambda: self.now_ms)

    async def ask(self) -> None:
        self.asked += 1
        await self.gate.wait()


def play(story: Callable[[Sleeper], object]) -> None:
    async def run() -> None:
        await story(Sleeper())  # type: ignore[misc]

    asyncio.run(run())


def test_a_gateway_that_runs_asks_nobody() -> None:
    async def story(gateway: Sleeper) -> None:
        for gateway.now_ms in range(0, 20_000, 1000):
            await asyncio.wait_for(gateway.trust.settle(), 1)
        assert gateway.asked == 0

    play(story)


def test_after_a_sleep_requests_wait_for_the_present_view_which_is_asked_for_once() -> None:
    async def story(gateway: Sleeper) -> None:
        gateway.now_ms = 8000
        waiting = [asyncio.ensure_future(gateway.trust.settle()) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert not any(request.done() for request in waiting)
        gateway.gate.set()
        await asyncio.wait_for(asyncio.gather(*waiting), 1)
        assert gateway.asked == 1
        await asyncio.wait_for(gateway.trust.settle(), 1)
        assert gateway.asked == 1

    play(story)


def test_a_view_that_was_on_its_way_while_the_gateway_slept_is_asked_for_again() -> None:
    async def story(gateway: Sleeper) -> None:
        gateway.now_ms = 8000
        waiting = asyncio.ensure_future(gateway.trust.settle())
        await asyncio.sleep(0.01)
        gateway.now_ms = 16_000
        later = asyncio.ensure_future(gateway.trust.settle())
        await asyncio.sleep(0.01)
        gateway.gate.set()
        await asyncio.wait_for(asyncio.gather(waiting, later), 1)
        assert gateway.asked == 2

    play(story)


def test_a_sleep_is_noticed_without_a_request() -> None:
    async def story(gateway: Sleeper) -> None:
        gateway.trust = ViewTrust(100, gateway.ask, lambda: gateway.now_ms)
        gateway.gate.set()
        gateway.trust.start()
        await asyncio.sleep(0.06)
        assert gateway.asked == 0
        gateway.now_ms = 500
        for _ in range(400):
            if gateway.asked:
                break
            await asyncio.sleep(0.01)
        assert gateway.asked == 1
        gateway.trust.close()

    play(story)
