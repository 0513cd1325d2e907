"""Large messages in small pieces, for sockets that strangers can reach.

libzmq gathers a whole frame before it looks at it, also before it knows who sends it; a limit on the size of frames is
the only one that holds for those who never come as far as a handshake. So frames are small there, whatever the
size of messages:

    frame   content
    0       lengths of the message's frames, uint64 little-endian each
    1..     pieces of each frame in turn, all but the last of a frame of PIECE_BYTES; an empty frame has none
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from filoray.cluster.errors import BadData
from filoray.nodes.wire.protocol import Frames

PIECE_BYTES = 64 * 1024
FRAME_BYTES_MAX = PIECE_BYTES + 1024
"""What a piece is with what CURVE adds to it, and then some."""
_FRAMES_MAX = PIECE_BYTES // 8


def cut(frames: Sequence[bytes | memoryview]) -> Frames:
    """The message as it is sent. Raises BadData if it has more frames than there is room to tell of."""
    if len(frames) > _FRAMES_MAX:
        raise BadData(f"a message of {len(frames)} frames; {_FRAMES_MAX} can be sent")
    lengths = [len(frame) for frame in frames]
    pieces: Frames = [struct.pack(f"<{len(frames)}Q", *lengths)]
    for frame, length in zip(frames, lengths, strict=True):
        if length <= PIECE_BYTES:
            if length:
                pieces.append(frame)
            continue
        view = memoryview(frame)
        pieces += [view[start : start + PIECE_BYTES] for start in range(0, length, PIECE_BYTES)]
    return pieces


def joined(pieces: Sequence[bytes | memoryview], bytes_max: int) -> Frames:
    """The inverse of ``cut``. Raises BadData for what ``cut`` did not make, or for more than ``bytes_max``."""
    if not pieces or not len(pieces[0]) or len(pieces[0]) % 8:
        raise BadData("a malformed data-plane message: it does not begin with the lengths of its frames")
    lengths = struct.unpack(f"<{len(pieces[0]) // 8}Q", pieces[0])
    if sum(lengths) > bytes_max:
        raise BadData(f"a data-plane message of {sum(lengths)} bytes; filoray.node.max-message-size is {bytes_max}")
    frames: Frames = []
    at = 1
    for length in lengths:
        count = -(-length // PIECE_BYTES)
        parts = pieces[at : at + count]
        if sum(map(len, parts)) != length:
            raise BadData("a malformed data-plane message: its pieces do not add up to its frames")
        frames.append(parts[0] if count == 1 else b"".join(parts))
        at += count
    if at != len(pieces):
        raise BadData(f"a malformed data-plane message: {len(pieces) - at} pieces that belong to no frame")
    return frames
