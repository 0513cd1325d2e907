"""What became of a write's samples, from the shard that took them or not to the answer over HTTP.

Whoever has a part in it adds to a ``WriteOutcome``: the decoder at the edge, the shard, the gateway that hears of
several shards. What is said of it to people and to programs is ``filoray.http.remote.write_answer``'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class RefusalReason(StrEnum):
    """Why a sample is not stored; the values are the reasons' names in answers, metrics and messages."""

    TOO_OLD = "too old"
    DIFFERENT_VALUE = "different value at a stored timestamp"
    OVER_LIMIT = "over a series limit"
    OUT_OF_BOUNDS = "out of bounds"
    """Too far ahead of the clock."""
    LABEL_NAME_EMPTY = "invalid label name"
    LABEL_NAME_DUPLICATE = "duplicate label name"
    LABELS_WITHOUT_METRIC = "no metric name"
    LABELS_TOO_MANY = "too many labels"
    LABEL_NAME_TOO_LONG = "label name too long"
    LABEL_VALUE_TOO_LONG = "label value too long"
    LABEL_NOT_UTF8 = "invalid UTF-8 in a label"
    NATIVE_HISTOGRAM = "native histogram"


@dataclass(slots=True)
class WriteOutcome:
    """``accepted``: samples that are durable now, those included that were there already.

    ``refused``: samples that are not stored, by reason, none with a count of 0. ``example`` names one of them, ``""``
    if there is none.
    """

    accepted: int = 0
    refused: dict[RefusalReason, int] = field(default_factory=dict)
    example: str = ""

    @property
    def refused_count(self) -> int:
        return sum(self.refused.values())

    def refuse(self, reason: RefusalReason, count: int) -> None:
        if count:
            self.refused[reason] = self.refused.get(reason, 0) + count

    def add(self, other: WriteOutcome) -> None:
        """What became of other samples of the same write; the first example stays."""
        self.accepted += other.accepted
        for reason, count in other.refused.items():
            self.refuse(reason, count)
        self.example = self.example or other.example


@dataclass(frozen=True, slots=True)
class UnknownSeries:
    """Nothing was stored: the shard needs the part keys of these series (int32 indices into the container)."""

    series: NDArray[np.int32]


AppendReply = WriteOutcome | UnknownSeries
"""What a shard says to a container."""
