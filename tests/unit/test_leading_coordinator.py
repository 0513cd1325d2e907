"""Whom those ask who need the coordinator that leads, over actors that stand by, lead, hang or have died."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import ray
from waiting import wait_until

from filoray.cluster.actors import leading_coordinator
from filoray.cluster.actors.leading_coordinator import LeadingCoordinator
from filoray.cluster.errors import NotLeading, Unavailable

LEADS, STANDS_BY, HANGS, DIED = "leads", "stands by", "hangs", "died"


@dataclass
class Actor:
    """``heard``: what it was asked, and how long it had for that."""

    state: str
    heard: list[tuple[str, float]] = field(default_factory=list)

    def __getattr__(self, method: str) -> Method:
        return Method(self, method)


@dataclass
class Method:
    actor: Actor
    name: str

    def remote(self, *_: object) -> Method:
        return self


class Ray:
    """What the module uses of Ray. ``actors``: who has which name now."""

    def __init__(self, **actors: Actor) -> None:
        self.exceptions = ray.exceptions
        self.actors = {name.replace("_", "-"): actor for name, actor in actors.items()}

    def is_initialized(self) -> bool:
        return True

    def get_actor(self, name: str, namespace: str) -> Actor:
        if name not in self.actors:
            raise ValueError(f"there is no {name}")
        return self.actors[name]

    def get(self, call: Method, timeout: float) -> str:
        call.actor.heard.append((call.name, timeout))
        match call.actor.state:
            case "stands by":
                cause = NotLeading("this coordinator stands by")
                raise ray.exceptions.RayTaskError(call.name, "", cause)
            case "hangs":
                raise ray.exceptions.GetTimeoutError("no answer")
            case "died":
                raise ray.exceptions.ActorDiedError
        return f"{call.name} done"


NAMES = ("coordinator-0", "coordinator-1")


def asked(patch: pytest.MonkeyPatch, **actors: Actor) -> tuple[Ray, LeadingCoordinator]:
    fake = Ray(**actors)
    patch.setattr(leading_coordinator, "ray", fake)
    leader = LeadingCoordinator(NAMES, "namespace")
    leader.look_up()
    return fake, leader


def test_one_that_was_made_anew_under_a_name_is_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    former, hanging, present = Actor(STANDS_BY), Actor(HANGS), Actor(LEADS)
    fake, leader = asked(monkeypatch, coordinator_0=former, coordinator_1=hanging)
    former.state, fake.actors["coordinator-0"] = DIED, present
    leader.prefer("coordinator-0")
    assert leader.ask("shard_events", timeout_s=3) == "shard_events done"
    assert hanging.heard == []


def test_one_that_does_not_answer_is_looked_up_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    former, present = Actor(LEADS), Actor(LEADS)
    fake, leader = asked(monkeypatch, coordinator_0=former, coordinator_1=Actor(STANDS_BY))
    former.state, fake.actors["coordinator-0"] = HANGS, present
    with pytest.raises(Unavailable):
        leader.ask("shard_events", timeout_s=3)
    wait_until(lambda: leader._actors["coordinator-0"] is present, "the present one is known")
    assert leader.ask("shard_events", timeout_s=3) == "shard_events done"


def test_one_that_died_and_has_no_successor_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    died, leading = Actor(DIED), Actor(LEADS)
    _, leader = asked(monkeypatch, coordinator_0=died, coordinator_1=leading)
    assert leader.ask("members", timeout_s=3) == "members done"
    assert leader.ask("members", timeout_s=3) == "members done"
    assert len(died.heard) == 2, "asked anew by its name once, then the one that leads comes first"


def test_what_takes_long_is_asked_of_the_one_that_leads_only(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging, leading = Actor(HANGS), Actor(LEADS)
    _, leader = asked(monkeypatch, coordinator_0=hanging, coordinator_1=leading)
    leader.find(5)
    assert leader.ask("shutdown", timeout_s=60) == "shutdown done"
    assert hanging.heard == [("members", 5)]


def test_where_none_leads_each_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _, leader = asked(monkeypatch, coordinator_0=Actor(HANGS), coordinator_1=Actor(STANDS_BY))
    with pytest.raises(Unavailable, match="coordinator-0: no answer; coordinator-1 stands by"):
        leader.find(5)
