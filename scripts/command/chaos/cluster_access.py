"""The real cluster that a scenario is played against: its gateways, and the processes that are its own, no others."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from filoray.cluster.chaos.actions import Part, Target
from filoray.cluster.errors import BadData, FilorayError
from filoray.cluster.process.process_identity import ProcessIdentity
from filoray.command.client_access import ClientAccess
from filoray.command.http_client import Answer, NoAnswer, get_json, send
from filoray.command.launch_state import STATE_FILE, LaunchState

_TIMEOUT_S = 5.0


@dataclass(slots=True)
class ClusterAccess:
    """``urls``: of the gateways, by index. ``access``: how to go in, whatever the gateway."""

    data_dir: Path
    urls: tuple[str, ...]
    access: ClientAccess
    _answering: int = 0
    _known: dict[str, ProcessIdentity] = field(default_factory=dict)

    # ---- HTTP

    def gateway(self, index: int) -> ClientAccess:
        return dataclasses.replace(self.access, url=self.urls[index % len(self.urls)])

    def ask(
        self, path: str, body: bytes | None = None, *, timeout_s: float = _TIMEOUT_S, method: str | None = None
    ) -> Answer:
        """Of the first gateway that answers, beginning with the one that did last. Raises NoAnswer if none does."""
        problem: NoAnswer | None = None
        for attempt in range(len(self.urls)):
            index = (self._answering + attempt) % len(self.urls)
            try:
                answer = send(self.gateway(index), path, body, timeout_s=timeout_s, method=method)
            except NoAnswer as error:
                problem = error
                continue
            self._answering = index
            return answer
        raise problem or NoAnswer(self.urls[0], "there are no gateways")

    def json(self, path: str) -> Any:
        """Raises FilorayError for what is no good answer."""
        answer = self.ask(path)
        if not answer.is_good:
            raise FilorayError(answer.error_text)
        return orjson.loads(answer.body)

    # ---- processes

    def find(self, target: Target) -> ProcessIdentity | None:
        """The process that has that part now, if it is one of this launch's on this machine."""
        known = self._known.get(target.actor)
        if known is None or not known.is_running():
            known = self._find_anew(target)
            if known is not None:
                self._known[target.actor] = known
        return known

    def _find_anew(self, target: Target) -> ProcessIdentity | None:
        try:
            state = LaunchState.read(self.data_dir)
        except FilorayError:  # it is being written anew
            state = None
        if state is None or state.ray is None:
            return None
        if target.part is Part.RAYLET:
            return state.ray.essential().get("raylet")
        pid = None
        with contextlib.suppress(FilorayError, KeyError, ValueError):
            pid = int(self.json("/admin/actors")["data"][target.actor])
        return next((process for process in state.ray.processes() if process.pid == pid), None)


def running_cluster(access: ClientAccess, data_dir: Path, node_count: int) -> ClusterAccess:
    """One that runs already. Raises BadData if it is not a scenario's to play with, and says why."""
    state = LaunchState.read(data_dir)
    if state is None:
        raise BadData(f"no cluster was launched on {data_dir} (there is no {STATE_FILE} in it); give its --data-dir")
    url = access.url.rstrip("/")
    if url not in state.urls:
        raise BadData(f"{url} is none of the gateways of the cluster on {data_dir}: {', '.join(state.urls)}")
    if len(state.urls) != node_count:
        raise BadData(f"the scenario is for {node_count} nodes, and that cluster has {len(state.urls)}")
    allowed = get_json(access, "/admin/chaos")["data"]["allowed"]
    if not allowed:
        raise BadData(
            f"{url} does not allow chaos: launch it with --set http.allow-chaos=true (or --demo), where nothing is "
            "lost by a process that is killed"
        )
    return ClusterAccess(data_dir, tuple(state.urls), access)
