"""Bytes held by requests: what fits, and who goes when it does not."""

import asyncio
from contextlib import ExitStack

import pytest

from filoray.cluster.errors import TooManyRequests, Unavailable
from filoray.http.server.admission import ClientShare
from filoray.http.server.byte_budgets import ByteBudget, UnsentBudget


def test_a_byte_budget_takes_one_of_any_size_and_then_what_fits():
    budget = ByteBudget(100, "filoray.write.max-pending-size")
    with budget.share() as first, budget.share() as second:
        first.grow(60)
        first.grow(940)
        with pytest.raises(TooManyRequests, match="1000 bytes of other requests"):
            second.grow(1)
    with budget.share() as first, budget.share() as second:
        first.grow(60)
        second.grow(40)
        with pytest.raises(TooManyRequests):
            first.grow(1)
        assert (first.size_bytes, second.size_bytes) == (60, 40)
        with pytest.raises(TooManyRequests), first.holding(1):
            pass
    with budget.share() as alone:
        with alone.holding(500):
            assert alone.size_bytes == 500
        alone.grow(101)
    with budget.share() as first, budget.share() as second:
        first.grow(50)
        with first.holding(50), pytest.raises(TooManyRequests):
            second.grow(1)
        second.grow(50)


KEPT = ExitStack()


def receiving(budget, client, size_bytes, cut):
    """A share whose body arrives; ``cut`` hears its name when it is cut off."""
    share = KEPT.enter_context(budget.share(client))
    share.cut_off = lambda: cut.append(share)
    share.grow(size_bytes)
    return share


def test_the_oldest_unfinished_body_of_the_client_with_most_goes_first():
    budget, cut = ByteBudget(100, "key"), []
    small, first, second = (
        receiving(budget, "a", 20, cut),
        receiving(budget, "b", 40, cut),
        receiving(budget, "b", 40, cut),
    )
    with budget.share("c") as newcomer:
        newcomer.grow(30)
        assert cut == [first]
        newcomer.grow(70)
        assert cut == [first, second, small]
        with pytest.raises(Unavailable, match="was not complete when its place was needed for others, key = 100"):
            first.grow(1)


def test_complete_bodies_stay():
    budget, cut = ByteBudget(100, "key"), []
    complete = receiving(budget, "a", 90, cut)
    complete.cut_off = None
    with budget.share("b") as newcomer, pytest.raises(TooManyRequests):
        newcomer.grow(20)
    assert cut == []


def test_one_client_does_not_hold_everything():
    budget = ByteBudget(100, "key", ClientShare(80))
    with budget.share("a") as first, budget.share("a") as second, budget.share("b") as other:
        first.grow(50)
        second.grow(30)
        with pytest.raises(TooManyRequests, match=r"filoray\.http\.max-client-percent"):
            second.grow(1)
        other.grow(20)


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


async def test_an_answer_waits_for_room_and_the_client_that_took_nothing_longest_is_cut_off():
    clock, cut = Clock(), []
    budget = UnsentBudget(100, "key", 1000, now_s=clock)
    with budget.answer("a") as first, budget.answer("a") as second, budget.answer("b") as third:
        for answer in (first, second):
            await answer.take(40, 1000)
            answer.cut_off = lambda answer=answer: cut.append(answer)
        taking = asyncio.create_task(third.take(40, 60_000))
        await asyncio.sleep(0)
        assert not taking.done()
        with second.waiting():
            clock.now_s += 0.7
            with first.waiting():
                clock.now_s += 0.4
                budget._given_back.set()
                await taking
        assert cut == [second]
        assert budget.held_bytes == 80
    assert budget.held_bytes == 0


async def test_room_that_others_give_back_is_taken_at_once():
    budget = UnsentBudget(100, "key", 60_000)
    with budget.answer() as second:
        with budget.answer() as first:
            await first.take(1000, 1)  # alone it may have what it needs
            taking = asyncio.create_task(second.take(40, 60_000))
            await asyncio.sleep(0)
            assert not taking.done()
        await taking
        assert budget.held_bytes == 40


async def test_an_answer_for_which_there_is_no_room_in_its_time_is_refused():
    budget = UnsentBudget(100, "key", 60_000, ClientShare(50))
    with budget.answer("a") as first, budget.answer("a") as second, budget.answer("b") as other:
        await first.take(40, 1)
        with pytest.raises(Unavailable, match=r"40 bytes of answers wait for their clients .* key = 100"):
            await second.take(11, 1)
        await other.take(50, 1)
