"""Which shard a series belongs to, and the bytes that identify it: the one rule that writers and readers share.

**Part key**: a series' identity as bytes. Labels bytewise sorted by name, none with an empty value:

    u16 LE  length of name | name, UTF-8 | u16 LE  length of value | value, UTF-8 | next label ...

The four parts of one label are that label's bytes; a part key is nothing else. Many keys travel and are stored joined,
with each one's end (``JoinedPartKeys``). A text that UTF-8 cannot write, or of more bytes than a length tells, is in no
part key: encoding refuses it and never puts another in its place.

**Part key hash**: the part key's xxh3-128 as two uint64 halves; 128 equal bits are taken for the same series.

**Shard**, as FiloDB computes it: the upper bits come from the hash of the shard key (the labels
``_ws_``, ``_ns_``, ``__name__``), the lower ``spread`` bits from the part key hash. So one
metric of one application lives on ``2^spread`` neighbouring shards, and a query that fixes all
shard key labels asks no others:

    shard = (shard_key_hash & ~(2^spread - 1) | part_key_hash_low & (2^spread - 1)) & (num_shards - 1)

The metric's suffix ``_bucket``, ``_sum`` or ``_count`` does not take part (FiloDB's
``ignoreShardKeyColumnSuffixes``), so the series of a classic histogram share their shards.

Which node owns a shard is the shard map's business, which labels are acceptable the decoder's. A kernel writes the part
keys of a remote write's new series (``filoray.nodes.kernels.edge.remote_write``) and another finds the labels of many
(``filoray.nodes.kernels.storage.label_columns``); how a shard's file keeps them is ``part_key_rows``'s affair.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from filoray.cluster.errors import BadData
from filoray.nodes.data.matching import METRIC_NAME, LabelMatcher, MatchOp
from filoray.nodes.kernels.storage import label_columns as kernels

SHARD_KEY_LABELS = ("_ws_", "_ns_", METRIC_NAME)
IGNORED_METRIC_SUFFIXES = ("_bucket", "_sum", "_count")
PART_KEY_TEXT_BYTES_MAX = 0xFFFF  # a length is a u16

_IGNORED_SUFFIXES = tuple(suffix.encode() for suffix in IGNORED_METRIC_SUFFIXES)
_PREFIX = struct.Struct("<II")
_LENGTH = struct.Struct("<H")
_LOW_MASK = (1 << 64) - 1


def encode_part_key(labels: Mapping[str, str]) -> bytes:
    """Part key of a label set; labels with an empty value are left out, as Prometheus takes them for absent.

    Raises BadData for a label that ``encode_label`` refuses.
    """
    # Code point order is UTF-8's byte order.
    return b"".join([encode_label(name, labels[name]) for name in sorted(labels) if labels[name]])


def encode_label(name: str, value: str) -> bytes:
    """Raises BadData for a name or value over 65,535 bytes, or one that UTF-8 cannot write (a lone surrogate)."""
    name_bytes, value_bytes = _utf8(name), _utf8(value)
    for size in (len(name_bytes), len(value_bytes)):
        if size > PART_KEY_TEXT_BYTES_MAX:
            raise BadData(
                f"label {name[:80]!r}: a name or value of {size} bytes; "
                f"a part key holds {PART_KEY_TEXT_BYTES_MAX} at most"
            )
    return b"".join((_LENGTH.pack(len(name_bytes)), name_bytes, _LENGTH.pack(len(value_bytes)), value_bytes))


def decode_label(label: bytes) -> tuple[str, str]:
    """Name and value of a label's bytes, as ``split_part_keys`` gives them. Raises UnicodeDecodeError."""
    (name_length,) = _LENGTH.unpack_from(label)
    name_end = _LENGTH.size + name_length
    return label[_LENGTH.size : name_end].decode(), label[name_end + _LENGTH.size :].decode()


def decode_part_key(part_key: bytes | memoryview) -> dict[str, str]:
    """Labels in part key order. Raises BadData if the bytes are not a whole part key."""
    data = bytes(part_key)
    texts: list[str] = []
    position = 0
    try:
        while position < len(data):
            (length,) = _LENGTH.unpack_from(data, position)
            position += _LENGTH.size + length
            if position > len(data):
                raise BadData(f"part key: a text of {length} bytes ends past the key's {len(data)} bytes")
            texts.append(data[position - length : position].decode())
    except (struct.error, UnicodeDecodeError) as error:
        raise BadData(f"not a part key: {error}") from error
    if len(texts) % 2:
        raise BadData(f"part key: label {texts[-1]!r} has no value")
    return dict(zip(texts[::2], texts[1::2], strict=True))


def split_part_keys(keys: Sequence[bytes]) -> tuple[list[bytes], NDArray[np.int64]]:
    """The labels of all keys, each as its bytes, and how many each key has. Raises BadData if one is not a part key."""
    joined = JoinedPartKeys.of(keys)
    data = joined.data.tobytes()
    label_starts = np.empty(len(data) // (2 * _LENGTH.size) + 1, np.int64)
    label_counts = np.empty(len(keys), np.int64)
    total = kernels.split_part_keys(joined.data, joined.starts, joined.ends, label_starts, label_counts)
    if total < 0:
        raise BadData(f"not a part key: {keys[-1 - total][:200]!r}")
    bounds = [*label_starts[:total].tolist(), len(data)]
    # The labels of all keys touch each other, so a label ends where the next begins.
    return [data[bounds[i] : bounds[i + 1]] for i in range(total)], label_counts


@dataclass(frozen=True, slots=True)
class JoinedPartKeys:
    """Part keys one after the other. ``ends`` int64[n]: where each ends in ``data``, uint8; the first begins at 0."""

    ends: NDArray[np.int64]
    data: NDArray[np.uint8]

    @classmethod
    def of(cls, keys: Sequence[bytes]) -> JoinedPartKeys:
        return cls(np.cumsum([len(key) for key in keys], dtype=np.int64), np.frombuffer(b"".join(keys), np.uint8))

    @property
    def starts(self) -> NDArray[np.int64]:
        return self.ends - self.lengths

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.ends, prepend=0)

    def to_list(self) -> list[bytes]:
        data, ends = self.data.tobytes(), self.ends.tolist()
        return [data[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=False)]

    def kept(self, kept: NDArray[np.bool_]) -> JoinedPartKeys:
        """Those under the mask bool[n]."""
        lengths = self.lengths
        return JoinedPartKeys(np.cumsum(lengths[kept], dtype=np.int64), self.data[np.repeat(kept, lengths)])

    def part(self, first: int, end: int) -> JoinedPartKeys:
        """The keys ``first..end - 1``, at least one."""
        start = int(self.ends[first - 1]) if first else 0
        return JoinedPartKeys(self.ends[first:end] - start, self.data[start : int(self.ends[end - 1])])


NO_PART_KEYS = JoinedPartKeys(np.empty(0, np.int64), np.empty(0, np.uint8))


def hash_part_keys(keys: Sequence[bytes]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """High and low halves of the keys' xxh3-128."""
    digests = b"".join([xxhash.xxh3_128_digest(key) for key in keys])
    halves = np.frombuffer(digests, ">u8").reshape(-1, 2)
    return halves[:, 0].astype(np.uint64), halves[:, 1].astype(np.uint64)


def part_key_hash(part_key: bytes | memoryview) -> tuple[int, int]:
    """(high, low) uint64 halves of the part key's xxh3-128."""
    digest = xxhash.xxh3_128_intdigest(part_key)
    return digest >> 64, digest & _LOW_MASK


def shard_key_hash(labels: Mapping[str, str]) -> int:
    """uint64 hash of the shard key; an absent label counts as ``""``."""
    workspace, namespace, metric = (_utf8(labels.get(name, "")) for name in SHARD_KEY_LABELS)
    return hash_shard_key(workspace, namespace, metric)


def hash_shard_key(workspace: bytes, namespace: bytes, metric: bytes) -> int:
    """``shard_key_hash`` of the three values in UTF-8."""
    for suffix in _IGNORED_SUFFIXES:
        if metric.endswith(suffix):
            metric = metric[: -len(suffix)]
            break
    # Lengths first, so that no two shard keys share their bytes.
    prefix = _PREFIX.pack(len(workspace), len(namespace))
    return xxhash.xxh3_64_intdigest(prefix + workspace + namespace + metric)


def ingestion_shard(shard_key_hash: int, part_key_hash_low: int, num_shards: int, spread: int) -> int:
    """The one shard in ``0..num_shards - 1`` that holds a series. ``num_shards`` is a power of two."""
    spread_mask = _spread_mask(num_shards, spread)
    return (shard_key_hash & ~spread_mask | part_key_hash_low & spread_mask) & (num_shards - 1)


def shards_for_matchers(matchers: Sequence[LabelMatcher], num_shards: int, spread: int) -> tuple[int, ...]:
    """Shards, ascending, that may hold a series which all ``matchers`` match.

    They are ``2^spread`` if every shard key label is fixed by an ``=`` matcher (``_ns_=""`` fixes it too: to
    absence), else all: a label that no matcher names may have any value.
    """
    spread_mask = _spread_mask(num_shards, spread)
    fixed: dict[str, str] = {}
    for matcher in matchers:
        if matcher.op is MatchOp.EQUAL:
            fixed.setdefault(matcher.name, matcher.value)
    if not all(name in fixed for name in SHARD_KEY_LABELS):
        return tuple(range(num_shards))
    first = shard_key_hash(fixed) & ~spread_mask & (num_shards - 1)
    return tuple(range(first, first + spread_mask + 1))


def _spread_mask(num_shards: int, spread: int) -> int:
    if num_shards < 1 or num_shards & (num_shards - 1):
        raise ValueError(f"num_shards is {num_shards}, not a power of two")
    if spread < 0:
        raise ValueError(f"spread is {spread}, below 0")
    return min(1 << spread, num_shards) - 1  # a spread above log2(num_shards) means all shards


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise BadData(f"label text {text[:80]!r} is not valid Unicode: {error.reason}") from error
