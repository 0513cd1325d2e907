"""Which world can play which word of a scenario, and what a real one must have for it: one table, ``PLAYED``.

A step that cannot be played is refused before anything is started, with its line and the reason: what is not really
done to a cluster proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import get_args

from filoray.cluster.chaos.actions import (
    Action,
    Cut,
    Delete,
    Drain,
    Every,
    Expectation,
    FillDisk,
    FreeDisk,
    Hang,
    Heal,
    JumpClock,
    Kill,
    LoseDisk,
    MoveShard,
    Part,
    RestoreDisk,
    RestoreLinks,
    Resume,
    RollingRestart,
    Scale,
    SetUp,
    SlowDisk,
    SlowLinks,
    StartQuerying,
    StartShard,
    StartWriting,
    StopQuerying,
    StopShard,
    StopWriting,
    Undrain,
    Wait,
)
from filoray.cluster.chaos.language import Scenario


class World(Enum):
    REAL = "a real cluster"
    SIMULATED = "the simulator"


class Need(Enum):
    """What is not there for every real cluster. The reason why it is not is found out where the cluster is."""

    OWN_RAY = auto()
    """Ray was started for the cluster, and its launch is known."""
    SMALL_DISK = auto()
    """The cluster is this run's own, and a small file system may be mounted for its data."""


class Word(Enum):
    PROCESSES = "kill, hang, resume: a node, a gateway, the coordinator"
    SEED = "kill, hang, resume: the seed"
    RAYLET = "kill raylet"
    OWN_MACHINES = "nodes on machines of their own"
    CUT = "cut, heal"
    LINKS = "slow links, restore links"
    FULL_DISK = "fill disk, free disk"
    SLOW_DISK = "slow disk, restore disk"
    LOST_DISK = "lose disk"
    CLOCK = "jump clock"
    ORDERS = "dataset, delete, stop shard, start shard"
    SPREAD = "move shard, drain, undrain, rolling restart"
    SCALE = "scale"
    LOAD = "write, query"
    EXPECT = "expect"
    COURSE = "wait, every"


@dataclass(frozen=True, slots=True)
class Played:
    """``simulated`` and ``real``: why it is not played there, or "". ``need``: of a real cluster, if it is."""

    simulated: str = ""
    real: str = ""
    need: Need | None = None


_NO_NETWORK = "all nodes of such a cluster are on this machine, and there is no network between them that could be cut"

PLAYED: dict[Word, Played] = {
    Word.PROCESSES: Played(),
    Word.SEED: Played(simulated="the seed discovery is no process there"),
    Word.RAYLET: Played(simulated="there is no Ray", need=Need.OWN_RAY),
    Word.OWN_MACHINES: Played(real="all nodes are on this machine"),
    Word.CUT: Played(real=_NO_NETWORK),
    Word.LINKS: Played(real=_NO_NETWORK),
    Word.FULL_DISK: Played(need=Need.SMALL_DISK),
    Word.SLOW_DISK: Played(real="no disk can be made slow for these processes alone without a risk for others"),
    Word.LOST_DISK: Played(),
    Word.CLOCK: Played(real="all processes of this machine, not this cluster's alone, have one calendar"),
    Word.ORDERS: Played(),
    Word.SPREAD: Played(),
    Word.SCALE: Played(need=Need.OWN_RAY),
    Word.LOAD: Played(),
    Word.EXPECT: Played(),
    Word.COURSE: Played(),
}

_WORDS: dict[type, Word] = {
    **dict.fromkeys((Cut, Heal), Word.CUT),
    **dict.fromkeys((SlowLinks, RestoreLinks), Word.LINKS),
    **dict.fromkeys((FillDisk, FreeDisk), Word.FULL_DISK),
    **dict.fromkeys((SlowDisk, RestoreDisk), Word.SLOW_DISK),
    LoseDisk: Word.LOST_DISK,
    JumpClock: Word.CLOCK,
    **dict.fromkeys((SetUp, Delete, StopShard, StartShard), Word.ORDERS),
    **dict.fromkeys((MoveShard, Drain, Undrain, RollingRestart), Word.SPREAD),
    Scale: Word.SCALE,
    **dict.fromkeys((StartWriting, StartQuerying, StopWriting, StopQuerying), Word.LOAD),
    **dict.fromkeys(get_args(Expectation), Word.EXPECT),
    **dict.fromkeys((Wait, Every), Word.COURSE),
}


def word_of(action: Action) -> Word:
    if isinstance(action, Kill | Hang | Resume):
        return {Part.SEED: Word.SEED, Part.RAYLET: Word.RAYLET}.get(action.target.part, Word.PROCESSES)
    if isinstance(action, Every) and action.deed is not None:
        return word_of(action.deed)
    return _WORDS[type(action)]


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a scenario is to be played. ``lacking``: why a real cluster does not have what it needs for some words."""

    world: World
    lacking: Mapping[Need, str]
    has_own_machines: bool = False

    def refusal(self, word: Word) -> str:
        """Why the word cannot be played here, or ""."""
        played = PLAYED[word]
        if self.world is World.SIMULATED:
            if word is Word.CUT and not self.has_own_machines:
                return "nodes that share a machine cannot be cut off; begin with `nodes N on machines of their own`"
            return played.simulated
        return played.real or (self.lacking.get(played.need, "") if played.need is not None else "")


def refusals(scenario: Scenario, stage: Stage) -> list[str]:
    """What of the scenario cannot be played there: line, step and reason."""
    found = []
    if scenario.has_own_machines and (reason := stage.refusal(Word.OWN_MACHINES)):
        found.append(f"line 1: `on machines of their own` cannot be played by {stage.world.value}: {reason}")
    found += [
        f"line {step.line}: `{step.text}` cannot be played by {stage.world.value}: {reason}"
        for step in scenario.steps
        if (reason := stage.refusal(word_of(step.action)))
    ]
    return found


def words_needed(scenario: Scenario) -> set[Word]:
    """Without those of faults that are drawn."""
    return {word_of(step.action) for step in scenario.steps}


def draws_faults(scenario: Scenario) -> bool:
    return any(isinstance(step.action, Every) and step.action.deed is None for step in scenario.steps)
