"""Scenarios as plain text, one step a line; ``#`` begins a comment.

    nodes 3                                       first line: how many
    dataset timeseries shards 4 min-nodes 2       set it up; the last one named is what other lines speak of
    write 400 samples/s with 4 writers            from now on, until the end or `stop writing`
    query continuously with 4 readers
    expect all Active within 5s                   every shard of every data set
    dataset timeseries shards 4 min-nodes 2 replicas 2
                                                  each node has its own copies; for `lose disk of node 1`
    kill node 2                                   SIGKILL; likewise `hang` and `resume`; `kill coordinator`, `kill seed`
    expect shard 3 Active within 2s               status names without ShardStatus
    cut node 1 from coordinator                   and with `one way`: only what node 1 says is lost
    drain node 1                                  likewise `undrain`; `move shard 3 to node 2`, `scale 2`
    expect spread even within 20s
    expect copies in sync within 20s              as many of each shard as its data set asks for
    every 10s for 5m: random fault                drawn from the seed; or any one fault or order
    expect no acknowledged sample lost            reads all that was written once more
    expect no short answer

All forms stand in one table, ``FORMS``. A line that is none of them is refused with its number, the first word that is
wrong, and what could stand there. Which world can play which step is ``worlds.py``'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from filoray.cluster.chaos.actions import (
    Action,
    Cut,
    Deed,
    Delete,
    Direction,
    Drain,
    Every,
    ExpectAll,
    Expectation,
    ExpectEmpty,
    ExpectEven,
    ExpectInSync,
    ExpectNode,
    ExpectNoneLost,
    ExpectNoneShort,
    ExpectRestarted,
    ExpectShard,
    FillDisk,
    FreeDisk,
    Hang,
    Heal,
    JumpClock,
    Kill,
    Load,
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
    Target,
    Undrain,
    Wait,
)
from filoray.cluster.config.dataset import NUM_REPLICAS_MAX
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.errors import BadData
from filoray.cluster.units import parse_duration_ms

NODES_MAX = 64
CLIENTS_MAX = 64
DURATION_MS_MAX = 24 * 3_600_000
SAMPLES_PER_S_MAX = 100_000

T_co = TypeVar("T_co", covariant=True)

_STATUSES = {kind.value.removeprefix("ShardStatus"): kind for kind in StatusKind}
_DATASET = "DATASET"
"""Not a word of the text: where a form's action has the data set that was named last."""


@dataclass(frozen=True, slots=True)
class Step:
    line: int
    text: str
    action: Action


@dataclass(frozen=True, slots=True)
class Scenario:
    """``has_own_machines``: each node is on a machine of its own, and has a lease."""

    node_count: int
    has_own_machines: bool
    steps: tuple[Step, ...] = ()

    @property
    def has_copies(self) -> bool:
        """Whether a data set of several copies is set up."""
        return any(isinstance(step.action, SetUp) and step.action.num_replicas > 1 for step in self.steps)


@dataclass(frozen=True, slots=True)
class _Slot:
    """A place in a form where any word of a kind may stand."""

    wanted: str
    read: Callable[[str], object | None]
    """None: it is no such word."""


def _number(text: str, highest: int, lowest: int = 0) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) and lowest <= int(text) <= highest else None


def _power_of_two(text: str, highest: int) -> int | None:
    number = _number(text, highest, 1)
    return number if number is not None and number.bit_count() == 1 else None


def _duration_ms(text: str) -> int | None:
    if re.fullmatch(r"[0-9]{1,9}(?:ms|s|m|h)", text) is None:
        return None
    duration_ms = parse_duration_ms(text)
    return duration_ms if duration_ms <= DURATION_MS_MAX else None


_SLOTS = {
    "NODE": _Slot(f"a node's or gateway's number (0 to {NODES_MAX - 1})", lambda text: _number(text, NODES_MAX - 1)),
    "SHARD": _Slot("a shard's number", lambda text: _number(text, 65_535)),
    "NODES": _Slot(f"how many nodes (1 to {NODES_MAX})", lambda text: _number(text, NODES_MAX, 1)),
    "SHARDS": _Slot("how many shards (a power of two up to 65536)", lambda text: _power_of_two(text, 65_536)),
    "CLIENTS": _Slot(f"how many (1 to {CLIENTS_MAX})", lambda text: _number(text, CLIENTS_MAX, 1)),
    "RATE": _Slot(f"how many (1 to {SAMPLES_PER_S_MAX})", lambda text: _number(text, SAMPLES_PER_S_MAX, 1)),
    "REPLICAS": _Slot(f"how many copies (1 to {NUM_REPLICAS_MAX})", lambda text: _number(text, NUM_REPLICAS_MAX, 1)),
    "DURATION": _Slot("a duration up to 24h, such as 500ms, 5s, 10m", _duration_ms),
    "STATUS": _Slot("a status (" + ", ".join(_STATUSES) + ")", _STATUSES.get),
    "NAME": _Slot("a data set's name", lambda text: text if re.fullmatch(r"[A-Za-z][\w-]{0,99}", text) else None),
}


@dataclass(frozen=True, slots=True)
class Form(Generic[T_co]):
    """``text``: its words, those in capitals being slots. ``make``: the action, given what stands in the slots."""

    text: str
    make: Callable[..., T_co]

    @property
    def words(self) -> list[str]:
        return [word for word in self.text.split() if word != _DATASET]

    @property
    def needs_dataset(self) -> bool:
        return _DATASET in self.text.split()


def _process_forms() -> list[Form[Action]]:
    forms: list[Form[Action]] = []
    for verb, action in (("kill", Kill), ("hang", Hang), ("resume", Resume)):
        forms += [Form(f"{verb} {part.value} NODE", _on(action, part)) for part in (Part.NODE, Part.GATEWAY)]
        forms += [Form(f"{verb} {part.value}", _on(action, part)) for part in (Part.COORDINATOR, Part.SEED)]
    forms.append(Form("kill raylet", _on(Kill, Part.RAYLET)))
    for part in (Part.NODE, Part.GATEWAY):
        forms.append(Form(f"cut {part.value} NODE from coordinator", _on(Cut, part)))
        forms.append(Form(f"heal {part.value} NODE", _on(Heal, part)))
    return forms


def _on(action: Callable[[Target], Action], part: Part) -> Callable[..., Action]:
    return lambda index=0: action(Target(part, index))


FORMS: tuple[Form[Action], ...] = (
    *_process_forms(),
    Form(
        "cut node NODE from coordinator one way",
        lambda index: Cut(Target(Part.NODE, index), Direction.FROM_TARGET),
    ),
    Form(
        "cut coordinator from node NODE one way",
        lambda index: Cut(Target(Part.NODE, index), Direction.TO_TARGET),
    ),
    Form("slow links DURATION", SlowLinks),
    Form("restore links", RestoreLinks),
    Form("fill disk", FillDisk),
    Form("free disk", FreeDisk),
    Form("slow disk DURATION", SlowDisk),
    Form("restore disk", RestoreDisk),
    Form("lose disk of node NODE", LoseDisk),
    Form("jump clock DURATION ahead", JumpClock),
    Form("jump clock DURATION behind", lambda behind_ms: JumpClock(-behind_ms)),
    Form("dataset NAME shards SHARDS min-nodes NODES", SetUp),
    Form("dataset NAME shards SHARDS min-nodes NODES replicas REPLICAS", SetUp),
    Form("delete dataset NAME", Delete),
    Form("DATASET stop shard SHARD", StopShard),
    Form("DATASET start shard SHARD on node NODE", StartShard),
    Form("DATASET move shard SHARD to node NODE", MoveShard),
    Form("drain node NODE", Drain),
    Form("undrain node NODE", Undrain),
    Form("rolling restart", RollingRestart),
    Form("scale NODES", Scale),
    Form("DATASET write RATE samples/s with CLIENTS writers", StartWriting),
    Form("DATASET query continuously with CLIENTS readers", StartQuerying),
    Form("stop writing", StopWriting),
    Form("stop querying", StopQuerying),
    Form("wait DURATION", Wait),
    Form("expect all STATUS within DURATION", ExpectAll),
    Form("DATASET expect shard SHARD STATUS within DURATION", ExpectShard),
    Form(
        "expect node NODE up within DURATION", lambda node, within_ms: ExpectNode(node, is_up=True, within_ms=within_ms)
    ),
    Form(
        "expect node NODE away within DURATION",
        lambda node, within_ms: ExpectNode(node, is_up=False, within_ms=within_ms),
    ),
    Form("expect node NODE empty within DURATION", ExpectEmpty),
    Form("expect spread even within DURATION", ExpectEven),
    Form("expect copies in sync within DURATION", ExpectInSync),
    Form("expect restart done within DURATION", ExpectRestarted),
    Form("expect no acknowledged sample lost", ExpectNoneLost),
    Form("expect no short answer", ExpectNoneShort),
)
_EVERY = Form("every DURATION for DURATION :", lambda interval_ms, duration_ms: Every(interval_ms, duration_ms, None))
_RANDOM_FAULT: Form[Action | None] = Form("random fault", lambda: None)
_HEADS = (
    Form("nodes NODES", lambda count: Scenario(count, has_own_machines=False)),
    Form("nodes NODES on machines of their own", lambda count: Scenario(count, has_own_machines=True)),
)


def parse_scenario(text: str) -> Scenario:
    """Raises BadData naming the line, the word that is wrong, and what could stand there."""
    lines = [(number, line.partition("#")[0].strip()) for number, line in enumerate(text.splitlines(), start=1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise BadData("line 1: there is no step; a scenario begins with `nodes 3`")
    (number, words), *rest = lines
    scenario = _read(_HEADS, words.split(), number)
    steps: list[Step] = []
    dataset, has_copies = "", False
    for number, line in rest:
        action = _action(line, number, dataset)
        if isinstance(action, SetUp):
            dataset, has_copies = action.dataset, has_copies or action.num_replicas > 1
        elif not has_copies and isinstance(action.deed if isinstance(action, Every) else action, LoseDisk):
            raise BadData(
                f"line {number}: no data set with replicas was set up before (dataset NAME shards N min-nodes N "
                "replicas N); of others all nodes share one directory, so none has a disk of its own that could be lost"
            )
        _check_index(action, scenario.node_count, number)
        steps.append(Step(number, line, action))
    return replace(scenario, steps=tuple(steps))


def parse_deed(text: str) -> Deed:
    """Of a fault, remedy or order by itself. Raises BadData for anything else."""
    action = _read(FORMS, text.split(), 1)
    if isinstance(action, Wait | Every | Expectation):
        raise BadData(f"{text!r} is nothing that is done to a cluster")
    return action


def _action(line: str, number: int, dataset: str) -> Action:
    words = line.replace(":", " : ").split()
    if words[0] != "every":
        return _read(FORMS, words, number, dataset, also="every")
    length = len(_EVERY.words)
    every = _read([_EVERY], words[:length], number)
    if not 0 < every.interval_ms <= every.duration_ms:
        raise BadData(f"line {number}: what comes after `every` must be above 0 and not above what comes after `for`")
    deed = _read((*FORMS, _RANDOM_FAULT), words[length:], number, dataset)
    if isinstance(deed, Wait | Every | Load | Expectation):
        raise BadData(f"line {number}: {words[length]!r} cannot be repeated; a fault, an order or `random fault` can")
    return replace(every, deed=deed)


def _read(forms: Sequence[Form[T_co]], words: Sequence[str], line: int, dataset: str = "", also: str = "") -> T_co:
    """What the one form that the words have makes of them. ``also``: a word that others would take at the start."""
    candidates = list(forms)
    for position, word in enumerate(words):
        fitting = [form for form in candidates if position < len(form.words) and _fits(form.words[position], word)]
        if not fitting:
            raise BadData(f"line {line}: {word!r} cannot stand there; {_wanted(candidates, position, also)} can")
        candidates = fitting
    complete = [form for form in candidates if len(form.words) == len(words)]
    if not complete:
        raise BadData(f"line {line}: it ends too early: {_wanted(candidates, len(words))} must follow")
    (form,) = complete
    values = [_SLOTS[place].read(word) for place, word in zip(form.words, words, strict=True) if place in _SLOTS]
    if form.needs_dataset:
        if not dataset:
            raise BadData(f"line {line}: no data set was set up before (dataset NAME shards N min-nodes N)")
        values.insert(0, dataset)
    return form.make(*values)


def _fits(place: str, word: str) -> bool:
    return _SLOTS[place].read(word) is not None if place in _SLOTS else place == word


def _wanted(forms: Sequence[Form[T_co]], position: int, also: str = "") -> str:
    places = dict.fromkeys(form.words[position] for form in forms if position < len(form.words))
    wanted = [_SLOTS[place].wanted if place in _SLOTS else place for place in places]
    if also and position == 0:
        wanted.append(also)
    if any(position == len(form.words) for form in forms):
        wanted.append("the end of the line")
    return " or ".join(wanted)


def _check_index(action: Action, node_count: int, line: int) -> None:
    deed = action.deed if isinstance(action, Every) else action
    target = getattr(deed, "target", None)
    node = target.index if isinstance(target, Target) else getattr(deed, "node", 0)
    if isinstance(deed, Scale) and deed.nodes > node_count:
        raise BadData(f"line {line}: the scenario has {node_count} nodes, and can be scaled to fewer and back only")
    if node >= node_count:
        raise BadData(f"line {line}: there is no number {node}: the scenario has {node_count} nodes, counted from 0")
