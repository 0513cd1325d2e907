"""The copies that this node has as a follower: joined, kept up, and given away to be led or closed.

A copy is registered without anything being opened. Its leader then begins a session: what the leader has comes in
pieces (``joining.py``), while what there was before stays as it is; at the end that takes its place and is opened, and
from then on each entry is carried out in its order. What comes of another epoch or session is refused with
StaleRoute. A copy whose leader is gone stays as it is.

All of it happens on the follow thread, but what takes long (reading what is held already, opening) has a thread of its
own; meanwhile the copy is in that one's hand, and whoever wants it waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from filoray.cluster.config.dataset_limits import DatasetLimits
from filoray.cluster.control.node_effects import OpenShard
from filoray.cluster.control.node_events import OpeningId
from filoray.cluster.errors import FilorayError, ShardNotHere, StaleRoute, Unavailable, reason_of
from filoray.cluster.process.clocks import steady_ms
from filoray.cluster.process.open_files import check_room
from filoray.cluster.process.thread_watch import ThreadWatch
from filoray.nodes.data.node_figures import CopyFigures
from filoray.nodes.host.append_jobs import ShardKey
from filoray.nodes.host.metric_metadata_file import MetricMetadataFile
from filoray.nodes.host.replication.follow_thread import FollowThread
from filoray.nodes.host.replication.followed_copy import Answer, FollowedCopy, GiveTo
from filoray.nodes.host.replication.joining import Joining, begin_joining
from filoray.nodes.host.shard_files import ShardFiles
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.store.copy_checksums import stored_checksums
from filoray.nodes.streams.sources import ask_source
from filoray.nodes.wire.copy_bodies import (
    BatchRange,
    Entries,
    SessionEntries,
    Step,
    Stored,
    SyncStep,
    encode_held,
    encode_stored,
    frames_by_shard,
)
from filoray.nodes.wire.protocol import Frames

logger = logging.getLogger(__name__)

T = TypeVar("T")

_UPKEEP_MAX_S = 0.05
"""Of all copies at once; entries wait meanwhile."""


class RunAside(Protocol):
    def __call__(self, dataset: str, action: Callable[[], None], *, has_source: bool) -> None:
        """Do it on a thread of its own, when there is a place for it. ``has_source``: it may wait for one."""
        ...


class Followers:
    """Any thread may call its methods; none waits but ``close``.

    ``limits``: what a data set's source may make this node do. ``served_count``: of shards that are open besides.
    """

    def __init__(
        self, files: ShardFiles, limits: DatasetLimits, run_aside: RunAside, served_count: Callable[[], int]
    ) -> None:
        self._files = files
        self._limits = limits
        self._served_count = served_count
        self._run_aside = run_aside
        self._copies: dict[ShardKey, FollowedCopy] = {}
        """Changed on the follow thread alone."""
        self._upkeep_turn = 0
        self._thread = FollowThread(self._upkeep)
        self._checks = ThreadPoolExecutor(1, "copy-check")
        self._halt_checks = threading.Event()

    def watch_with(self, watch: ThreadWatch) -> None:
        """Have it known when copies get no further."""
        self._thread.watch_with(watch)

    def close(self) -> None:
        """Every copy was given away."""
        self._halt_checks.set()
        self._checks.shutdown(wait=False, cancel_futures=True)
        self._thread.close()

    # ---- what the node wants

    def run(self, what: str, action: Callable[[], None]) -> None:
        """On the follow thread, after all that came before."""
        self._thread.submit(what, action)

    def register(self, order: OpenShard) -> None:
        """What its leader sends at that epoch is taken from now on. On the follow thread."""
        self._copies[order.key] = FollowedCopy(order)

    def give_away(self, opening: OpeningId, key: ShardKey, take: GiveTo) -> None:
        """Nothing more is taken for it. ``take`` gets the open copy, or None if there is none, on the follow thread."""

        def give() -> None:
            copy = self._copies.get(key)
            if copy is None or copy.order.opening != opening:
                take(None)
                return
            copy.wanted.append(take)
            copy.unwanted.set()
            copy.end_session()
            if not copy.is_aside:
                self._give(copy)

        self._thread.submit(f"giving {key} away", give)

    def figures(self) -> tuple[CopyFigures, ...]:
        """Of all copies."""
        found = []
        for copy in tuple(self._copies.values()):
            order, shard = copy.order, copy.shard
            numbers = (0, 0, 0)
            if shard is not None:
                stats = shard.figures()
                numbers = stats.series, stats.memory_bytes, stats.stored_bytes
            found.append(
                CopyFigures(order.config.name, order.shard, order.epoch, shard is not None, copy.stored, *numbers)
            )
        return tuple(found)

    # ---- what leaders send

    def take_step(self, dataset: str, shard: int, epoch: int, step: SyncStep, frames: Frames, answer: Answer) -> None:
        """SYNC: answered when it is done."""

        def do() -> None:
            try:
                copy = self._copy((dataset, shard), epoch, step.generation)
                self._step(copy, step, frames, answer)
            except Exception as error:
                answer(_told(error))

        self._thread.submit(f"a copy of dataset {dataset} shard {shard}", do)

    def take_entries(
        self, dataset: str, shards: Sequence[tuple[int, int]], entries: Entries, frames: Frames, answer: Answer
    ) -> None:
        """REPLICATE: answered when all are stored or refused, with a Stored for each shard."""

        def do() -> None:
            stored = []
            all_frames = frames_by_shard(entries, frames)
            for (shard, epoch), one, its_frames in zip(shards, entries.by_shard, all_frames, strict=True):
                self._thread.beat.busy(f"entries of dataset {dataset} shard {shard}")
                stored.append(self._store((dataset, shard), epoch, entries.generation, one, its_frames))
            answer(encode_stored(stored))

        self._thread.submit(f"entries of dataset {dataset}", do)

    def take_check(self, dataset: str, shard: int, epoch: int, batches: BatchRange, answer: Answer) -> None:
        """CHECK: answered by a thread that reads slowly. What of the copy is replaced or closed meanwhile is none."""

        def read(path: Path) -> None:
            try:
                within = range(batches.first, batches.last + 1)
                found = stored_checksums(path, batches.bytes_per_s, within, self._halt_checks)
                answer(encode_held(tuple(found.items())))
            except Exception as error:
                answer(_told(error))

        def do() -> None:
            try:
                copy = self._copy((dataset, shard), epoch, batches.generation)
                if copy.shard is None or not copy.is_live:
                    raise StaleRoute(f"{copy.name}: the copy is not kept up")
                self._checks.submit(read, self._files.path(copy.order.config, shard))
            except RuntimeError:
                answer(Unavailable("the node is closing"))
            except Exception as error:
                answer(_told(error))

        self._thread.submit(f"a check of dataset {dataset} shard {shard}", do)

    # ---- on the follow thread: sessions

    def _copy(self, key: ShardKey, epoch: int, generation: int) -> FollowedCopy:
        """Raises StaleRoute."""
        copy = self._copies.get(key)
        if copy is None or copy.wanted or copy.order.config.generation != generation:
            raise ShardNotHere(f"dataset {key[0]} shard {key[1]}: not followed here")
        if copy.order.epoch != epoch:
            raise StaleRoute(f"{copy.name}: followed at epoch {copy.order.epoch} here, not {epoch}")
        return copy

    def _step(self, copy: FollowedCopy, step: SyncStep, frames: Frames, answer: Answer) -> None:
        if step.step is Step.BEGIN:
            self._begin(copy, step.session, answer)
            return
        if copy.session != step.session:
            raise StaleRoute(f"{copy.name}: that session is over")
        if copy.is_aside:
            raise StaleRoute(f"{copy.name}: the copy is being opened")
        match step.step:
            case Step.METRICS:
                path = self._files.path(copy.order.config, copy.order.shard, "metrics")
                path.parent.mkdir(parents=True, exist_ok=True)
                MetricMetadataFile(path).put(step.metrics)
                answer(None)
            case Step.PIECE:
                self._add(copy, step.number, frames)
                answer(None)
            case Step.AWAIT:
                copy.tell_when_stored(step.number, answer)
            case _:
                self._install(copy, step, answer)

    def _begin(self, copy: FollowedCopy, session: int, answer: Answer) -> None:
        if copy.session == session:
            raise StaleRoute(f"{copy.name}: that session has begun already")
        if copy.is_aside:
            raise Unavailable(f"{copy.name}: a copy is being opened for a former session")
        copy.end_session()
        copy.session = session
        has_source = copy.is_source_doubted

        def prepare() -> tuple[Joining, object]:
            if has_source:  # its leader would give it all that there is, and wait for it in vain
                ask_source(copy.order.config, copy.order.shard, self._limits)
            joining = begin_joining(self._files, copy.order)
            try:
                return joining, encode_held(joining.held(copy.unwanted))
            except BaseException:
                joining.abort()
                raise

        def prepared(outcome: tuple[Joining, object] | Exception) -> None:
            if isinstance(outcome, Exception):
                copy.end_session()
                answer(_told(outcome))
                return
            copy.joining, copy.next_piece, copy.is_source_doubted = outcome[0], 0, False
            answer(outcome[1])

        self._aside(copy, prepare, prepared, has_source=has_source)

    def _add(self, copy: FollowedCopy, number: int, frames: Frames) -> None:
        if copy.joining is None or number != copy.next_piece:
            copy.end_session()
            raise StaleRoute(f"{copy.name}: piece {number} of a copy comes where {copy.next_piece} belongs")
        try:
            copy.joining.add(bytes(frames[0]))
        except Exception:
            copy.end_session()
            raise
        copy.next_piece += 1

    def _install(self, copy: FollowedCopy, step: SyncStep, answer: Answer) -> None:
        joining, old = copy.joining, copy.shard
        if joining is None:
            raise StaleRoute(f"{copy.name}: the end of a copy comes twice")
        copy.joining, copy.shard = None, None

        def install() -> Shard:
            if old is not None:
                old.close()
            else:
                check_room(self._served_count() + len(self._copies))
            return joining.open()

        def installed(outcome: Shard | Exception) -> None:
            if isinstance(outcome, Exception):
                copy.end_session()
                answer(_told(outcome))
                return
            copy.go_live(outcome, step.number, is_live=copy.session == step.session)
            try:
                copy.read_source(self._limits, partial(self._messages_came, copy, step.session))
            except Exception as error:
                copy.end_session()
                answer(_told(error))
                return
            answer(None)

        self._aside(copy, install, installed)

    # ---- on the follow thread: entries

    def _store(self, key: ShardKey, epoch: int, generation: int, part: SessionEntries, frames: Frames) -> Stored:
        try:
            copy = self._copy(key, epoch, generation)
            if copy.session != part.session or not copy.is_live or copy.shard is None:
                raise StaleRoute(f"{copy.name}: that session is over, or its copy not open")
        except StaleRoute as error:
            return Stored(0, (type(error).__name__, error.message))
        try:
            copy.take(part.first, frames)
        except Exception as error:
            told = self._does_not_go_on(copy, error)
            return Stored(copy.stored, (type(told).__name__, told.message))
        copy.answer_asked()
        return Stored(copy.stored)

    def _messages_came(self, copy: FollowedCopy, session: int) -> None:
        """On the thread that reads them."""
        self._thread.submit(f"messages of {copy.name}", partial(self._go_on, copy, session))

    def _go_on(self, copy: FollowedCopy, session: int) -> None:
        """Messages have come for which entries waited."""
        if copy.session != session:
            return
        try:
            copy.carry_out()
        except Exception as error:
            self._does_not_go_on(copy, error)
        else:
            copy.answer_asked()

    def _does_not_go_on(self, copy: FollowedCopy, error: Exception) -> FilorayError:
        told = _told(error)
        logger.warning("%s: the copy does not go on: %s", copy.name, told.message)
        copy.end_session(told)
        return told

    def _upkeep(self) -> bool:
        """A piece of what each open copy does by itself, in turn where that takes long."""
        copies = [copy for copy in self._copies.values() if copy.shard is not None and not copy.is_aside]
        first = self._upkeep_turn % max(1, len(copies))
        until_s = time.monotonic() + _UPKEEP_MAX_S
        is_more_due = False
        for count, copy in enumerate([*copies[first:], *copies[:first]], 1):
            is_more_due = _upkeep_of(copy) or is_more_due
            if time.monotonic() > until_s and count < len(copies):
                self._upkeep_turn = first + count
                return True
        return is_more_due

    # ---- from hand to hand

    def _aside(
        self,
        copy: FollowedCopy,
        work: Callable[[], T],
        done: Callable[[T | Exception], None],
        *,
        has_source: bool = False,
    ) -> None:
        """``done`` is called on the follow thread; until then the copy is in another thread's hand."""

        def come_back(outcome: T | Exception) -> None:
            copy.is_aside = False
            try:
                done(outcome)
            finally:
                if copy.wanted:
                    copy.end_session()
                    self._give(copy)

        def do() -> None:
            try:
                outcome: T | Exception = work()
            except Exception as error:
                outcome = error
            self._thread.submit(f"what became of a copy of {copy.name}", partial(come_back, outcome))

        copy.is_aside = True
        try:
            self._run_aside(copy.order.config.name, do, has_source=has_source)
        except Exception as error:
            come_back(error)

    def _give(self, copy: FollowedCopy) -> None:
        """To whoever wanted it first; the others find nothing."""
        del self._copies[copy.order.key]
        shard, copy.shard = copy.shard, None
        for take in copy.wanted:
            given, shard = shard, None
            take(given)


def _upkeep_of(copy: FollowedCopy) -> bool:
    """What goes wrong is that copy's affair alone, and is said once."""
    assert copy.shard is not None
    try:
        is_more_due = copy.shard.follower_upkeep(steady_ms())
    except Exception as error:
        problem = reason_of(error)
        if problem != copy.upkeep_problem:
            is_unexpected = not isinstance(error, FilorayError)
            logger.warning("%s: upkeep of the copy failed: %s", copy.name, problem, exc_info=is_unexpected)
        copy.upkeep_problem = problem
        return False
    copy.upkeep_problem = ""
    return is_more_due


def _told(error: Exception) -> FilorayError:
    if isinstance(error, FilorayError):
        return error
    logger.error("a copy could not be kept", exc_info=error)
    return Unavailable(f"{type(error).__name__}: {error}")
