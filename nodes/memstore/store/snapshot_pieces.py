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
[SHARED, batch id, written ms, meta]                 each chunk batch whose data the follower reads where they are
[END, items before it]                               once, the last
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
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
    SHARED = 10


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
    Kind.SHARED: (int, int, bytes),
}


def pieces_of(
    rows: Iterable[Item], bytes_max: int, more_bytes: Callable[[Item], int] = lambda item: 0
) -> Iterator[bytes]:
    """A snapshot of these items, and of the END that follows on them.

    A piece has little more than ``bytes_max``, unless a single item has; ``more_bytes``: what else an item counts as.
    """
    number, items, size = 0, list[Item](), 0
    for item in _with_end(rows):
        item_bytes = sum(len(field) if isinstance(field, bytes) else 8 for field in item) + more_bytes(item)
        if items and size + item_bytes > bytes_max:
            yield encode_piece(number, items)
            number, items, size = number + 1, [], 0
        items.append(item)
        size += item_bytes
    yield encode_piece(number, items)


def _with_end(rows: Iterable[Item]) -> Iterator[Item]:
    count = 0
    for count, item in enumerate(rows, 1):  # noqa: B007
        yield item
    yield Kind.END, count


class Intake:
    """Pieces in their order, at who gets them. ``name``: for errors. ``is_whole``: the last item came."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._next_piece = 0
        self.count = 0
        """Of items that came."""
        self.is_whole = False

    @property
    def what(self) -> str:
        """The piece that came last."""
        return f"{self._name}: piece {self._next_piece - 1}"

    def items(self, piece: bytes, store_format: int) -> Iterator[tuple[Kind, list[Field]]]:
        """All of the piece but the END, whose count is checked. ``store_format``: what a store must be written in.

        Raises DamagedStore for bytes that are not what was sent, BadData for what does not belong here.
        """
        self._next_piece += 1
        if self.is_whole:
            raise BadData(f"{self.what}: the snapshot was whole already")
        for kind, fields in decode_piece(piece, self._next_piece - 1, self.what):
            if (kind is Kind.META) != (self.count == 0) or self.is_whole:
                raise BadData(f"{self.what}: {kind.name} is out of place")
            if kind is Kind.META and fields[0] != store_format:
                version = fields[0]
                raise BadData(f"{self.what}: a store of format {version!r}; this filoray reads format {store_format}")
            if kind is Kind.END:
                if fields != [self.count]:
                    raise BadData(f"{self.what}: {self.count} items came, where {fields[0]!r} were sent")
                self.is_whole = True
            else:
                yield kind, fields
            self.count += 1

    def check_whole(self) -> None:
        """Raises BadData."""
        if not self.is_whole:
            raise BadData(f"{self._name}: {self.count} items came, and not the last one")


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
