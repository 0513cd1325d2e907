"""The slow check that followers still have on disk what their leaders have: a disk may change what it was given.

    chunk batches    1 … 40   41 … 77   78 …
    leader           read and hashed here, at so many bytes a second
    follower         asked for the same batches' checksums, at its own disk's pace; only if it is in sync

All shards that this node leads, one after the other, then a pause; a task on the replication loop. What differs is
looked at once more after a while, for a batch may be on its way to the follower or about to be dropped there. What
differs still is told once, and shown with the follower until it has a new session, which gives it the batch anew.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from filoray.cluster.errors import FilorayError
from filoray.nodes.memstore.store.copy_checksums import (
    differences,
    open_to_read,
    stored_checksums,
)
from filoray.nodes.memstore.store.sqlite_errors import database_errors
from filoray.nodes.wire.copy_bodies import BATCH_ID_MAX, BATCH_ID_MIN, BatchRange

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PART_BYTES = 8 << 20
"""Of the batches that are asked for at once, but at least one: the answer comes soon enough to know a lost one."""
_PART_COUNT_MAX = 4096
_ANSWER_MS = 30_000
"""Of one question, beyond the time that reading takes."""
_SLACK = 4
"""How much slower than its pace a disk may be."""


@dataclass(frozen=True, slots=True)
class CheckPace:
    """``pause_s``: after all shards. ``again_s``: before what differs is looked at once more."""

    bytes_per_s: int
    pause_s: float = 600.0
    again_s: float = 10.0


class CheckedCopy(Protocol):
    """A follower that is in sync, as long as its session lasts."""

    @property
    def node(self) -> str: ...

    @property
    def is_over(self) -> bool: ...

    async def checksums(self, batches: BatchRange, timeout_ms: int) -> dict[int, int]:
        """Batch id to checksum. Raises FilorayError."""
        ...


class CheckedShard(Protocol):
    """A shard that is led here."""

    @property
    def name(self) -> str: ...

    @property
    def generation(self) -> int: ...

    @property
    def path(self) -> Path: ...

    def checked_copies(self) -> Sequence[CheckedCopy]: ...

    def differs(self, copy: CheckedCopy, sentences: Sequence[str]) -> None: ...


class CopyCheck:
    """``shards``: those that are led at the moment. On the loop's thread, but what it reads on one of its own."""

    def __init__(self, shards: Callable[[], Collection[CheckedShard]], pace: CheckPace) -> None:
        self._shards = shards
        self._pace = pace
        self._reads = ThreadPoolExecutor(1, "copy-check")
        self._halt = threading.Event()

    def close(self) -> None:
        self._halt.set()
        self._reads.shutdown(wait=False, cancel_futures=True)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            for shard in tuple(self._shards()):
                for copy in shard.checked_copies():
                    await self._check(shard, copy)
            await asyncio.sleep(self._pace.pause_s)

    async def _check(self, shard: CheckedShard, copy: CheckedCopy) -> None:
        try:
            sizes = await self._read(_batch_sizes, shard.path)
            for batches, size_bytes in parts(sizes):
                if copy.is_over:
                    return
                await self._compare(shard, copy, batches, size_bytes)
        except FilorayError as error:
            logger.info("%s: its copy on %s was not checked: %s", shard.name, copy.node, error.message)
        except Exception:
            logger.exception("%s: the check of its copy on %s failed", shard.name, copy.node)

    async def _compare(self, shard: CheckedShard, copy: CheckedCopy, batches: range, size_bytes: int) -> None:
        suspects = unequal(*await self._both(shard, copy, batches, size_bytes, batches))
        if not suspects:
            return
        await asyncio.sleep(self._pace.again_s)
        again = range(min(suspects), max(suspects) + 1)
        here, there = await self._both(shard, copy, again, size_bytes, suspects)
        if not copy.is_over and (sentences := differences(_only(here, suspects), _only(there, suspects))):
            shard.differs(copy, sentences)

    async def _both(
        self, shard: CheckedShard, copy: CheckedCopy, batches: range, size_bytes: int, within: Container[int]
    ) -> tuple[dict[int, int], dict[int, int]]:
        rate = self._pace.bytes_per_s
        here = await self._read(stored_checksums, shard.path, rate, within, self._halt)
        asked = BatchRange(shard.generation, batches[0], batches[-1], rate)
        there = await copy.checksums(asked, _ANSWER_MS + _SLACK * 1000 * size_bytes // rate)
        return here, there

    async def _read(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reads, work, *arguments)


def parts(sizes: Iterable[tuple[int, int]]) -> Iterator[tuple[range, int]]:
    """Ranges of batch ids that together are all there can be, and what each has in bytes; by (id, bytes) ascending."""
    first, size, count = BATCH_ID_MIN, 0, 0
    for batch_id, batch_bytes in sizes:
        if count and (size + batch_bytes > _PART_BYTES or count == _PART_COUNT_MAX):
            yield range(first, batch_id), size
            first, size, count = batch_id, 0, 0
        size, count = size + batch_bytes, count + 1
    yield range(first, BATCH_ID_MAX + 1), size


def unequal(here: dict[int, int], there: dict[int, int]) -> frozenset[int]:
    """Batches of which the two are not the same."""
    return frozenset(batch_id for batch_id in here.keys() | there.keys() if here.get(batch_id) != there.get(batch_id))


def _only(found: dict[int, int], chosen: Container[int]) -> dict[int, int]:
    return {batch_id: checksum for batch_id, checksum in found.items() if batch_id in chosen}


def _batch_sizes(path: Path) -> list[tuple[int, int]]:
    """(id, bytes) of each chunk batch. Raises DamagedStore, Unavailable."""
    with closing(open_to_read(path)) as connection, database_errors(path, "read"):
        return connection.execute("SELECT batch_id, length(data) FROM chunks ORDER BY batch_id").fetchall()
