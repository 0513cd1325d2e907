"""Snappy's block format, as Prometheus's remote write and read use it: with the declared length checked first.

A body says how long it will be in its first bytes; that is compared with the limit before anything is allocated, so
that no small body can claim much memory. https://github.com/google/snappy/blob/main/format_description.txt
"""

from __future__ import annotations

import cramjam
import numpy as np
from numpy.typing import NDArray

from filoray.cluster.errors import BadData, PayloadTooLarge

_LENGTH_BYTES_MAX = 5  # a varint of 32 bits


def declared_length(body: bytes | memoryview) -> int:
    """Decompressed length in bytes that a block declares. Raises BadData if it does not begin with one."""
    length = 0
    for index in range(_LENGTH_BYTES_MAX):
        if index >= len(body):
            raise BadData(f"malformed snappy block: it ends within its length, at byte {index}")
        length |= (body[index] & 0x7F) << (7 * index)
        if body[index] < 0x80:
            if length >= 1 << 32:
                break
            return length
    raise BadData("malformed snappy block: its declared length (bytes 0 to 4) is over 32 bits")


def decompress(body: bytes | memoryview, decoded_bytes_max: int, limit_key: str) -> NDArray[np.uint8]:
    """The block's content, uint8.

    Raises PayloadTooLarge over ``decoded_bytes_max`` (``limit_key`` names the setting), BadData for a malformed block.
    """
    length = declared_length(body)
    if length > decoded_bytes_max:
        raise PayloadTooLarge(
            f"snappy block declares {length} bytes decompressed, over the limit of {decoded_bytes_max} ({limit_key})"
        )
    decoded = np.empty(length, np.uint8)
    try:
        written = cramjam.snappy.decompress_raw_into(body, decoded.data) if length else _decompress_nothing(body)
    except (cramjam.DecompressionError, ValueError) as error:
        text = str(error).removeprefix("snappy: ")
        raise BadData(f"malformed snappy block of {len(body)} bytes, {length} decompressed: {text}") from error
    if written != length:
        raise BadData(f"malformed snappy block: {written} bytes where it declares {length}")
    return decoded


def _decompress_nothing(body: bytes | memoryview) -> int:
    if len(body) > 1:
        raise ValueError(f"{len(body) - 1} bytes follow the declared length of 0")
    return 0


def compress(data: bytes | memoryview) -> bytes:
    return bytes(cramjam.snappy.compress_raw(data))
