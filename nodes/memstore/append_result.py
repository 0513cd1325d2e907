"""What became of a container's samples."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class RefusedSamples:
    """Counts by reason; ``example`` names one refused sample, ``""`` if there is none."""

    too_old: int = 0
    duplicates_different: int = 0
    over_limit: int = 0
    out_of_bounds: int = 0
    """Too far ahead of the clock."""
    example: str = ""

    @property
    def count(self) -> int:
        return sum(self.by_reason().values())

    def by_reason(self) -> dict[str, int]:
        """Counts by the reasons' names in answers and metrics, those of 0 left out."""
        counts = {
            "too old": self.too_old,
            "different value at a stored timestamp": self.duplicates_different,
            "over a series limit": self.over_limit,
            "out of bounds": self.out_of_bounds,
        }
        return {reason: count for reason, count in counts.items() if count}


@dataclass(slots=True)
class AppendResult:
    """``accepted`` counts samples that are durable now, those included that were there already.

    ``unknown_series`` int32: series of the container that came without part key and are not known; if there are any,
    nothing of the container was applied.
    """

    accepted: int = 0
    unknown_series: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    refused: RefusedSamples = field(default_factory=RefusedSamples)
