"""What remote write tells of a metric (type, help, unit), how long its texts may be, and which shard keeps it.

Gateways send it to the shard that the metric's name hashes to, and ask there; the file beside the shard
(``filoray.nodes.host.metric_metadata_file``) keeps the newest word on each.
"""

from __future__ import annotations

from dataclasses import dataclass

import xxhash

METRICS_MAX = 50_000
"""Of one shard; wide exporters have some thousands, and names made of numbers would have no end."""
HELP_CHARACTERS_MAX = 2_000
NAME_CHARACTERS_MAX = 2_000
UNIT_CHARACTERS_MAX = 200


@dataclass(frozen=True, slots=True)
class MetricMetadata:
    """Of a metric family; ``type`` in lower case, as the metadata API prints it."""

    metric: str
    type: str
    help: str
    unit: str

    def shortened(self) -> MetricMetadata | None:
        """What is kept of it; None where the metric's name is longer than any that is kept."""
        if not self.metric or len(self.metric) > NAME_CHARACTERS_MAX:
            return None
        return MetricMetadata(
            self.metric,
            self.type[:UNIT_CHARACTERS_MAX],
            self.help[:HELP_CHARACTERS_MAX],
            self.unit[:UNIT_CHARACTERS_MAX],
        )

    def as_row(self) -> tuple[str, str, str, str]:
        """The fields in their order, for a message or a table."""
        return self.metric, self.type, self.help, self.unit


def metadata_shard(metric: str, num_shards: int) -> int:
    """The shard that keeps what is known of a metric."""
    return xxhash.xxh3_64_intdigest(metric.encode()) % num_shards
