"""Figures of a query's stages: what each read, made and took. A tree in the shape of the plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class StageStats:
    """One stage. ``samples``: what leaves read into windows or picked (Prometheus's queryable samples); else 0.

    ``peak_samples``: of a process's whole part, the most samples that it held at once: of selectors what they picked,
    of range functions all that is in their windows, and every result until it is used. ``result_series`` and
    ``result_bytes`` are of the stage's own result; ``wall_ms`` includes its children.
    """

    name: str
    samples: int = 0
    result_series: int = 0
    result_bytes: int = 0
    wall_ms: float = 0.0
    children: list[StageStats] = field(default_factory=list)
    peak_samples: int = 0

    @property
    def total_samples(self) -> int:
        return sum(stage.samples for stage in self._all())

    def _all(self) -> list[StageStats]:
        """The stage and all below, each before its children."""
        found: list[StageStats] = []
        pending = [self]
        while pending:
            stage = pending.pop()
            found.append(stage)
            pending += reversed(stage.children)
        return found

    def to_plain(self) -> list[Any]:
        """Flat, children behind their parent with their number: msgpack nests only so deep."""
        return [
            [
                stage.name,
                stage.samples,
                stage.result_series,
                stage.result_bytes,
                stage.wall_ms,
                stage.peak_samples,
                len(stage.children),
            ]
            for stage in self._all()
        ]

    @classmethod
    def from_plain(cls, plain: list[Any]) -> StageStats:
        done: list[StageStats] = []
        for *figures, peak_samples, child_count in reversed(plain):
            stage = cls(*figures)
            stage.peak_samples = peak_samples
            stage.children = [done.pop() for _ in range(child_count)]
            done.append(stage)
        (root,) = done
        return root

    def to_json(self) -> dict[str, Any]:
        """The tree for the API's ``stats``, as deep as the query nests: see ``deep_json`` for an encoder."""
        done: list[dict[str, Any]] = []
        for stage in reversed(self._all()):
            children = [done.pop() for _ in stage.children]
            done.append(
                {
                    "stage": stage.name,
                    "samples": stage.samples,
                    "series": stage.result_series,
                    "bytes": stage.result_bytes,
                    "wallMs": round(stage.wall_ms, 3),
                    "children": children,
                }
            )
        return done[0]
