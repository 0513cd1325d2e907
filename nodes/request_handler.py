"""What a node does with a data-plane request: checks the route, runs it on the right thread, answers.

Writes go to the ingest thread; everything else runs on a small pool, so that a long query never keeps a write or
a heartbeat waiting. A cancelled or abandoned query stops at its kernels' next look at the token. Of each kind a bounded
number waits; the next is refused at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from filoray.cluster.config import ServerConfig
from filoray.cluster.errors import BadData, FilorayError, StaleRoute, TooManyRequests
from filoray.nodes.engine import wire
from filoray.nodes.engine.fragments import FragmentAnswers, run_fragments
from filoray.nodes.engine.label_table import LabelTable
from filoray.nodes.engine.query_params import CancelToken, EvalLimits
from filoray.nodes.ingest_worker import PendingWrite
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.promql.ast import LabelMatcher
from filoray.nodes.promql.codec import matchers_from_plain
from filoray.nodes.protocol import Frames, Kind, RequestHeader
from filoray.nodes.series_batch import SeriesBatch
from filoray.nodes.shard_host import ShardHost
from filoray.nodes.transport import Responder
from filoray.nodes.write_reply import ShardWriteReply, encode_write_reply

logger = logging.getLogger(__name__)


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
            batches.append(shard.select(matchers, start_ms, end_ms))
            series += batches[-1].labels.count
            samples += len(batches[-1].timestamps)
            self._limits.check_series(series)
            self._limits.check_samples(samples)
        return SeriesBatch.concat(batches)


class OpenRequests:
    """Counts the requests of a kind that are not answered yet. Any thread may use it."""

    def __init__(self, noun: str, count_max: int) -> None:
        self._noun = noun
        self._count_max = count_max
        self._count = 0
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Raises TooManyRequests; each other call must be followed by one of ``end``."""
        with self._lock:
            if self._count >= self._count_max:
                raise TooManyRequests(
                    f"the node has {self._count} {self._noun} to answer, as many as "
                    f"filoray.node.max-queued-requests = {self._count_max} allows; try again later"
                )
            self._count += 1

    def end(self) -> None:
        with self._lock:
            self._count -= 1


class RequestHandler:
    """``dispatch`` is called on the transport's thread and returns at once."""

    def __init__(self, host: ShardHost, config: ServerConfig, incarnation: int) -> None:
        self._host = host
        self._incarnation = incarnation
        self._limits = EvalLimits(config.query.max_samples, config.query.max_series, config.query.max_result_bytes)
        self._open_writes = OpenRequests("writes", config.node.max_queued_requests)
        self._open_queries = OpenRequests("queries", config.node.max_queued_requests)
        self._pool = ThreadPoolExecutor(config.node.query_threads, "query")
        self._tokens: dict[tuple[bytes, int], CancelToken] = {}
        self._tokens_lock = threading.Lock()
        self._answers: dict[Kind, Callable[[RequestHeader, Frames, Responder, CancelToken], None]] = {
            Kind.QUERY: self._query,
            Kind.SERIES: self._series,
            Kind.NAMES: self._names,
            Kind.VALUES: self._values,
            Kind.RAW: self._raw,
            Kind.PUT_METADATA: self._put_metadata,
            Kind.METADATA: self._metadata,
        }

    def dispatch(self, header: RequestHeader, frames: Frames, responder: Responder) -> None:
        if header.kind is Kind.CANCEL:
            self._cancel(responder.client_request)
        elif header.incarnation != self._incarnation:
            responder.fail(StaleRoute(f"incarnation {header.incarnation} was asked, this is {self._incarnation}"))
        elif header.kind is Kind.WRITE:
            self._write(header, frames, responder)
        else:
            self._open_queries.begin()
            token = CancelToken(header.timeout_ms)
            with self._tokens_lock:
                self._tokens[responder.client_request] = token
            self._pool.submit(self._answer, header, frames, responder, token)

    def close(self) -> None:
        with self._tokens_lock:
            for token in self._tokens.values():
                token.cancel("the node is stopping")
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _write(self, header: RequestHeader, frames: Frames, responder: Responder) -> None:
        if not header.shards or len(header.shards) != len(frames):
            raise BadData(f"a write has a container for each of its shards, not {len(frames)} for {len(header.shards)}")

        def answer(replies: Sequence[ShardWriteReply]) -> None:
            self._open_writes.end()
            responder.reply(encode_write_reply(replies))

        self._open_writes.begin()
        self._host.submit(header.dataset, header.shards, frames, PendingWrite(answer, [None] * len(header.shards)))

    def _cancel(self, client_request: tuple[bytes, int]) -> None:
        with self._tokens_lock:
            token = self._tokens.get(client_request)
        if token is not None:
            token.cancel()

    def _answer(self, header: RequestHeader, frames: Frames, responder: Responder, token: CancelToken) -> None:
        try:
            token.check()
            self._answers[header.kind](header, frames, responder, token)
        except FilorayError as error:
            responder.fail(error)
        except Exception as error:
            logger.exception("dataset %s: a %s failed", header.dataset, header.kind.name)
            responder.fail(error)
        finally:
            with self._tokens_lock:
                self._tokens.pop(responder.client_request, None)
            self._open_queries.end()

    def _query(self, header: RequestHeader, frames: Frames, responder: Responder, token: CancelToken) -> None:
        started_s = time.perf_counter()
        source = ShardsSource(self._host.readable(header.dataset, header.shards), self._limits, token)
        answers = run_fragments(wire.decode_fragments(bytes(frames[0])), source, self._limits, token)
        encoded = wire.encode_answers(answers)
        responder.reply(round((time.perf_counter() - started_s) * 1000, 3), encoded)

    def _series(self, header: RequestHeader, frames: Frames, responder: Responder, token: CancelToken) -> None:
        selectors, start_ms, end_ms, _, _ = _metadata_body(header)
        shards = self._host.readable(header.dataset, header.shards)
        labels = LabelTable.concat([shard.label_table(selectors, start_ms, end_ms) for shard in shards])
        self._limits.check_series(labels.count)
        responder.reply(frames=wire.encode_answers(FragmentAnswers((labels_only(labels),))))

    def _names(self, header: RequestHeader, frames: Frames, responder: Responder, token: CancelToken) -> None:
        selectors, start_ms, end_ms, _, _ = _metadata_body(header)
        names: set[str] = set()
        for shard in self._host.readable(header.dataset, header.shards):
            names.update(shard.label_names(selectors, start_ms, end_ms))
        responder.reply(sorted(names))

    def _values(self, header: RequestHeader, frames: Frames, responder: Responder, token: CancelToken) -> None:
        selectors, start_ms, end_ms, limit, name = _metadata_body(header)
        values: set[str] = set()
        for shard in self._host.readable(header.dataset, header.shards):
            # One more than asked for, so that the gateway can tell that there are more.
            values.update(shard.label_values(name, selectors, start_ms, end_ms, limit and limit + 1))
        responder.reply(sorted(values))

    def _raw(self, header: RequestHeader, frames: Frames, responder: Responder, token: CancelToken) -> None:
        selectors, start_ms, end_ms, _, _ = _metadata_body(header)
        source = ShardsSource(self._host.readable(header.dataset, header.shards), self._limits, token)
        batch = SeriesBatch.concat([source.select(matchers, start_ms, end_ms) for matchers in selectors])
        self._limits.check_series(batch.labels.count)
        self._limits.check_samples(len(batch.timestamps))
        responder.reply(frames=wire.encode_answers(FragmentAnswers((batch,))))

    def _put_metadata(self, header: RequestHeader, frames: Frames, responder: Responder, token: CancelToken) -> None:
        files = self._host.metadata_files(header.dataset, header.shards)
        for file, entries in zip(files, header.body, strict=True):
            file.put([tuple(entry) for entry in entries])
        responder.reply()

    def _metadata(self, header: RequestHeader, frames: Frames, responder: Responder, token: CancelToken) -> None:
        metric, limit = header.body
        entries: list[tuple[str, str, str, str]] = []
        for file in self._host.metadata_files(header.dataset, header.shards):
            entries += file.get(metric, limit)
        responder.reply(entries)


def _metadata_body(header: RequestHeader) -> tuple[list[tuple[LabelMatcher, ...]], int, int, int, str]:
    selectors, start_ms, end_ms, limit, name = header.body
    return [matchers_from_plain(matchers) for matchers in selectors], start_ms, end_ms, limit, name


def labels_only(labels: LabelTable) -> SeriesBatch:
    """Series without samples, in the form that the wire has for series."""
    return SeriesBatch(labels, np.zeros(labels.count + 1, np.int64), np.empty(0, np.int64), np.empty(0))
