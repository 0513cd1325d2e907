"""Asking the coordinator that leads, whichever of the cluster's it is: for nodes, the seed discovery and the launcher.

Gateways do the same without waiting for Ray in a thread of theirs (``http/server/coordinator_calls.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray

from filoray.cluster.errors import NotLeading, Unavailable


class LeadingCoordinator:
    """``names``: of the coordinators' actors. The one that answered last is asked first. One thread uses it."""

    def __init__(self, names: Sequence[str], namespace: str) -> None:
        self._names = list(names)
        self._namespace = namespace

    def ask(self, method: str, *arguments: object, timeout_s: float) -> Any:
        """What the leading one answers. What it raises is the cause of a RayTaskError.

        Raises Unavailable if none leads, or none that does answered in ``timeout_s`` for each.
        """
        problems = []
        for name in list(self._names):
            try:
                actor = ray.get_actor(name, self._namespace)
                answer = ray.get(getattr(actor, method).remote(*arguments), timeout=timeout_s)
            except ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, NotLeading):
                    self._prefer(name)
                    raise
                problems.append(f"{name} stands by")
            except (ray.exceptions.RayError, ValueError) as error:
                problems.append(f"{name}: {error or type(error).__name__}")
            else:
                self._prefer(name)
                return answer
        raise Unavailable(f"no coordinator leads: {'; '.join(problems)}")

    def _prefer(self, name: str) -> None:
        self._names.sort(key=lambda known: known != name)
