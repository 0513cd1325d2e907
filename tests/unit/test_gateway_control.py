"""The coordinator as a gateway sees it, while Ray does not answer."""

import asyncio
import dataclasses
import threading

import pytest
from ray.exceptions import RayActorError

from filoray.cluster.cluster_view import ClusterView
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.errors import AnswerOverdue, Unavailable
from filoray.http.fanout.view_holder import ViewHolder
from filoray.http.server import services
from filoray.http.server.services import RayClusterControl


class Reference:
    def __init__(self, answer):
        self._answer = answer

    def future(self):
        from concurrent.futures import Future

        future = Future()
        if isinstance(self._answer, Exception):
            future.set_exception(self._answer)
        else:
            future.set_result(self._answer)
        return future


class Actor:
    def __init__(self, answers):
        self._answers = answers

    def __getattr__(self, method):
        answers = self._answers

        class Method:
            @staticmethod
            def remote(*args):
                return Reference(answers.pop(0) if len(answers) > 1 else answers[0])

        return Method


@pytest.fixture
async def control():
    made = RayClusterControl(default_server_config(), "gateway-0")
    made.views = ViewHolder(ClusterView(3), lambda info: None)
    yield made
    made.close()


async def test_a_ray_that_hangs_takes_no_thread_that_others_need_and_not_for_ever(control, monkeypatch):
    hangs = threading.Event()
    asked_on = set()
    monkeypatch.setattr(services.ray, "get_actor", lambda *name: (asked_on.add(threading.get_ident()), hangs.wait(30)))
    monkeypatch.setattr(services, "_FIRST_VIEW_TIMEOUT_S", 0.1)
    asking = [asyncio.create_task(control.actors()) for _ in range(20)]
    asking += [asyncio.create_task(control.newest_view()) for _ in range(20)]
    await asyncio.sleep(0.05)
    decoded = await asyncio.gather(*(asyncio.to_thread(threading.get_ident) for _ in range(100)))
    assert len(decoded) == 100
    assert 0 < len(asked_on) < 10
    assert asked_on.isdisjoint(decoded)
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert answers[:20] == [{}] * 20  # of the processes that answer there are none
    assert {type(answer) for answer in answers[20:]} == {AnswerOverdue}
    hangs.set()


async def test_what_was_given_up_is_not_ordered_later(control, monkeypatch):
    hangs, ordered = threading.Event(), []

    class Coordinator:
        class delete_dataset:
            @staticmethod
            def remote(*args):
                ordered.append(args)

    def look_up(*name):
        hangs.wait(30)
        return Coordinator

    monkeypatch.setattr(services.ray, "get_actor", look_up)
    with pytest.raises(Unavailable, match=r"the coordinator did not answer within 0\.05 s"):
        await control._call("delete_dataset", "timeseries", actor="coordinator", timeout_s=0.05)
    hangs.set()
    control._threads.shutdown(wait=True)
    assert ordered == []


async def test_the_newest_view_is_taken_over(control, monkeypatch):
    monkeypatch.setattr(services.ray, "get_actor", lambda *name: Actor([ClusterView(5)]))
    assert (await control.newest_view()).version == 5
    assert control.view().version == 5


@pytest.mark.parametrize("error", [ValueError("Failed to look up actor"), RayActorError()])
async def test_a_coordinator_that_is_not_there_is_unavailable(control, monkeypatch, error):
    def look_up(*name):
        if isinstance(error, ValueError):
            raise error
        return Actor([error])

    monkeypatch.setattr(services.ray, "get_actor", look_up)
    with pytest.raises(Unavailable, match="the coordinator is not there"):
        await control.newest_view()
    assert control.view().version == 3


async def test_an_order_is_given_to_the_coordinator_that_leads_not_left_with_one_that_is_cut_off(monkeypatch):
    url, config = "postgresql+psycopg://u:p@db/d", default_server_config()
    node = dataclasses.replace(config.node, host="0.0.0.0")
    control = RayClusterControl(
        dataclasses.replace(config, node=node, meta_store_url=url, column_store_url=url), "gateway-0"
    )
    control.views = ViewHolder(ClusterView(0), lambda info: None)
    asked, is_cut = [], set()

    async def call(method, *args, actor, timeout_s=30):
        asked.append((actor, method))
        if actor in is_cut:
            raise AnswerOverdue(f"the {actor} did not answer within {timeout_s} s")
        return ClusterView(1) if method == "subscribe" else None

    monkeypatch.setattr(control, "_call", call)
    await control.drain_node("node-0")
    is_cut.add("coordinator-0")  # and no view of the other has come yet
    await control.drain_node("node-1")
    orders = [actor for actor, method in asked if method == "drain_node"]
    assert orders == ["coordinator-0", "coordinator-1"]
    control.close()
