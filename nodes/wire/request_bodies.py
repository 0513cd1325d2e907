"""What the header's ``body`` of each kind of request is. A node reads it strictly before it counts or queues a request.

    kind                       body
    WRITE, QUERY, CANCEL,
    FIGURES                    nil
    SERIES, NAMES, RAW         [selectors, start_ms, end_ms, limit, nil]
    VALUES                     [selectors, start_ms, end_ms, limit, label name]
    PUT_METADATA               for each of ``shards`` an array of [metric, type, help, unit]
    METADATA                   [metric or "", limit]
    SYNC, REPLICATE, CHECK     see ``copy_bodies``

A selector is an array of [label name, operator, value]; a limit of 0 is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from filoray.cluster.errors import BadData
from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.promql.codec import matchers_to_plain
from filoray.nodes.wire.copy_bodies import BatchRange, Entries, SyncStep, read_batch_range, read_entries, read_sync_step
from filoray.nodes.wire.field_checks import INT64_MAX, items, malformed, text, whole_number
from filoray.nodes.wire.metric_entries import metric_entries
from filoray.nodes.wire.protocol import HEADER_BYTES_MAX, Kind, RequestHeader

_SELECTORS_MAX = 10_000
_MATCHERS_MAX = 100_000
_TEXT_CHARACTERS_MAX = HEADER_BYTES_MAX
_OPERATORS = {op.value: op for op in MatchOp}


@dataclass(frozen=True, slots=True)
class MetadataQuestion:
    """Of SERIES, NAMES, VALUES and RAW. ``name`` is the label of VALUES, else ""."""

    selectors: Sequence[tuple[LabelMatcher, ...]]
    start_ms: int
    end_ms: int
    limit: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class MetricQuestion:
    """Of METADATA; ``metric`` "" means all."""

    metric: str
    limit: int


@dataclass(frozen=True, slots=True)
class MetricEntries:
    """Of PUT_METADATA: what to keep, for each of the request's shards."""

    by_shard: Sequence[Sequence[MetricMetadata]]


RequestBody = MetadataQuestion | MetricQuestion | MetricEntries | SyncStep | Entries | BatchRange | None


def write_body(kind: Kind, body: RequestBody) -> object:
    """Plain values for a header; ``read_body`` is the inverse."""
    match body:
        case MetadataQuestion(selectors, start_ms, end_ms, limit, name):
            plain = [matchers_to_plain(matchers) for matchers in selectors]
            return [plain, start_ms, end_ms, limit, name if kind is Kind.VALUES else None]
        case MetricQuestion(metric, limit):
            return [metric, limit]
        case MetricEntries(by_shard):
            return [[entry.as_row() for entry in entries] for entries in by_shard]
        case SyncStep() | Entries():
            return body.encode()
    return None


def read_body(header: RequestHeader, frame_count: int) -> RequestBody:
    """The body as its kind has it. Raises BadData for another, and for frames that are too many or too few."""
    kind, body = header.kind, header.body
    wanted_frames = {Kind.WRITE: len(header.shards), Kind.QUERY: 1}.get(kind, 0)
    if kind is Kind.FIGURES and header.shards:
        raise malformed("shards", list(header.shards), "empty")
    if kind not in (Kind.CANCEL, Kind.FIGURES) and not header.shards:
        raise malformed("shards", list(header.shards), "at least one shard")
    if kind is Kind.SYNC:
        return read_sync_step(header, frame_count)
    if kind is Kind.REPLICATE:
        return read_entries(header, frame_count)
    if kind is Kind.WRITE and frame_count != wanted_frames:
        raise BadData(f"a write has a container for each of its shards, not {frame_count} for {len(header.shards)}")
    if frame_count != wanted_frames:
        raise BadData(f"a malformed data-plane message: {kind.name} has {wanted_frames} frames, not {frame_count}")
    match kind:
        case Kind.CHECK:
            return read_batch_range(header)
        case Kind.SERIES | Kind.NAMES | Kind.RAW | Kind.VALUES:
            return _metadata_question(kind, body)
        case Kind.PUT_METADATA:
            lists = items(body, "body", len(header.shards), exactly=len(header.shards))
            return MetricEntries(tuple([metric_entries(one) for one in lists]))
        case Kind.METADATA:
            metric, limit = items(body, "body", 2, exactly=2)
            return MetricQuestion(
                text(metric, "metric", _TEXT_CHARACTERS_MAX), whole_number(limit, "limit", 0, INT64_MAX)
            )
    if body is not None:
        raise malformed("body", body, "nil")
    return None


def read_selectors(plain: object) -> tuple[tuple[LabelMatcher, ...], ...]:
    """Arrays of [label name, operator, value]. Raises BadData."""
    selectors = items(plain, "selectors", _SELECTORS_MAX)
    count = sum(len(items(selector, "a selector", _MATCHERS_MAX)) for selector in selectors)
    if count > _MATCHERS_MAX:
        raise BadData(f"{count} label matchers in one request; {_MATCHERS_MAX} are allowed")
    return tuple([tuple([_matcher(one) for one in selector]) for selector in selectors])


def _metadata_question(kind: Kind, body: object) -> MetadataQuestion:
    selectors, start_ms, end_ms, limit, name = items(body, "body", 5, exactly=5)
    if kind is not Kind.VALUES and name is not None:
        raise malformed("label name", name, "nil")
    if kind is Kind.RAW and selectors == []:
        raise malformed("selectors", selectors, "at least one selector")
    return MetadataQuestion(
        read_selectors(selectors),
        whole_number(start_ms, "start_ms", -INT64_MAX, INT64_MAX),
        whole_number(end_ms, "end_ms", -INT64_MAX, INT64_MAX),
        whole_number(limit, "limit", 0, INT64_MAX - 1),
        text(name, "label name", _TEXT_CHARACTERS_MAX) if kind is Kind.VALUES else "",
    )


def _matcher(plain: object) -> LabelMatcher:
    name, operator, value = items(plain, "a label matcher", 3, exactly=3)
    if type(operator) is not str or operator not in _OPERATORS:
        raise malformed("a label matcher's operator", operator, f"one of {' '.join(_OPERATORS)}")
    return LabelMatcher(
        text(name, "a label's name", _TEXT_CHARACTERS_MAX),
        _OPERATORS[operator],
        text(value, "a label's value", _TEXT_CHARACTERS_MAX),
    )
