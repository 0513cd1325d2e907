"""What a node says of itself and its shards: counters that only grow while it and the shard are open, and what is now.

Counters come with the time of their reading (``process.uptime_ms``): whoever has two readings has rates. They begin at
0 with each incarnation of a node and each opening (epoch) of a shard.
"""

from __future__ import annotations

from dataclasses import dataclass

from filoray.cluster.process.process_figures import ProcessFigures


@dataclass(slots=True)
class ShardCounters:
    """What happened to a shard since it was opened. The thread that appends counts samples; selects count under a lock.

    ``samples_accepted``: those included that were there already. ``selects``: how often samples were selected for a
    query. ``read_bytes``: of the compressed chunks that those selected from.
    """

    samples_accepted: int = 0
    samples_refused: int = 0
    selects: int = 0
    read_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FollowerFigures:
    """A shard's copy on another node, as its leader knows it.

    ``lag_entries``: how many changes it is known not to have yet, with ``lag_samples`` of ``lag_bytes`` in them; None:
    it is not kept up, for the reason ``problem``.
    """

    node: str
    in_sync: bool
    lag_entries: int | None
    lag_samples: int | None
    lag_bytes: int | None
    problem: str


@dataclass(frozen=True, slots=True)
class CopyFigures:
    """A copy that a node has as a follower. ``entries``: of its leader, that it has stored in the present session.

    ``is_open``: it has all that was there when the session began.
    """

    dataset: str
    shard: int
    epoch: int
    is_open: bool
    entries: int
    series: int
    memory_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class ShardFigures:
    """An open shard. The first four numbers are ShardCounters'.

    ``unflushed_samples``: in no stored chunk yet. ``log_bytes``: what its log has of them. ``newest_sample_ms``: the
    latest time that a sample of it has, None without any. ``memory_bytes``: with decoded chunks. ``stored_bytes``: of
    its chunks in the column store. ``stream_lag``: how many offsets its source is known to be ahead of it; None for a
    shard whose only source is its own log, and while that is not known. ``followers``: its copies on other nodes.
    """

    dataset: str
    shard: int
    epoch: int
    samples_accepted: int
    samples_refused: int
    selects: int
    read_bytes: int
    series: int
    unflushed_samples: int
    log_bytes: int
    newest_sample_ms: int | None
    memory_bytes: int
    stored_bytes: int
    stream_lag: int | None
    followers: tuple[FollowerFigures, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestFigures:
    """Of a node's requests: counts of those that were answered, well or with an error, and of those that are not yet.

    A query or a metadata request at a gateway is one here for each node that it needs.
    """

    queries_answered: int
    metadata_answered: int
    reads_running: int
    reads_waiting: int
    writes_answered: int
    writes_waiting: int


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """One node incarnation. ``ingest_queue``: containers and other work that wait for its ingest thread.

    ``shards``: those that it serves. ``copies``: those that it follows.
    """

    incarnation: int
    process: ProcessFigures
    requests: RequestFigures
    ingest_queue: int
    shards: tuple[ShardFigures, ...]
    copies: tuple[CopyFigures, ...] = ()
