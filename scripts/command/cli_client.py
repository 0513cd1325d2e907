"""``filoray query``: a gateway's answer in the terminal."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from filoray.command.client_access import ClientAccess
from filoray.command.http_client import get_json


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
