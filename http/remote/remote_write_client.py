"""Builds remote write 1.0 requests, for ``filoray write-demo``, imports and tests; sending them is theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from filoray.http.remote.protobuf_writer import bytes_field, label_fields, sample_fields, varint_field
from filoray.http.remote.snappy_block import compress
from filoray.nodes.data.metric_metadata import MetricMetadata

METADATA_TYPES = ("unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset")
"""Metric types by their number in MetricMetadata."""

WRITE_HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


def encode_write_request(
    series: Iterable[tuple[Mapping[str, str], ArrayLike, ArrayLike]],
    metadata: Sequence[MetricMetadata] = (),
) -> bytes:
    """A body for ``POST .../api/v1/write``, to be sent with ``WRITE_HEADERS``.

    ``series``: labels (``__name__`` among them), int64 ms timestamps, float64 values of the same length.
    Raises ValueError for lengths that differ or a metadata type that is not in ``METADATA_TYPES``.
    """
    parts: list[bytes] = []
    for labels, timestamps, values in series:
        times, numbers = np.asarray(timestamps, np.int64), np.asarray(values, np.float64)
        if times.shape != numbers.shape:
            raise ValueError(f"series {dict(labels)}: {times.size} timestamps and {numbers.size} values")
        parts.append(bytes_field(1, label_fields(labels) + sample_fields(times, numbers)))
    for entry in metadata:
        message = varint_field(1, METADATA_TYPES.index(entry.type)) + bytes_field(2, entry.metric.encode())
        message += bytes_field(4, entry.help.encode()) + bytes_field(5, entry.unit.encode())
        parts.append(bytes_field(3, message))
    return compress(b"".join(parts))
