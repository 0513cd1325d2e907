"""``filoray drain``, ``undrain``, ``move`` and ``restart --rolling``: ordered over HTTP, and watched until done.

What was ordered goes on when whoever watches is interrupted; ``filoray status`` shows it.
"""

from __future__ import annotations

import time
import urllib.parse
from typing import Any

import orjson

from filoray.cluster.errors import FilorayError
from filoray.command.client_access import ClientAccess
from filoray.command.http_client import NoAnswer, get_json, post

_POLL_S = 0.2
_NO_ANSWER_S_MAX = 30


def drain(access: ClientAccess, node: str) -> int:
    """Returns when the node has no shards, and no copies of those that others lead."""
    post(access, f"/admin/nodes/{urllib.parse.quote(node, safe='')}/drain")
    print(f"{node} gets no shards any more")
    watch = _Watch(access)
    told = -1
    while left := _shard_count(watch.get("/admin/nodes"), node):
        if left != told:
            print(f"{node} has {left} shards left to move", flush=True)
            told = left
        time.sleep(_POLL_S)
    print(f"{node} is empty; filoray undrain {node} lets it have shards again")
    return 0


def undrain(access: ClientAccess, node: str) -> int:
    post(access, f"/admin/nodes/{urllib.parse.quote(node, safe='')}/undrain")
    print(f"{node} may have shards again")
    return 0


def move(access: ClientAccess, dataset: str, shard: int, node: str) -> int:
    """Returns when the shard is Active at the node."""
    order = orjson.dumps({"node": node, "shardList": [shard]})
    post(access, f"/api/v1/cluster/{urllib.parse.quote(dataset, safe='')}/moveshards", order)
    print(f"shard {shard} of {dataset} is on {node}")
    return 0


def restart(access: ClientAccess) -> int:
    """Returns when every node was replaced. Raises FilorayError if that ended early."""
    post(access, "/admin/rolling-restart")
    watch = _Watch(access)
    left = _left_to_replace(watch)
    print(f"to be replaced, one after the other: {', '.join(left)}", flush=True)
    while left:
        time.sleep(_POLL_S)
        left_now = _left_to_replace(watch)
        for done in left[: len(left) - len(left_now)]:
            print(f"{done} is replaced and has its shards", flush=True)
        left = left_now
    return 0


class _Watch:
    """Asks again while the gateway, or the coordinator behind it, is away for a moment."""

    def __init__(self, access: ClientAccess) -> None:
        self._access = access

    def get(self, path: str) -> Any:
        deadline_s = time.monotonic() + _NO_ANSWER_S_MAX
        while True:
            try:
                return get_json(self._access, path)["data"]
            except (NoAnswer, FilorayError):
                if time.monotonic() > deadline_s:
                    raise
            time.sleep(_POLL_S)


def _left_to_replace(watch: _Watch) -> list[str]:
    """Raises FilorayError if the restart ended early, as it may before anybody could look."""
    state = watch.get("/admin/rolling-restart")
    if state["problem"]:
        raise FilorayError(f"the rolling restart ended early: {state['problem']}")
    return list(state["left"])


def _shard_count(nodes: list[dict[str, Any]], name: str) -> int:
    """Of the shards that the node leads, and of those that it has copies of."""
    held = [held for node in nodes if node["node"] == name for held in (node["shards"], node["copies"])]
    return sum(len(shards) for by_dataset in held for shards in by_dataset.values())
