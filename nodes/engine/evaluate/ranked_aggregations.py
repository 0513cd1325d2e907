"""Aggregations that keep some of the samples (topk, bottomk, limitk, limit_ratio) or count them by value.

Their parameters' checks and messages are those of Prometheus's rangeEvalAgg (promql/engine.go).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import xxhash
from numpy.typing import NDArray

from filoray.cluster.errors import ExecutionError
from filoray.nodes.data.cancel_token import CancelFlag
from filoray.nodes.data.frame import Frame
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import METRIC_NAME
from filoray.nodes.engine.annotations import AnnotationKind
from filoray.nodes.kernels.query.ranking import Pick, RowGroups, count_values, pick_samples
from filoray.nodes.promql.ast import Aggregate
from filoray.nodes.promql.number_format import format_float_f, format_float_g
from filoray.nodes.promql.quoting import is_valid_label_name, quote

Parameter = NDArray[np.float64] | str | None
"""A scalar at each step, count_values' label name, or None."""


RANKED = frozenset({"topk", "bottomk", "limitk", "limit_ratio"})
_PICKS = {"topk": Pick.TOP, "bottomk": Pick.BOTTOM, "limitk": Pick.FIRST}
_MAX_INT64 = 2.0**63
_LONG_TEXT = 255


def checked_label(label: str) -> str:
    """count_values' label name; raises ExecutionError if it is none."""
    if not is_valid_label_name(label):
        raise ExecutionError(f"invalid label name {quote(label)}")
    return label


def parameter_warnings(op: str, values: NDArray[np.float64]) -> list[tuple[AnnotationKind, tuple[str, ...]]]:
    """Warnings about a scalar parameter over all steps; raises ExecutionError for one that cannot be used."""
    if not len(values):
        return []
    has_nan = bool(np.isnan(values).any())
    # Of steps that hold NaN there is no extreme, unless an infinity outdoes it (Go's math.Max and math.Min).
    highest = math.inf if (values == math.inf).any() else float(np.max(values))
    lowest = -math.inf if (values == -math.inf).any() else float(np.min(values))
    warnings: list[tuple[AnnotationKind, tuple[str, ...]]] = []
    if op == "quantile":
        kind = AnnotationKind.INVALID_QUANTILE
        if has_nan:
            warnings.append((kind, ("NaN",)))
        if highest > 1:
            warnings.append((kind, (format_float_g(highest),)))
        if lowest < 0:
            warnings.append((kind, (format_float_g(lowest),)))
        return warnings
    if op == "limit_ratio":
        if has_nan:
            raise ExecutionError("Ratio value is NaN")
        if highest > 1:
            warnings.append((AnnotationKind.INVALID_RATIO, (format_float_g(highest), "1")))
        if lowest < -1:
            warnings.append((AnnotationKind.INVALID_RATIO, (format_float_g(lowest), "-1")))
        return warnings
    if has_nan:
        raise ExecutionError("Parameter value is NaN")
    if highest < 1:
        return []
    if lowest <= -_MAX_INT64:
        raise ExecutionError(f"Scalar value {format_float_g(lowest)} underflows int64")
    if highest >= _MAX_INT64:
        raise ExecutionError(f"Scalar value {format_float_g(highest)} overflows int64")
    return []


def picked_samples(
    op: str,
    frame: Frame,
    ids: NDArray[np.int64],
    group_count: int,
    parameter: NDArray[np.float64],
    cancelled: CancelFlag,
) -> Frame:
    """The samples that an aggregation keeps of each group at each step; rows come sorted by labels."""
    if op == "limit_ratio":
        ratios = np.clip(parameter, -1.0, 1.0)
        offsets = _hash_offsets(frame.labels)[:, np.newaxis]
        picked = frame.valid & np.where(ratios >= 0, offsets < ratios, offsets >= 1.0 + ratios)
        # At 1 a hash of all ones counts as well.
        picked = np.where(ratios == 1.0, frame.valid, picked)
    else:
        limits = np.clip(np.trunc(parameter), 0, max(frame.series_count, 1)).astype(np.int64)
        groups = RowGroups.of(ids, group_count)
        values, valid = np.ascontiguousarray(frame.values), np.ascontiguousarray(frame.valid)
        picked = pick_samples(values, valid, groups, _PICKS[op], limits, cancelled)
    return Frame(frame.labels, frame.values, picked, frame.drop_name).without_empty_series()


def ranked_result(op: str, frame: Frame, group_labels: LabelTable) -> Frame:
    """An instant query's order: group by group, in each the best first; equals by labels, as the rows come."""
    if op not in ("topk", "bottomk"):
        return frame
    ids, groups = group_labels.grouped()
    group_rank = np.empty(groups.count, np.int64)
    group_rank[groups.sorted_rows()] = np.arange(groups.count)
    values = frame.values[:, 0]
    is_nan = np.isnan(values)
    keys = np.where(is_nan, 0.0, -values if op == "topk" else values)
    return frame.take(np.lexsort((keys, is_nan, group_rank[ids])))


def count_values_part(expr: Aggregate, frame: Frame, label: str, cancelled: CancelFlag) -> Frame:
    """How often each value occurs: one row for each group and value, which becomes a label."""
    if expr.without:
        base = frame.labels.without({*expr.grouping, METRIC_NAME, label})
        shows_value = label not in expr.grouping and label != METRIC_NAME
    else:
        base = frame.labels.keep(name for name in expr.grouping if name != label)
        shows_value = True
    ids, groups = base.grouped()
    pairs = count_values(frame.values, frame.valid, ids, cancelled)
    labels = groups.take(pairs.groups)
    if shows_value:
        labels = labels.with_values(label, [format_float_f(value) for value in pairs.values.tolist()])
    return Frame(labels, pairs.counts, pairs.counts > 0, np.zeros(len(pairs.groups), np.bool_))


def _hash_offsets(labels: LabelTable) -> NDArray[np.float64]:
    """Where each label set lies in [0, 1): its 64-bit hash, as Prometheus's labels.Hash() over its own encoding."""
    hashes = (xxhash.xxh64_intdigest(_hashed_bytes(labels_)) for labels_ in labels.label_sets())
    return np.fromiter(hashes, np.uint64, labels.count).astype(np.float64) / 2.0**64


def _hashed_bytes(labels: Mapping[str, str]) -> bytes:
    """Names and values in the order of names, each behind its length: one byte, or 255 and three more."""
    pieces: list[bytes] = []
    for name in sorted(labels):
        for text in (name, labels[name]):
            data = text.encode("utf-8", "surrogateescape")
            size = len(data)
            pieces += (bytes([size]) if size < _LONG_TEXT else b"\xff" + size.to_bytes(3, "little"), data)
    return b"".join(pieces)
