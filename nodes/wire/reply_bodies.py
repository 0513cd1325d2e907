"""What the header's ``body`` of a node's reply is, by the kind of the request.

    kind                    body
    WRITE                   see ``write_reply``
    QUERY                   how many ms the node worked; what it found is in frames
    SERIES, RAW             nil; what was found is in frames
    NAMES, VALUES           [texts, what to warn of]
    PUT_METADATA            nil
    METADATA                an array of [metric, type, help, unit]
    FIGURES                 see ``figures_reply``
    SYNC, REPLICATE         see ``copy_bodies``

Nodes are trusted: a gateway takes what they say as it is. Their lists may be long, so that no text is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from filoray.nodes.data.metric_metadata import METRICS_MAX, MetricMetadata
from filoray.nodes.wire.field_checks import items
from filoray.nodes.wire.protocol import SHARDS_MAX


@dataclass(frozen=True, slots=True)
class NamesReply:
    """Of NAMES and VALUES: sorted texts."""

    texts: Sequence[str]
    warnings: Sequence[str]

    def encode(self) -> list[Any]:
        return [self.texts, self.warnings]

    @classmethod
    def decode(cls, body: object) -> NamesReply:
        texts, warnings = items(body, "label texts and warnings", 2, exactly=2)
        return cls(texts, warnings)


def encode_metrics(entries: Sequence[MetricMetadata]) -> list[Any]:
    return [entry.as_row() for entry in entries]


def decode_metrics(body: object) -> list[MetricMetadata]:
    return [MetricMetadata(*fields) for fields in items(body, "metrics", SHARDS_MAX * METRICS_MAX)]
