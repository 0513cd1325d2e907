"""``filoray status``: who is a member and has which shards, each shard's state, and why one that is not Active waits.

For people as tables, for programs as JSON (``--json``). Asks for no more than a user needs who may read the data sets.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from filoray.cluster.errors import FilorayError
from filoray.command.client_access import ClientAccess
from filoray.command.http_client import get_json
from filoray.command.launch_state import LaunchState

_ACTIVE = "ShardStatusActive"
_REASONS_MAX = 20
"""Each is a question to the coordinator; many shards that wait do so for the same reason."""


@dataclass(frozen=True, slots=True)
class ShardState:
    """``address``: the owner's, "" while there is none. ``why``: what happened to it last, "" of an Active one.

    ``copies``: of a shard that has some besides its owner's, their nodes; whether each is in sync, so that it may lead.
    ``copies_missing``: that its data set wants, and that no node has a place for. ``moves_to``: the node that follows
    it to have it next, or "".
    """

    shard: int
    status: str
    address: str
    why: str
    copies: dict[str, bool]
    copies_missing: int
    moves_to: str


@dataclass(frozen=True, slots=True)
class NodeState:
    """``shards``: that it owns, by data set; none of a node that waits for some."""

    address: str
    shards: dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Supervision:
    """Who watches over the Ray of a launch on this machine."""

    text: str
    is_well: bool


@dataclass(frozen=True, slots=True)
class ClusterState:
    """``supervision``: None where the cluster was not launched on the directory that was looked at."""

    nodes: list[NodeState]
    datasets: dict[str, list[ShardState]]
    supervision: Supervision | None


def status(access: ClientAccess, data_dir: Path, *, as_json: bool) -> int:
    """Print all that; ``data_dir``: where the cluster may have been launched."""
    state = _ask(access, data_dir)
    if as_json:
        print(orjson.dumps(state, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(Console(), state)
    return 0


def _ask(access: ClientAccess, data_dir: Path) -> ClusterState:
    """Raises FilorayError if no gateway answers, or one refuses."""
    members: list[str] = get_json(access, "/__members")["members"]
    datasets = {name: _shards(access, name) for name in get_json(access, "/api/v1/cluster")["data"]}
    nodes = [
        NodeState(address, {
            name: owned
            for name, shards in datasets.items()
            if (owned := [shard.shard for shard in shards if shard.address == address])
        })
        for address in members
    ]  # fmt: skip
    return ClusterState(nodes, datasets, _supervision(access, data_dir))


def _shards(access: ClientAccess, dataset: str) -> list[ShardState]:
    path = f"/api/v1/cluster/{urllib.parse.quote(dataset, safe='')}"
    entries: list[dict[str, Any]] = get_json(access, f"{path}/status?verbose=true")["data"]
    waiting = [entry["shard"] for entry in entries if entry["status"] != _ACTIVE]
    why = {shard: _last_of_story(access, f"{path}/shards/{shard}/story") for shard in waiting[:_REASONS_MAX]}
    return [
        ShardState(
            entry["shard"],
            entry["status"],
            entry["address"],
            why.get(entry["shard"], ""),
            {copy["node"]: copy["inSync"] for copy in entry["followers"] if copy["node"] != entry["movesTo"]},
            _missing(entry),
            entry["movesTo"],
        )
        for entry in entries
    ]


def _missing(entry: Mapping[str, Any]) -> int:
    """Without a leader there still are the copies that were in sync with the last one."""
    if entry["replicas"] == 1:
        return 0
    nodes = {entry["leader"], *entry["inSync"], *(copy["node"] for copy in entry["followers"])} - {""}
    return max(0, int(entry["replicas"]) - len(nodes))


def _last_of_story(access: ClientAccess, path: str) -> str:
    try:
        lines: Sequence[str] = get_json(access, path)["data"]
    except FilorayError as error:  # the coordinator tells stories; the rest is known without it
        return f"not known now: {error.message}"
    return lines[-1] if lines else ""


def _supervision(access: ClientAccess, data_dir: Path) -> Supervision | None:
    try:
        state = LaunchState.read(data_dir)
    except FilorayError as error:  # it may be another cluster's directory
        return Supervision(error.message, is_well=False)
    if state is None or access.url.rstrip("/") not in state.urls:
        return None
    return Supervision(state.supervision(), is_well=state.is_supervised())


def _copies_text(shard: ShardState) -> str:
    texts = [node if is_in_sync else f"{node} (not in sync)" for node, is_in_sync in shard.copies.items()]
    texts += [f"{shard.copies_missing} missing"] * bool(shard.copies_missing)
    return ", ".join(texts + [f"moves to {shard.moves_to}"] * bool(shard.moves_to))


def _print(console: Console, state: ClusterState) -> None:
    console.print(f"{len(state.nodes)} members: " + ", ".join(node.address for node in state.nodes))
    if not state.datasets:
        console.print("no data set is set up")
    for name, shards in state.datasets.items():
        has_copies = any(shard.copies or shard.copies_missing or shard.moves_to for shard in shards)
        table = Table("shard", "status", "address", *["copies"] * has_copies, title=name, title_justify="left")
        for shard in shards:
            cells = [str(shard.shard), shard.status, shard.address]
            if has_copies:
                cells.append(_copies_text(shard))
            is_well = shard.status == _ACTIVE and all(shard.copies.values()) and not shard.copies_missing
            table.add_row(*cells, style=None if is_well else "yellow")
        console.print(table)
        for shard in shards:
            if shard.why:
                console.print(f"{name} shard {shard.shard}: {shard.why}", style="yellow", markup=False, highlight=False)
    if state.datasets:
        for node in state.nodes:
            if not node.shards:
                console.print(f"{node.address} has no shards")
    if state.supervision is not None:
        console.print(state.supervision.text, style=None if state.supervision.is_well else "red")
