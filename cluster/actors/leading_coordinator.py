"""Asking the coordinator that leads, whichever of the cluster's it is: for nodes, the seed discovery and the launcher.

Gateways do the same in their event loop (``http/server/services.py``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import ray
from ray.actor import ActorHandle

from filoray.cluster.errors import NotLeading, Unavailable


class LeadingCoordinator:
    """``names``: of the coordinators' actors. The one that answered last is asked first. One thread asks.

    Actors are looked up once, as that needs Ray's GCS and asking them does not.
    """

    def __init__(self, names: Sequence[str], namespace: str) -> None:
        self._names = list(names)
        self._namespace = namespace
        self._actors: dict[str, ActorHandle[Any]] = {}

    def look_up(self) -> None:
        """Those that are not known yet, so that they can be asked when Ray's GCS is away."""
        for name in self._names if ray.is_initialized() else ():
            with contextlib.suppress(ray.exceptions.RayError, ValueError):
                self._actor(name)

    def ask(self, method: str, *arguments: object, timeout_s: float) -> Any:
        """What the leading one answers. What it raises is the cause of a RayTaskError.

        Raises Unavailable if none leads, or none that does answered in ``timeout_s`` for each.
        """
        problems = []
        for name in list(self._names):
            try:
                answer = ray.get(getattr(self._actor(name), method).remote(*arguments), timeout=timeout_s)
            except ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, NotLeading):
                    self.prefer(name)
                    raise
                problems.append(f"{name} stands by")
            except (ray.exceptions.RayError, ValueError) as error:
                if isinstance(error, ray.exceptions.ActorDiedError):  # another one may have its name
                    self._actors.pop(name, None)
                problems.append(f"{name}: {error or type(error).__name__}")
            else:
                self.prefer(name)
                return answer
        raise Unavailable(f"no coordinator leads: {'; '.join(problems)}")

    def _actor(self, name: str) -> ActorHandle[Any]:
        """Raises ValueError if there is none."""
        actor = self._actors.get(name)
        if actor is None:
            actor = self._actors[name] = ray.get_actor(name, self._namespace)
        return actor

    def prefer(self, name: str) -> None:
        """It leads, as far as is known. Any thread may say so."""
        if self._names[:1] != [name]:
            self._names = sorted(self._names, key=lambda known: known != name)
