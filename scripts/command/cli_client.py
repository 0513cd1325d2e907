"""``filoray status`` and ``filoray query``: a gateway's answers as tables in the terminal."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from filoray.cluster.errors import FilorayError
from filoray.command.client_access import ClientAccess
from filoray.command.http_client import get_json
from filoray.command.launch_state import LaunchState


def status(access: ClientAccess, data_dir: Path) -> int:
    """Print members, each data set's shards, and who watches over Ray if the cluster was launched on ``data_dir``."""
    console = Console()
    members = get_json(access, "/__members")["members"]
    console.print(f"{len(members)} members: " + ", ".join(members))
    datasets = get_json(access, "/api/v1/cluster")["data"]
    if not datasets:
        console.print("no data set is set up")
    for dataset in datasets:
        table = Table("shard", "status", "address", title=dataset, title_justify="left")
        for entry in get_json(access, f"/api/v1/cluster/{urllib.parse.quote(dataset)}/status")["data"]:
            table.add_row(str(entry["shard"]), entry["status"], entry["address"])
        console.print(table)
    _print_supervision(console, access, data_dir)
    return 0


def _print_supervision(console: Console, access: ClientAccess, data_dir: Path) -> None:
    try:
        state = LaunchState.read(data_dir)
    except FilorayError as error:  # it may be another cluster's directory
        console.print(error.message, style="yellow")
        return
    if state is not None and access.url.rstrip("/") in state.urls:
        console.print(state.supervision(), style=None if state.is_supervised() else "red")


def query(
    access: ClientAccess,
    promql: str,
    dataset: str | None,
    at: str | None,
    start: str | None,
    end: str | None,
    step: str,
) -> int:
    """Print an instant or (with ``start``) range query's answer, warnings included."""
    prefix = f"/promql/{urllib.parse.quote(dataset)}/api/v1" if dataset else "/api/v1"
    if start is None:
        parameters = {"query": promql, **({"time": at} if at else {})}
        answer = get_json(access, f"{prefix}/query", parameters)
    else:
        parameters = {"query": promql, "start": start, "end": end or str(time.time()), "step": step}
        answer = get_json(access, f"{prefix}/query_range", parameters)
    console = Console()
    _print_result(console, answer["data"])
    for level in ("warnings", "infos"):
        for text in answer.get(level, ()):
            console.print(f"{level[:-1]}: {text}", style="yellow")
    return 0


def _print_result(console: Console, data: Mapping[str, Any]) -> None:
    kind, result = data["resultType"], data["result"]
    if kind in ("scalar", "string"):
        console.print(result[1])
        return
    for series in result:
        values = [series["value"]] if "value" in series else series["values"]
        newest = ", ".join(value for _, value in values[-5:])
        more = f" … {len(values)} points, the last: " if len(values) > 1 else " "
        console.print(f"{_selector(series['metric'])}{more}{newest}", highlight=False, markup=False)
    console.print(f"{len(result)} series", style="dim")


def _selector(metric: Mapping[str, str]) -> str:
    labels = ", ".join(f'{name}="{value}"' for name, value in metric.items() if name != "__name__")
    return metric.get("__name__", "") + (f"{{{labels}}}" if labels or "__name__" not in metric else "")
