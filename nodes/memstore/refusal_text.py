"""How a refused sample is named to whoever sent it."""

from __future__ import annotations

from filoray.nodes.data.matching import METRIC_NAME
from filoray.nodes.data.write_outcome import RefusalReason
from filoray.nodes.memstore.shard_memory import ShardMemory
from filoray.nodes.memstore.upkeep.retention_clock import span_text, time_text

_TEXT_MAX = 500
_SAMPLE_TEXTS = {
    RefusalReason.TOO_OLD: "is older than the out-of-order window of its series allows",
    RefusalReason.DIFFERENT_VALUE: "has another value than the sample that is there at this time",
}


def series_text(labels: dict[str, str]) -> str:
    """As Prometheus prints a series."""
    name = labels.get(METRIC_NAME, "")
    rest = ", ".join(f'{key}="{value}"' for key, value in sorted(labels.items()) if key != METRIC_NAME)
    return f"{name}{{{rest}}}"[:_TEXT_MAX]


def sample_text(memory: ShardMemory, partition: int, time_ms: int, value: float, reason: RefusalReason) -> str:
    """What is said of a sample that is refused for its own time and value."""
    series = series_text(memory.index.label_set(partition))
    return f"{series}: the sample {value} at {time_ms} ms {_SAMPLE_TEXTS[reason]}"


def out_of_bounds_text(time_ms: int, value: float, now_ms: int, max_future_ms: int) -> str:
    """What is said of a sample that is too far ahead of the clock."""
    return (
        f"the sample {value} at {time_ms} ms is out of bounds: {span_text(time_ms - now_ms)} ahead of the clock here, "
        f"{time_text(now_ms)}; max-future-time allows {span_text(max_future_ms)}"
    )
