"""Asking the coordinator that leads, whichever of the cluster's it is: for nodes, the seed discovery and the launcher.

Gateways do the same in their event loop (``http/server/services.py``).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import Any

import ray
from ray.actor import ActorHandle

from filoray.cluster.errors import NotLeading, Unavailable


class LeadingCoordinator:
    """``names``: of the coordinators' actors. The one that answered last is asked first. One thread asks.

    Actors are looked up once, as that needs Ray's GCS and asking them does not; anew when one died or does not answer.
    """

    def __init__(self, names: Sequence[str], namespace: str) -> None:
        self._names = list(names)
        self._namespace = namespace
        self._actors: dict[str, ActorHandle[Any]] = {}
        self._being_looked_up: set[str] = set()

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
                answer = self._answer(name, method, arguments, timeout_s)
            except ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, NotLeading):
                    self.prefer(name)
                    raise
                problems.append(f"{name} stands by")
            except (ray.exceptions.RayError, ValueError) as error:
                problems.append(f"{name}: {error or type(error).__name__}")
            else:
                self.prefer(name)
                return answer
        raise Unavailable(f"no coordinator leads: {'; '.join(problems)}")

    def find(self, timeout_s: float) -> None:
        """Have the one that leads asked first, so that what takes long is asked of no other. Raises as ``ask``."""
        if len(self._names) > 1:
            self.ask("members", timeout_s=timeout_s)

    def _answer(self, name: str, method: str, arguments: Sequence[object], timeout_s: float) -> Any:
        """Of whoever has that name now: one that stood by on a lost machine is made anew on another."""
        try:
            return ray.get(getattr(self._actor(name), method).remote(*arguments), timeout=timeout_s)
        except ray.exceptions.ActorDiedError:
            self._actors.pop(name, None)
            return ray.get(getattr(self._actor(name), method).remote(*arguments), timeout=timeout_s)
        except ray.exceptions.GetTimeoutError:
            self._look_up_anew(name)
            raise

    def _look_up_anew(self, name: str) -> None:
        """It may be that of a lost machine, of which Ray tells late. In a thread, as Ray's GCS may be away."""
        if name not in self._being_looked_up:
            self._being_looked_up.add(name)
            threading.Thread(target=self._look_up_one, args=(name,), name="look-up", daemon=True).start()

    def _look_up_one(self, name: str) -> None:
        with contextlib.suppress(ray.exceptions.RayError, ValueError):
            self._actors[name] = ray.get_actor(name, self._namespace)
        self._being_looked_up.discard(name)

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
