"""What is told of metrics, as it is sent: arrays of [metric, type, help, unit]."""

from __future__ import annotations

from filoray.nodes.data.metric_metadata import (
    HELP_CHARACTERS_MAX,
    METRICS_MAX,
    NAME_CHARACTERS_MAX,
    UNIT_CHARACTERS_MAX,
    MetricMetadata,
)
from filoray.nodes.wire.field_checks import items, malformed, unicode_text


def metric_entries(plain: object) -> tuple[MetricMetadata, ...]:
    """Arrays of [metric, type, help, unit]. Raises BadData."""
    found = []
    for entry in items(plain, "metric metadata", METRICS_MAX):
        metric, kind, help_text, unit = items(entry, "metric metadata", 4, exactly=4)
        if not unicode_text(metric, "a metric's name", NAME_CHARACTERS_MAX):
            raise malformed("a metric's name", metric, "not empty")
        found.append(
            MetricMetadata(
                metric,
                unicode_text(kind, "a metric's type", UNIT_CHARACTERS_MAX),
                unicode_text(help_text, "a metric's help", HELP_CHARACTERS_MAX),
                unicode_text(unit, "a metric's unit", UNIT_CHARACTERS_MAX),
            )
        )
    return tuple(found)
