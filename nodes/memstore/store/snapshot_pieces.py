"""The bytes in which a shard's stored rows go from its leader to a new follower.

u64 checksum of the rest | u8 version | 3 free | u32 number of the piece, from 0 | msgpack array of items

item                                               times
[META, format, groups, next series id, next offset]  once, the first
[CLOCK, the fields of a ClockReading]                at most once
[CHECKPOINT, flush group, offset]                    each
[PART_KEYS, row id, data]                            each
[LOG, offset, data]                                  each
[BATCH, batch id, written ms, meta, bytes of data]   each chunk batch that is sent, and then its
[DATA, bytes]                                            data, in pieces
[BATCH_END, checksum]                                    checksum as ``copy_checksums`` makes it
[HELD, batch id, checksum]                           each chunk batch that the follower has already
[END, items before it]                               once, the last
"""

from __future__ import annotations

import struct
from enum import IntEnum

import msgpack

from filoray.cluster.errors import BadData
from filoray.nodes.memstore.store.checked_bytes import seal, unseal

VERSION = 1
_HEADER = struct.Struct("<B3xI")

Field = int | bytes
Item = tuple[int, *tuple[Field, ...]]


class Kind(IntEnum):
    META = 0
    CLOCK = 1
    CHECKPOINT = 2
    PART_KEYS = 3
    LOG = 4
    BATCH = 5
    DATA = 6
    BATCH_END = 7
    HELD = 8
    END = 9


FIELDS: dict[Kind, tuple[type, ...]] = {
    Kind.META: (int, int, int, int),
    Kind.CLOCK: (int, int, int, int),
    Kind.CHECKPOINT: (int, int),
    Kind.PART_KEYS: (int, bytes),
    Kind.LOG: (int, bytes),
    Kind.BATCH: (int, int, bytes, int),
    Kind.DATA: (bytes,),
    Kind.BATCH_END: (int,),
    Kind.HELD: (int, int),
    Kind.END: (int,),
}


def encode_piece(number: int, items: list[Item]) -> bytes:
    return seal(_HEADER.pack(VERSION, number) + msgpack.packb(items))


def decode_piece(data: bytes, number: int, what: str) -> list[tuple[Kind, list[Field]]]:
    """The items of the piece with this number.

    Raises DamagedStore for bytes that are not what was sent, BadData for another piece or format; names ``what``.
    """
    body = unseal(data, what)
    try:
        version, found = _HEADER.unpack_from(body)
        items = msgpack.unpackb(body[_HEADER.size :])
    except (struct.error, ValueError) as error:
        raise BadData(f"{what}: no piece of a snapshot: {error}") from error
    if version != VERSION:
        raise BadData(f"{what}: written in version {version}; this filoray reads version {VERSION}")
    if found != number:
        raise BadData(f"{what}: it is piece {found} of the snapshot, where piece {number} is to come")
    checked = []
    for kind, *fields in items:
        if kind not in FIELDS or [type(field) for field in fields] != [*FIELDS[kind]]:
            raise BadData(f"{what}: no item of a snapshot has kind {kind} and {len(fields)} such fields")
        checked.append((Kind(kind), fields))
    return checked
