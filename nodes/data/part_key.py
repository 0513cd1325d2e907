"""Which shard a series belongs to, and the bytes that identify it: the one rule that writers and readers share.

**Part key**: a series' identity as bytes. Labels bytewise sorted by name, none with an empty value:

    u16 LE  length of name | name, UTF-8 | u16 LE  length of value | value, UTF-8 | next label ...

**Part key hash**: the part key's xxh3-128 as two uint64 halves; 128 equal bits are taken for the same series.

**Shard**, as FiloDB computes it: the upper bits come from the hash of the shard key (the labels
``_ws_``, ``_ns_``, ``__name__``), the lower ``spread`` bits from the part key hash. So one
metric of one application lives on ``2^spread`` neighbouring shards, and a query that fixes all
shard key labels asks no others:

    shard = (shard_key_hash & ~(2^spread - 1) | part_key_hash_low & (2^spread - 1)) & (num_shards - 1)

The metric's suffix ``_bucket``, ``_sum`` or ``_count`` does not take part (FiloDB's
``ignoreShardKeyColumnSuffixes``), so the series of a classic histogram share their shards.

Which node owns a shard is the shard map's business, which labels are acceptable the decoder's.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import xxhash

from filoray.cluster.errors import BadData
from filoray.nodes.promql.ast import LabelMatcher, MatchOp

METRIC_LABEL = "__name__"
SHARD_KEY_LABELS = ("_ws_", "_ns_", METRIC_LABEL)
IGNORED_METRIC_SUFFIXES = ("_bucket", "_sum", "_count")
PART_KEY_TEXT_BYTES_MAX = 0xFFFF  # a length is a u16

_IGNORED_SUFFIXES = tuple(suffix.encode() for suffix in IGNORED_METRIC_SUFFIXES)
_PREFIX = struct.Struct("<II")
_LENGTH = struct.Struct("<H")
_LOW_MASK = (1 << 64) - 1


def encode_part_key(labels: Mapping[str, str]) -> bytes:
    """Part key of a label set; labels with an empty value are left out, as Prometheus takes them for absent.

    Raises BadData for a name or value over 65,535 bytes, or one that UTF-8 cannot write (a lone surrogate).
    """
    parts: list[bytes] = []
    for name in sorted(labels):  # code point order is UTF-8's byte order
        value = labels[name]
        if value:
            for text in (name, value):
                data = _utf8(text)
                if len(data) > PART_KEY_TEXT_BYTES_MAX:
                    raise BadData(
                        f"label {name[:80]!r}: a name or value of {len(data)} bytes; "
                        f"a part key holds {PART_KEY_TEXT_BYTES_MAX} at most"
                    )
                parts += [_LENGTH.pack(len(data)), data]
    return b"".join(parts)


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
