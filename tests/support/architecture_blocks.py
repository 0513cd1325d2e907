"""The parts of ARCHITECTURE.md that are made from the code: the diagram of a shard's life, and the cores' tables.

    python tests/support/architecture_blocks.py

writes them into the page; ``tests/unit/test_architecture.py`` looks whether they are fresh.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from filoray.cluster.chaos.worlds import PLAYED, Need
from filoray.cluster.control import (
    coordinator_dispatcher,
    coordinator_effects,
    coordinator_events,
    node_effects,
    node_events,
)
from filoray.cluster.control.shard_status import mermaid_diagram
from filoray.cluster.control.slot_states import SLOT_TRANSITIONS

PAGE = Path(__file__).resolve().parents[2] / "ARCHITECTURE.md"


def blocks() -> dict[str, str]:
    """By the name that stands in the comments around it."""
    endings = coordinator_endings()
    return {
        "shard-status-diagram": f"```mermaid\n{mermaid_diagram()}```",
        "slot-states": _slot_states(),
        "scenario-words": _scenario_words(),
        "coordinator-events": _table("event", _classes_of(coordinator_events, coordinator_events.CoordinatorEvent)),
        "coordinator-effects": _table("effect", _members(coordinator_effects.Effect), endings),
        "node-events": _table("event", _members(node_events.NodeEvent)),
        "node-effects": _table("effect", _members(node_effects.NodeEffect)),
    }


def shown(text: str, name: str) -> str:
    """What the page has between the comments of that name. Raises ValueError if they are not there."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", text, re.DOTALL)
    if found is None:
        raise ValueError(f"no block {name}")
    return found[1]


def coordinator_endings() -> dict[str, str]:
    """Of each effect that takes time: the events in which it ends or fails, by the dispatcher's own table."""
    rows = re.findall(r"(\w+)\s+(\w+)\s+(\w+)", inspect.getdoc(coordinator_dispatcher).split("event again:\n", 1)[1])  # type: ignore[union-attr]
    return {effect: end if end == failure else f"{end}, {failure}" for effect, end, failure in rows}


def _slot_states() -> str:
    """Of each state the events that move it to another; all that it takes is in the table itself."""
    lines = ["| a slot that is | becomes |", "| --- | --- |"]
    for state, moves in SLOT_TRANSITIONS.items():
        after = "; ".join(f"*{to.value}*: {event.value}" for event, to in moves.items() if to is not state)
        lines.append(f"| *{state.value}* | {after} |")
    return "\n".join(lines)


def _scenario_words() -> str:
    """Which world plays which, and what a real cluster must have for it."""
    needs = {
        None: "yes",
        Need.OWN_RAY: "where its own Ray is known",
        Need.SMALL_DISK: "a cluster of its own, where a tmpfs may be mounted",
    }
    lines = ["| words | a real cluster | the simulator |", "| --- | --- | --- |"]
    for word, played in PLAYED.items():
        real = f"no: {played.real}" if played.real else needs[played.need]
        lines.append(f"| {word.value} | {real} | {f'no: {played.simulated}' if played.simulated else 'yes'} |")
    return "\n".join(lines)


def _members(union: object) -> list[type]:
    """Of a union, and of unions in it."""
    found: list[type] = []
    for member in get_args(union):
        found += _members(member) if get_args(member) else [member]
    return found


def _classes_of(module: types.ModuleType, base: type) -> list[type]:
    return [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, base) and one is not base]


def _table(head: str, classes: Iterable[type], endings: dict[str, str] | None = None) -> str:
    lines = [f"| {head} | with | what it means |", "| --- | --- | --- |"]
    if endings is not None:
        lines = [f"| {head} | with | what it means | ends or fails in |", "| --- | --- | --- | --- |"]
    for one in classes:
        fields = ", ".join(name for name in one.__annotations__ if name != "cause")
        row = f"| {one.__name__} | {fields} | {_sentence(one)} |"
        lines.append(row if endings is None else f"{row} {endings.get(one.__name__, '')} |")
    return "\n".join(lines)


def _sentence(one: type) -> str:
    """Its docstring's first paragraph, if it has one of its own."""
    own = one.__dict__.get("__doc__") or ""
    if own.startswith(f"{one.__name__}("):  # dataclass makes one
        return ""
    return " ".join(inspect.cleandoc(own).split("\n\n", 1)[0].split()).replace("``", "`")


def main() -> None:
    text = PAGE.read_text()
    for name, block in blocks().items():
        text = text.replace(
            f"<!-- {name} -->\n{shown(text, name)}", f"<!-- {name} -->\n{block}" + ("" if shown(text, name) else "\n")
        )
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
