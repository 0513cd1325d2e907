"""What can be wrong with stored data."""

from __future__ import annotations

from filoray.cluster.errors import Unavailable


class DamagedStore(Unavailable):
    """Stored bytes are not what was written. The message names file and part; the shard's status shows it."""


class CopyDiffers(Unavailable):
    """A follower's copy of a shard is not its leader's: it must be made anew from a snapshot."""
