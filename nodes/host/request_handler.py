"""What a node does with a data-plane request: checks the route, runs it on the right thread, answers.

Writes go to the ingest thread; everything else runs on a small pool, so that a long query never keeps a write or
a heartbeat waiting. A cancelled or abandoned query stops at its kernels' next look at the token. Of each kind a bounded
number waits; the next is refused at once. What the node says of itself has a thread of its own: it is asked most when
all others are busy. What leaders of shards send to the copies here goes to the follow thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.errors import FilorayError, StaleRoute, TooManyRequests
from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.matching import LabelMatcher
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.data.node_figures import RequestFigures
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.engine.evaluate.fragment_run import run_fragments
from filoray.nodes.engine.fragments import FragmentAnswers
from filoray.nodes.engine.query_params import EvalLimits
from filoray.nodes.host.append_jobs import PendingWrite
from filoray.nodes.host.metrics import NodeMetrics
from filoray.nodes.host.shard_host import ShardHost
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.wire import fragment_codec as wire
from filoray.nodes.wire.copy_bodies import BatchRange, Entries, SyncStep
from filoray.nodes.wire.figures_reply import encode_node_figures
from filoray.nodes.wire.protocol import Frames, Kind, RequestHeader
from filoray.nodes.wire.reply_bodies import NamesReply, encode_metrics
from filoray.nodes.wire.request_bodies import MetadataQuestion, MetricEntries, MetricQuestion, RequestBody, read_body
from filoray.nodes.wire.transport import Responder
from filoray.nodes.wire.write_reply import ShardWriteReply, encode_write_reply

logger = logging.getLogger(__name__)


_READS_SAMPLES = frozenset((Kind.QUERY, Kind.RAW))


class ShardsSource:
    """SeriesSource over the shards that a query was routed to: between two of them it looks at limits and token."""

    def __init__(self, shards: Sequence[Shard], limits: EvalLimits, cancel: CancelToken) -> None:
        self._shards = shards
        self._limits = limits
        self._cancel = cancel

    def select(self, matchers: Sequence[LabelMatcher], start_ms: int, end_ms: int) -> SeriesBatch:
        batches: list[SeriesBatch] = []
        series = samples = 0
        for shard in self._shards:
            self._cancel.check()
            batches.append(shard.select(matchers, start_ms, end_ms, self._cancel))
            series += batches[-1].labels.count
            samples += len(batches[-1].timestamps)
            self._limits.check_series(series)
            self._limits.check_samples(samples)
        return SeriesBatch.concat(batches)


class OpenRequests:
    """Counts the requests of a kind that are not answered yet, and their bytes. Any thread may use it."""

    def __init__(self, noun: str, count_max: int, bytes_max: int) -> None:
        self._noun = noun
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._count = 0
        self._bytes = 0
        self._lock = threading.Lock()

    def begin(self, size_bytes: int) -> None:
        """Raises TooManyRequests; each other call must be followed by one of ``end``."""
        with self._lock:
            if self._count >= self._count_max:
                raise TooManyRequests(
                    f"the node has {self._count} {self._noun} to answer, as many as "
                    f"filoray.node.max-queued-requests = {self._count_max} allows; try again later"
                )
            if self._count and self._bytes + size_bytes > self._bytes_max:
                raise TooManyRequests(
                    f"the node has {self._noun} of {self._bytes} bytes to answer, and {size_bytes} more exceed "
                    f"filoray.node.max-queued-size = {self._bytes_max}; try again later"
                )
            self._count += 1
            self._bytes += size_bytes

    def end(self, size_bytes: int) -> None:
        with self._lock:
            self._count -= 1
            self._bytes -= size_bytes

    @property
    def count(self) -> int:
        return self._count


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """A request of which all is known to be what its kind has, and that is counted."""

    header: RequestHeader
    body: RequestBody
    frames: Frames
    size_bytes: int
    responder: Responder
    token: CancelToken


class RequestHandler:
    """``dispatch`` is called on the transport's thread and returns at once."""

    def __init__(self, host: ShardHost, config: ServerConfig, incarnation: int) -> None:
        self._host = host
        self._incarnation = incarnation
        self._limits = EvalLimits(config.query.max_samples, config.query.max_series, config.query.max_result_bytes)
        node = config.node
        self._open_writes = OpenRequests("writes", node.max_queued_requests, node.max_queued_bytes)
        self._open_queries = OpenRequests("queries", node.max_queued_requests, node.max_queued_bytes)
        self._open_entries = OpenRequests("entries of copies", node.max_queued_requests, node.max_queued_bytes)
        self._open_figures = OpenRequests("requests for figures", node.max_queued_requests, node.max_queued_bytes)
        self._query_threads = node.query_threads
        self._pool = ThreadPoolExecutor(node.query_threads, "query")
        self._metrics = NodeMetrics(host, incarnation)
        self._metrics_thread = ThreadPoolExecutor(1, "metrics")
        self._writes_answered = self._queries_answered = self._metadata_answered = 0
        self._works: dict[tuple[bytes, int], _Work] = {}
        self._works_lock = threading.Lock()
        self._running: set[_Work] = set()
        self._answers: dict[Kind, Callable[[_Work], None]] = {
            Kind.QUERY: self._query,
            Kind.SERIES: self._series,
            Kind.NAMES: self._names,
            Kind.VALUES: self._values,
            Kind.RAW: self._raw,
            Kind.PUT_METADATA: self._put_metadata,
            Kind.METADATA: self._metadata,
        }

    def dispatch(self, header: RequestHeader, frames: Frames, responder: Responder) -> None:
        """Raises what keeps the request from being taken; nothing is counted or queued then."""
        body = read_body(header, len(frames))
        if header.kind is Kind.CANCEL:
            self._cancel(responder.client_request)
        elif header.incarnation != self._incarnation:
            responder.fail(StaleRoute(f"incarnation {header.incarnation} was asked, this is {self._incarnation}"))
        else:
            size_bytes = sum(map(len, frames))
            work = _Work(header, body, frames, size_bytes, responder, CancelToken(header.timeout_ms))
            if header.kind is Kind.WRITE:
                self._write(work)
            elif header.kind is Kind.FIGURES:
                self._figures(work)
            elif header.kind in (Kind.SYNC, Kind.REPLICATE, Kind.CHECK):
                self._keep_copies(work)
            else:
                self._enqueue(work)

    def close(self) -> None:
        with self._works_lock:
            for work in self._works.values():
                work.token.cancel("the node is stopping")
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._metrics_thread.shutdown(wait=True, cancel_futures=True)

    def overdue(self, limit_s: float) -> str | None:
        """That every query thread is at something whose time was up ``limit_s`` ago, so that none is left."""
        with self._works_lock:
            late_s = [work.token.overdue_s() for work in self._running]
        late = sorted(seconds for seconds in late_s if seconds > limit_s)
        if len(late) < self._query_threads:
            return None
        return f"all {self._query_threads} query threads work on queries that timed out {late[0]:.0f} s ago or longer"

    def _write(self, work: _Work) -> None:
        header = work.header

        def answer(replies: Sequence[ShardWriteReply]) -> None:
            self._open_writes.end(work.size_bytes)
            self._writes_answered += 1
            try:
                work.responder.reply(encode_write_reply(replies))
            except Exception as error:
                work.responder.fail(error)

        self._open_writes.begin(work.size_bytes)
        pending = PendingWrite(answer, [None] * len(header.shards))
        try:
            self._host.submit(header.dataset, header.shards, work.frames, pending)
        except BaseException:
            self._open_writes.end(work.size_bytes)
            raise

    def _keep_copies(self, work: _Work) -> None:
        """What leaders send to the copies here."""
        header, body, responder = work.header, work.body, work.responder

        def answer(outcome: object) -> None:
            self._open_entries.end(work.size_bytes)
            if isinstance(outcome, Exception):
                responder.fail(outcome)
                return
            try:
                responder.reply(outcome)
            except Exception as error:
                responder.fail(error)

        self._open_entries.begin(work.size_bytes)
        try:
            if isinstance(body, SyncStep):
                ((shard, epoch),) = header.shards
                self._host.followers.take_step(header.dataset, shard, epoch, body, work.frames, answer)
            elif isinstance(body, BatchRange):
                ((shard, epoch),) = header.shards
                self._host.followers.take_check(header.dataset, shard, epoch, body, answer)
            else:
                assert isinstance(body, Entries), "of REPLICATE"
                self._host.followers.take_entries(header.dataset, header.shards, body, work.frames, answer)
        except BaseException:
            self._open_entries.end(work.size_bytes)
            raise

    def _figures(self, work: _Work) -> None:
        def answer() -> None:
            try:
                work.token.check()
                work.responder.reply(encode_node_figures(self._metrics.figures(self._request_figures())))
            except Exception as error:
                work.responder.fail(error)
            finally:
                self._open_figures.end(work.size_bytes)

        self._open_figures.begin(work.size_bytes)
        try:
            self._metrics_thread.submit(answer)
        except BaseException:
            self._open_figures.end(work.size_bytes)
            raise

    def _request_figures(self) -> RequestFigures:
        with self._works_lock:
            running, known = len(self._running), len(self._works)
            return RequestFigures(
                queries_answered=self._queries_answered,
                metadata_answered=self._metadata_answered,
                reads_running=running,
                reads_waiting=max(0, known - running),
                writes_answered=self._writes_answered,
                writes_waiting=self._open_writes.count,
            )

    def _cancel(self, client_request: tuple[bytes, int]) -> None:
        with self._works_lock:
            work = self._works.get(client_request)
        if work is not None:
            work.token.cancel()

    def _enqueue(self, work: _Work) -> None:
        self._open_queries.begin(work.size_bytes)
        with self._works_lock:
            self._works[work.responder.client_request] = work
        try:
            self._pool.submit(self._answer, work)
        except BaseException:
            self._forget(work)
            raise

    def _forget(self, work: _Work) -> None:
        with self._works_lock:
            self._running.discard(work)
            if self._works.get(work.responder.client_request) is work:
                del self._works[work.responder.client_request]
            if work.header.kind in _READS_SAMPLES:
                self._queries_answered += 1
            else:
                self._metadata_answered += 1
        self._open_queries.end(work.size_bytes)

    def _answer(self, work: _Work) -> None:
        try:
            work.token.check()  # what waited too long is no sign of a thread that is stuck
            with self._works_lock:
                self._running.add(work)
            self._answers[work.header.kind](work)
        except FilorayError as error:
            work.responder.fail(error)
        except Exception as error:
            logger.exception("dataset %s: a %s failed", work.header.dataset, work.header.kind.name)
            work.responder.fail(error)
        finally:
            self._forget(work)

    def _readable(self, work: _Work) -> list[Shard]:
        return self._host.readable(work.header.dataset, work.header.shards)

    def _query(self, work: _Work) -> None:
        started_s = time.perf_counter()
        source = ShardsSource(self._readable(work), self._limits, work.token)
        answers = run_fragments(wire.decode_fragments(bytes(work.frames[0])), source, self._limits, work.token)
        encoded = wire.encode_answers(answers)
        work.responder.reply(round((time.perf_counter() - started_s) * 1000, 3), encoded)

    def _series(self, work: _Work) -> None:
        question = _metadata_question(work)
        tables: list[LabelTable] = []
        shards = self._readable(work)
        for shard in shards:
            work.token.check()
            tables.append(shard.label_table(question.selectors, question.start_ms, question.end_ms, cancel=work.token))
            self._limits.check_series(sum(table.count for table in tables))
        answer = labels_only(LabelTable.concat(tables), _damages(shards))
        work.responder.reply(frames=wire.encode_answers(FragmentAnswers((answer,))))

    def _names(self, work: _Work) -> None:
        question = _metadata_question(work)
        names: set[str] = set()
        shards = self._readable(work)
        for shard in shards:
            work.token.check()
            names.update(shard.label_names(question.selectors, question.start_ms, question.end_ms, cancel=work.token))
        work.responder.reply(NamesReply(sorted(names), _damages(shards)).encode())

    def _values(self, work: _Work) -> None:
        question = _metadata_question(work)
        # One more than asked for, so that the gateway can tell that there are more.
        limit = question.limit and question.limit + 1
        values: set[str] = set()
        shards = self._readable(work)
        for shard in shards:
            work.token.check()
            values.update(
                shard.label_values(
                    question.name, question.selectors, question.start_ms, question.end_ms, limit, work.token
                )
            )
        texts = sorted(values)[:limit] if limit else sorted(values)
        work.responder.reply(NamesReply(texts, _damages(shards)).encode())

    def _raw(self, work: _Work) -> None:
        question = _metadata_question(work)
        source = ShardsSource(self._readable(work), self._limits, work.token)
        batches: list[SeriesBatch] = []
        for matchers in question.selectors:
            batches.append(source.select(matchers, question.start_ms, question.end_ms))
            self._limits.check_series(sum(batch.labels.count for batch in batches))
            self._limits.check_samples(sum(len(batch.timestamps) for batch in batches))
        batch = SeriesBatch.concat(batches)
        work.responder.reply(frames=wire.encode_answers(FragmentAnswers((batch,))))

    def _put_metadata(self, work: _Work) -> None:
        assert isinstance(work.body, MetricEntries)
        self._host.shards.put_metadata(work.header.dataset, work.header.shards, work.body.by_shard)
        work.responder.reply()

    def _metadata(self, work: _Work) -> None:
        assert isinstance(work.body, MetricQuestion)
        entries: list[MetricMetadata] = []
        for file in self._host.metadata_files(work.header.dataset, work.header.shards):
            entries += file.get(work.body.metric, work.body.limit)
        work.responder.reply(encode_metrics(entries))


def _metadata_question(work: _Work) -> MetadataQuestion:
    assert isinstance(work.body, MetadataQuestion)
    return work.body


def labels_only(labels: LabelTable, warnings: tuple[str, ...] = ()) -> SeriesBatch:
    """Series without samples, in the form that the wire has for series."""
    return SeriesBatch(labels, np.zeros(labels.count + 1, np.int64), np.empty(0, np.int64), np.empty(0), warnings)


def _damages(shards: Sequence[Shard]) -> tuple[str, ...]:
    """Series may be missing from the answer for them."""
    return tuple(dict.fromkeys(damage for shard in shards for damage in shard.damages))
