"""File descriptors of a node's process: as many as it may have, and some kept for what must go on.

Each shard in SQLite takes about six. A process that has none left can neither take connections nor open the shards of
a node that died, so shards stop being opened before: the last is refused with a reason, and others keep their files.
"""

from __future__ import annotations

import errno
import os
import resource

from filoray.cluster.errors import Unavailable

FILES_PER_SHARD = 8
"""Database, log and shared index, for writing and for reading, and what a file of metrics takes for a moment."""
FILES_KEPT = 256
"""For connections of gateways, Ray's and Kafka's sockets, log files."""
_WANTED = 1 << 20
"""More is of no use, and some systems say "unlimited" where they mean less."""


def raise_limit() -> int:
    """Let this process open as many files as the system allows it without asking; returns how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return _limit()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):
        pass  # what there is must do; whoever does not fit is told
    return _limit()


def check_room(shards: int) -> None:
    """Raises Unavailable if this process, which has so many shards open, has no files left for one more."""
    limit = _limit()
    if (shards + 1) * FILES_PER_SHARD + FILES_KEPT < limit // 2:
        return  # counting takes a while where there are many
    in_use = _open_files(limit)
    if in_use + FILES_PER_SHARD + FILES_KEPT > limit:
        raise Unavailable(
            f"{in_use} of {limit} files are open in this node with its {shards} shards; {FILES_KEPT} are kept for "
            "connections, so no more are opened here; raise the limit (ulimit -n, LimitNOFILE) or have more nodes"
        )


def _open_files(limit: int) -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError as error:
        return limit if error.errno in (errno.EMFILE, errno.ENFILE) else 0  # no file left to look with, or no /proc


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _WANTED if soft == resource.RLIM_INFINITY else soft
