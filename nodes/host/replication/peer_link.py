"""The connection of this node, as a leader of shards, to one incarnation of another that follows some of them.

Entries of many shards go in one message where they wait for it: a few messages may be on their way, what comes
meanwhile is gathered for the next. The entries of a shard are sent in their order over one connection, and taken in the
order in which they arrive; what gets lost is missed by its number.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import Protocol

from filoray.cluster.errors import ConnectionLost, FilorayError
from filoray.nodes.wire.copy_bodies import (
    ENTRIES_MAX,
    BatchRange,
    Entries,
    SessionEntries,
    Stored,
    SyncStep,
    decode_held,
    decode_stored,
)
from filoray.nodes.wire.node_client import NodeClient, Reply
from filoray.nodes.wire.protocol import Frames, Kind, error_named

logger = logging.getLogger(__name__)

_MESSAGES_MAX = 4
"""On their way at once: enough that the follower never waits for the next, and few, so that entries gather."""
_MESSAGE_BYTES = 4 << 20
_SNAPSHOTS_MAX = 2
_REPLICATE_TIMEOUT_MS = 30_000
"""A follower that others wait for is given up much sooner, by the LeaderCopies."""

DatasetId = tuple[str, int]
"""(name, generation)."""


class Sends(Protocol):
    """A session as its link uses it."""

    @property
    def dataset(self) -> DatasetId: ...

    @property
    def shard_epoch(self) -> tuple[int, int]: ...

    @property
    def token(self) -> int: ...

    def next_bytes(self) -> int:
        """Of the next entry that is to be sent; 0: there is none."""
        ...

    def take(self) -> tuple[int, bytes]:
        """The next entry's number, and what it is as it is sent."""
        ...

    def stored(self, seq: int) -> None: ...
    def await_stored(self, seq: int) -> None: ...
    def failed(self, error: Exception) -> None: ...


class PeerLink:
    """On the event loop's thread alone. ``node``: the peer. ``client``: it is closed with this.

    ``turns``: for those who send all that there is, so that a peer which hangs holds up its own followers alone.
    """

    def __init__(self, node: str, client: NodeClient) -> None:
        self.turns = asyncio.Semaphore(_SNAPSHOTS_MAX)
        self._node = node
        self._client = client
        self._users: set[Sends] = set()
        self._ready: OrderedDict[DatasetId, OrderedDict[Sends, None]] = OrderedDict()
        self._sending: set[asyncio.Task[None]] = set()

    @property
    def is_used(self) -> bool:
        return bool(self._users)

    def join(self, session: Sends) -> None:
        self._users.add(session)

    def leave(self, session: Sends) -> None:
        """It sends nothing more."""
        self._users.discard(session)
        if (sessions := self._ready.get(session.dataset)) is not None:
            sessions.pop(session, None)

    def close(self) -> None:
        for task in self._sending:
            task.cancel()
        self._client.close()

    def lost(self) -> None:
        """Its process is gone, as it seems: whoever waits for it should not wait until something is sent."""
        if self._users:
            logger.info(
                "the connection to %s was lost: it keeps up no copies for now, shards=%d", self._node, len(self._users)
            )
        for session in tuple(self._users):
            session.failed(ConnectionLost("the connection to it was lost"))

    async def step(self, session: Sends, step: SyncStep, timeout_ms: int, frames: Frames | None = None) -> Reply:
        """Raises FilorayError."""
        shards = (session.shard_epoch,)
        return await self._client.request(Kind.SYNC, session.dataset[0], shards, timeout_ms, step.encode(), frames)

    async def checksums(self, session: Sends, batches: BatchRange, timeout_ms: int) -> dict[int, int]:
        """Of the follower's chunk batches. Raises FilorayError."""
        shards = (session.shard_epoch,)
        reply = await self._client.request(Kind.CHECK, session.dataset[0], shards, timeout_ms, batches.encode())
        return dict(decode_held(reply.body))

    def offer(self, session: Sends) -> None:
        """It has entries to send."""
        self._ready.setdefault(session.dataset, OrderedDict())[session] = None
        self._pump()

    def _pump(self) -> None:
        while self._ready and len(self._sending) < _MESSAGES_MAX:
            dataset, sessions = next(iter(self._ready.items()))
            parts, frames = _gather(sessions)
            if sessions:
                self._ready.move_to_end(dataset)
            else:
                del self._ready[dataset]
            if parts:
                task = asyncio.get_running_loop().create_task(self._send(dataset, parts, frames))
                self._sending.add(task)
                task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled():
            self._pump()

    async def _send(self, dataset: DatasetId, parts: dict[Sends, SessionEntries], frames: Frames) -> None:
        shards = tuple([session.shard_epoch for session in parts])
        body = Entries(dataset[1], tuple(parts.values())).encode()
        try:
            reply = await self._client.request(Kind.REPLICATE, dataset[0], shards, _REPLICATE_TIMEOUT_MS, body, frames)
            answers = decode_stored(reply.body, len(parts))
        except Exception as error:
            if not isinstance(error, FilorayError):
                logger.exception("entries of dataset %s could not be sent", dataset[0])
            for session in parts:
                session.failed(error)
            return
        for (session, part), answer in zip(parts.items(), answers, strict=True):
            _hear(session, part.first + part.count - 1, answer)


def _gather(sessions: OrderedDict[Sends, None]) -> tuple[dict[Sends, SessionEntries], Frames]:
    """What goes in one message; whoever has no more to send is not in ``sessions`` any more."""
    parts: dict[Sends, SessionEntries] = {}
    frames: Frames = []
    size = 0
    while sessions and size < _MESSAGE_BYTES and len(frames) < ENTRIES_MAX:
        session = next(iter(sessions))
        first = count = 0
        while (more := session.next_bytes()) and len(frames) < ENTRIES_MAX:
            if frames and size + more > _MESSAGE_BYTES:
                break
            seq, data = session.take()
            first, count = first or seq, count + 1
            size += len(data)
            frames.append(data)
        if count:
            parts[session] = SessionEntries(session.token, first, count)
        if more:
            break  # the message is full; the session is first in the next
        del sessions[session]
    return parts, frames


def _hear(session: Sends, last: int, answer: Stored) -> None:
    """``last``: the last entry that was sent to it."""
    if answer.number:
        session.stored(answer.number)
    if answer.error is not None:
        session.failed(error_named(*answer.error))
    elif answer.number < last:
        session.await_stored(last)
