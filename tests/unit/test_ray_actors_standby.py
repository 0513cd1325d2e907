"""That a coordinator which is to stand by is said to be there only when it is."""

from __future__ import annotations

import asyncio
import dataclasses
from concurrent.futures import Future

import pytest
import ray

from filoray.cluster.actors import ray_actors
from filoray.cluster.actors.ray_actors import ActorCallFailed, RayActors
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.machine_placement import Machine, Placement
from filoray.cluster.node_protocol import NodeSpec

URL = "postgresql+psycopg://u:p@db/d"
CONFIG = dataclasses.replace(
    default_server_config(),
    node=dataclasses.replace(default_server_config().node, host="0.0.0.0"),
    meta_store_url=URL,
    column_store_url=URL,
)
HOME = Machine("home", "10.0.0.1")


class Standby:
    """An actor whose first answer is ``answer``, or which died of it."""

    def __init__(self, answer: int | Exception) -> None:
        self._answer = answer
        self.ping = self

    def remote(self) -> Standby:
        return self

    def future(self) -> Future[int]:
        future: Future[int] = Future()
        if isinstance(self._answer, Exception):
            future.set_exception(self._answer)
        else:
            future.set_result(self._answer)
        return future


def placed(patch: pytest.MonkeyPatch, standby: Standby) -> None:
    def nobody(name: str, _: str) -> None:
        raise ValueError(f"there is no {name}")

    patch.setattr(ray, "get_actor", nobody)
    patch.setattr(ray_actors, "make_coordinator", lambda *_: standby)
    actors = RayActors(CONFIG, NodeSpec(), Placement(HOME, (HOME,), is_bound=False), "coordinator-0")
    asyncio.run(actors.place_standby("other"))


def test_one_that_begins_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    placed(monkeypatch, Standby(17))


def test_one_that_cannot_begin_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ActorCallFailed):
        placed(monkeypatch, Standby(ray.exceptions.ActorDiedError()))
