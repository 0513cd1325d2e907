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
    example: str = ""

    @property
    def count(self) -> int:
        return self.too_old + self.duplicates_different + self.over_limit


@dataclass(slots=True)
class AppendResult:
    """``accepted`` counts samples that are durable now, those included that were there already.

    ``unknown_series`` int32: series of the container that came without part key and are not known; if there are any,
    nothing of the container was applied.
    """

    accepted: int = 0
    unknown_series: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    refused: RefusedSamples = field(default_factory=RefusedSamples)
