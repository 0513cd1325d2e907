"""Cluster histories as plain text, one step a line, run against anything that can play them (``ScenarioDriver``).

    nodes 3                                       first line: how many
    dataset timeseries shards 4 min-nodes 2       set it up
    expect all Active within 5s                   every shard of every dataset
    kill node 2                                   SIGKILL; likewise `hang` and `resume`; `kill coordinator` &c.
    expect shard 3 Active within 2s               status names without ShardStatus; the last dataset named counts
    expect node 2 up within 10s                   `up` or `away`
    stop shard 1                                  by an operator; `start shard 1 on node 0`
    delete dataset timeseries
    wait 3s
    # a comment

The same text runs in virtual time against the simulator and in real time against real actors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.errors import BadData
from filoray.cluster.units import parse_duration_ms

POLL_MS = 1
"""How closely an expectation looks: short-lived statuses must be seen."""


class ScenarioDriver(Protocol):
    """A cluster that a scenario acts on. Nodes are named by index."""

    def set_up_dataset(self, dataset: str, num_shards: int, min_num_nodes: int) -> None: ...
    def delete_dataset(self, dataset: str) -> None: ...
    def kill_node(self, index: int) -> None: ...
    def hang_node(self, index: int) -> None: ...
    def resume_node(self, index: int) -> None: ...
    def kill_coordinator(self) -> None: ...
    def hang_coordinator(self) -> None: ...
    def resume_coordinator(self) -> None: ...
    def stop_shard(self, dataset: str, shard: int) -> None: ...
    def start_shard(self, dataset: str, shard: int, node_index: int) -> None: ...
    def statuses(self) -> dict[str, list[StatusKind]]:
        """Dataset to its shards' statuses, as a gateway would show them."""

    def members(self) -> frozenset[int]:
        """Indices of nodes that are members, as a gateway would show them."""

    def advance(self, duration_ms: int) -> None:
        """Let that much time pass."""


class ScenarioFailed(AssertionError):
    """An expectation did not come true in time; the message has line, expectation and what was seen instead."""


@dataclass(frozen=True, slots=True)
class Step:
    line: int
    text: str
    words: tuple[str, ...]


def parse_scenario(text: str) -> tuple[int, tuple[Step, ...]]:
    """The node count and the steps. Raises BadData naming the line that is no step."""
    steps = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.partition("#")[0].strip()
        if not stripped:
            continue
        match = next((match for form in _FORMS if (match := re.fullmatch(form, stripped))), None)
        if match is None:
            raise BadData(f"line {number}: {stripped!r} is not a step of a scenario")
        steps.append(Step(number, stripped, tuple(stripped.split())))
    if not steps or steps[0].words[0] != "nodes":
        raise BadData("line 1: a scenario starts with `nodes N`")
    return int(steps[0].words[1]), tuple(steps[1:])


_STATUS = "|".join(kind.value.removeprefix("ShardStatus") for kind in StatusKind)
_DURATION = r"\d+(?:ms|s|m)"
_FORMS = (
    r"nodes \d+",
    r"dataset \w+ shards \d+ min-nodes \d+",
    r"delete dataset \w+",
    rf"expect all (?:{_STATUS}) within {_DURATION}",
    rf"expect shard \d+ (?:{_STATUS}) within {_DURATION}",
    rf"expect node \d+ (?:up|away) within {_DURATION}",
    r"(?:kill|hang|resume) node \d+",
    r"(?:kill|hang|resume) coordinator",
    r"stop shard \d+",
    r"start shard \d+ on node \d+",
    rf"wait {_DURATION}",
)


def run_scenario(steps: tuple[Step, ...], driver: ScenarioDriver) -> None:
    """Play the steps in order. Raises ScenarioFailed at the first expectation that does not come true."""
    dataset = ""
    for step in steps:
        match step.words:
            case ("dataset", name, "shards", shards, "min-nodes", nodes):
                dataset = name
                driver.set_up_dataset(name, int(shards), int(nodes))
            case ("delete", "dataset", name):
                driver.delete_dataset(name)
            case ("expect", "all", status, "within", duration):
                _await(step, driver, duration, _all_are(driver, _kind(status)))
            case ("expect", "shard", shard, status, "within", duration):
                _await(step, driver, duration, _shard_is(driver, dataset, int(shard), _kind(status)))
            case ("expect", "node", node, state, "within", duration):
                _await(step, driver, duration, _node_is(driver, int(node), is_up=state == "up"))
            case ("kill", "node", node):
                driver.kill_node(int(node))
            case ("hang", "node", node):
                driver.hang_node(int(node))
            case ("resume", "node", node):
                driver.resume_node(int(node))
            case ("kill", "coordinator"):
                driver.kill_coordinator()
            case ("hang", "coordinator"):
                driver.hang_coordinator()
            case ("resume", "coordinator"):
                driver.resume_coordinator()
            case ("stop", "shard", shard):
                driver.stop_shard(dataset, int(shard))
            case ("start", "shard", shard, "on", "node", node):
                driver.start_shard(dataset, int(shard), int(node))
            case ("wait", duration):
                driver.advance(parse_duration_ms(duration))
            case _:
                raise AssertionError(f"a form without a meaning: {step}")


def _await(step: Step, driver: ScenarioDriver, duration: str, condition: Callable[[], bool]) -> None:
    remaining_ms = parse_duration_ms(duration)
    while not condition():
        if remaining_ms <= 0:
            seen = {name: [kind.value for kind in kinds] for name, kinds in driver.statuses().items()}
            raise ScenarioFailed(f"line {step.line}: {step.text}: seen {seen}, members {sorted(driver.members())}")
        driver.advance(POLL_MS)
        remaining_ms -= POLL_MS


def _kind(status: str) -> StatusKind:
    return StatusKind(f"ShardStatus{status}")


def _all_are(driver: ScenarioDriver, kind: StatusKind) -> Callable[[], bool]:
    def check() -> bool:
        statuses = driver.statuses()
        return bool(statuses) and all(one is kind for kinds in statuses.values() for one in kinds)

    return check


def _shard_is(driver: ScenarioDriver, dataset: str, shard: int, kind: StatusKind) -> Callable[[], bool]:
    def check() -> bool:
        kinds = driver.statuses().get(dataset, [])
        return shard < len(kinds) and kinds[shard] is kind

    return check


def _node_is(driver: ScenarioDriver, node: int, *, is_up: bool) -> Callable[[], bool]:
    return lambda: (node in driver.members()) == is_up
