"""Figures of a query's stages: what each read, made and took. A tree in the shape of the plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class StageStats:
    """One stage. ``samples``: what leaves read into windows or picked (Prometheus's queryable samples); of inner
    stages 0. ``result_series`` and ``result_bytes`` are of the stage's own result; ``wall_ms`` includes its children.
    """

    name: str
    samples: int = 0
    result_series: int = 0
    result_bytes: int = 0
    wall_ms: float = 0.0
    children: list[StageStats] = field(default_factory=list)

    @property
    def total_samples(self) -> int:
        return self.samples + sum(child.total_samples for child in self.children)

    def to_plain(self) -> list[Any]:
        return [
            self.name,
            self.samples,
            self.result_series,
            self.result_bytes,
            self.wall_ms,
            [child.to_plain() for child in self.children],
        ]

    @classmethod
    def from_plain(cls, plain: list[Any]) -> StageStats:
        name, samples, result_series, result_bytes, wall_ms, children = plain
        return cls(name, samples, result_series, result_bytes, wall_ms, [cls.from_plain(child) for child in children])

    def to_json(self) -> dict[str, Any]:
        """The tree for the API's ``stats``."""
        return {
            "stage": self.name,
            "samples": self.samples,
            "series": self.result_series,
            "bytes": self.result_bytes,
            "wallMs": round(self.wall_ms, 3),
            "children": [child.to_json() for child in self.children],
        }
