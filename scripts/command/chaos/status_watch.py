"""Follows the shards of a real cluster for the report: who has them, and each status, also those of milliseconds.

What a gateway shows is looked at again and again; when it has changed, the shard's story has what was in between.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from filoray.cluster.chaos.driver import Witness
from filoray.cluster.chaos.timeline import StatusSeen
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.errors import FilorayError
from filoray.command.chaos.cluster_access import ClusterAccess

_LOOK_S = 0.1
_STATUS = re.compile(r"ShardStatus\w+")
_CHANGE = re.compile(r"(\S+) .*-> (ShardStatus\w+)")


@dataclass(frozen=True, slots=True)
class StoryChange:
    """``at_ms``: since 1970."""

    at_ms: int
    status: StatusKind


def read_statuses(cluster: ClusterAccess, dataset: str) -> list[tuple[StatusKind, str]]:
    """Of each shard its status and its owner's address. Raises FilorayError where no gateway tells."""
    return [
        (StatusKind(found[0]), entry["address"])
        for entry in cluster.json(f"/api/v1/cluster/{dataset}/status")["data"]
        if (found := _STATUS.match(entry["status"]))
    ]


def read_story(cluster: ClusterAccess, dataset: str, shard: int) -> list[StoryChange]:
    """Of the present coordinator's life. Raises FilorayError where there is none."""
    lines = cluster.json(f"/api/v1/cluster/{dataset}/shards/{shard}/story")["data"]
    found = filter(None, map(_CHANGE.match, lines))
    return [StoryChange(round(datetime.fromisoformat(one[1]).timestamp() * 1000), StatusKind(one[2])) for one in found]


class StatusWatch:
    """``name_of``: a node by its address. ``began_ms``: when the scenario's clock began, in ms since 1970."""

    def __init__(
        self,
        cluster: ClusterAccess,
        witness: Witness,
        now_ms: Callable[[], int],
        began_ms: int,
        name_of: Callable[[str], str],
    ) -> None:
        self.datasets: set[str] = set()
        self._cluster = cluster
        self._witness = witness
        self._now_ms = now_ms
        self._began_ms = began_ms
        self._name_of = name_of
        self._shown: dict[tuple[str, int], tuple[StatusKind, str]] = {}
        self._told: set[tuple[str, int, StoryChange]] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_S):
            for dataset in sorted(self.datasets):
                with contextlib.suppress(FilorayError, KeyError, TypeError):
                    self._look(dataset)

    def _look(self, dataset: str) -> None:
        now_ms = self._now_ms()
        for shard, present in enumerate(read_statuses(self._cluster, dataset)):
            if self._shown.get((dataset, shard)) == present:
                continue
            story: list[StoryChange] = []
            with contextlib.suppress(FilorayError):
                story = read_story(self._cluster, dataset, shard)
                self._tell(dataset, shard, story)
            if story and story[-1].status is not present[0]:
                continue  # the gateway's view is behind: the next look will tell
            self._shown[dataset, shard] = present
            at_ms = max([now_ms, *(change.at_ms - self._began_ms for change in story[-1:])])
            self._witness.saw(StatusSeen(at_ms, dataset, shard, present[0], self._name_of(present[1])))

    def _tell(self, dataset: str, shard: int, story: list[StoryChange]) -> None:
        for change in story:
            at_ms = change.at_ms - self._began_ms
            if at_ms >= 0 and (dataset, shard, change) not in self._told:
                self._told.add((dataset, shard, change))
                self._witness.saw(StatusSeen(at_ms, dataset, shard, change.status, ""))
