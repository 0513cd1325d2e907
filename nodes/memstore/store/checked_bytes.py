"""Bytes with a checksum in front: ``u64 LE xxh3-64 of the rest | rest``."""

from __future__ import annotations

import struct

import xxhash

from filoray.nodes.memstore.store.store_errors import DamagedStore

_CHECKSUM = struct.Struct("<Q")


def checksum64(data: bytes | memoryview) -> int:
    return xxhash.xxh3_64_intdigest(data)


def seal(data: bytes) -> bytes:
    return _CHECKSUM.pack(checksum64(data)) + data


def unseal(sealed: bytes, what: str) -> memoryview:
    """The rest, if it is what was sealed. Raises DamagedStore naming ``what``."""
    rest = memoryview(sealed)[_CHECKSUM.size :]
    if len(sealed) < _CHECKSUM.size or _CHECKSUM.unpack_from(sealed)[0] != checksum64(rest):
        raise DamagedStore(f"{what}: checksum does not match")
    return rest
