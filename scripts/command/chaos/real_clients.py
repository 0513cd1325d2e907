"""Clients of a real cluster: writers and readers in threads, over HTTP, each told of to the witness with its outcome.

A write that got no answer, or one that says to send again, may have been carried out or not: its outcome is unknown. It
failed for certain only if nobody was there to take it, or if it was refused for good.
"""

from __future__ import annotations

import itertools
import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

import orjson

from filoray.cluster.chaos.clients import (
    LATE_MS,
    READ_INTERVAL_MS,
    WRITE_INTERVAL_MS,
    Turns,
    Writer,
    writer_to_read,
)
from filoray.cluster.chaos.driver import Witness
from filoray.cluster.chaos.operations import Answer, Operation, Outcome, Read, Write
from filoray.cluster.errors import FilorayError
from filoray.command.chaos.cluster_access import ClusterAccess
from filoray.command.http_client import NoAnswer, send
from filoray.http.remote.remote_write_client import WRITE_HEADERS, encode_write_request
from filoray.http.remote.write_answer import OUTCOME_HEADER, read_outcome_header

METRIC = "chaos_sample"


class RealClients:
    """``now_ms``: the scenario's clock. Samples are stored at ``began_ms``, in ms since 1970, plus its times."""

    def __init__(self, cluster: ClusterAccess, witness: Witness, now_ms: Callable[[], int], began_ms: int) -> None:
        self.writers: list[Writer] = []
        self._cluster = cluster
        self._witness = witness
        self._now_ms = now_ms
        self._began_ms = began_ms
        self._threads: list[threading.Thread] = []
        self._stop_writing = threading.Event()
        self._stop_reading = threading.Event()
        self._readers = itertools.count()

    def start_writing(self, writers: list[Writer]) -> None:
        self._stop_writing = threading.Event() if self._stop_writing.is_set() else self._stop_writing
        for number, writer in enumerate(writers, start=len(self.writers)):
            self._start(self._write, writer, Turns(len(self._cluster.urls), number), self._stop_writing)
        self.writers += writers

    def start_reading(self, readers: int) -> None:
        self._stop_reading = threading.Event() if self._stop_reading.is_set() else self._stop_reading
        for number in itertools.islice(self._readers, readers):
            self._start(self._read, number, Turns(len(self._cluster.urls), number), self._stop_reading)

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop_writing(self) -> None:
        self._stop_writing.set()

    def stop_reading(self) -> None:
        self._stop_reading.set()

    def stop(self) -> None:
        """Returns when no request is under way any more."""
        self.stop_writing()
        self.stop_reading()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    # ---- what a thread does

    def _write(self, writer: Writer, turns: Turns, stop: threading.Event) -> None:
        while not stop.is_set():
            begun_s = time.monotonic()
            self._go_on(turns, self.ask(writer.name, writer, writer.next_write(self._now_ms()), turns.present))
            stop.wait(max(0.0, begun_s + WRITE_INTERVAL_MS / 1000 - time.monotonic()))

    def _read(self, number: int, turns: Turns, stop: threading.Event) -> None:
        for turn in itertools.count(number):
            if stop.is_set():
                return
            begun_s = time.monotonic()
            writer = writer_to_read(self.writers, turn)
            if writer is not None:
                read = writer.last_window(self._now_ms())
                self._go_on(turns, self.ask(f"reader-{number}", writer, read, turns.present))
            stop.wait(max(0.0, begun_s + READ_INTERVAL_MS / 1000 - time.monotonic()))

    @staticmethod
    def _go_on(turns: Turns, outcome: Outcome) -> None:
        if outcome is not Outcome.OK:
            turns.go_on()

    # ---- one request

    def ask(self, client: str, writer: Writer, request: Write | Read, gateway: int) -> Outcome:
        begun_ms = self._now_ms()
        name = f"gateway-{gateway % len(self._cluster.urls)}"
        if isinstance(request, Write):
            self._witness.begins(request, begun_ms)
            outcome = self._send_write(writer, request, gateway)
            self._witness.ended(Operation(client, request, begun_ms, self._now_ms(), outcome, name))
            return outcome
        answer, is_marked = self._send_read(writer, request, gateway)
        outcome = Outcome.FAILED if answer is None else Outcome.OK
        self._witness.ended(Operation(client, request, begun_ms, self._now_ms(), outcome, name, answer, is_marked))
        return outcome

    def _send_write(self, writer: Writer, write: Write, gateway: int) -> Outcome:
        time_ms = self._began_ms + write.timestamp_ms
        body = encode_write_request((_labels(writer, series), [time_ms], [write.value]) for series in write.series)
        path = f"/promql/{urllib.parse.quote(writer.dataset)}/api/v1/write"
        try:
            answer = send(self._cluster.gateway(gateway), path, body, WRITE_HEADERS, timeout_s=LATE_MS / 1000)
        except NoAnswer as error:
            return Outcome.FAILED if isinstance(error.reason, ConnectionRefusedError) else Outcome.UNKNOWN
        if answer.is_good:
            return Outcome.OK
        is_final = 400 <= answer.status < 500 and answer.status != 429
        return Outcome.FAILED if is_final and _stored_none(answer.headers.get(OUTCOME_HEADER)) else Outcome.UNKNOWN

    def _send_read(self, writer: Writer, read: Read, gateway: int) -> tuple[Answer | None, bool]:
        """None: there was no answer, or an error. And whether it says that it is not whole."""
        selector = f'{METRIC}{{writer="{writer.name}"}}[{read.until_ms - read.after_ms}ms]'
        parameters = {"query": selector, "time": f"{(self._began_ms + read.until_ms) / 1000:.3f}"}
        path = f"/promql/{urllib.parse.quote(writer.dataset)}/api/v1/query?{urllib.parse.urlencode(parameters)}"
        try:
            answer = send(self._cluster.gateway(gateway), path, timeout_s=LATE_MS / 1000)
        except FilorayError:
            return None, False
        if not answer.is_good:
            return None, False
        said = orjson.loads(answer.body)
        shown = {_series(one["metric"]): self._samples(one["values"]) for one in said["data"]["result"]}
        return shown, bool(said.get("partial") or said.get("warnings"))

    def _samples(self, values: list[tuple[float, str]]) -> dict[int, float]:
        return {round(time_s * 1000) - self._began_ms: float(value) for time_s, value in values}


def _labels(writer: Writer, series: str) -> dict[str, str]:
    """Each series has a namespace of its own, so that they are on all shards."""
    number = series.rpartition("/")[2]
    return {"__name__": METRIC, "_ws_": "chaos", "_ns_": f"ns-{number}", "number": number, "writer": writer.name}


def _series(metric: dict[str, Any]) -> str:
    return f"{metric['writer']}/{metric['number']}"


def _stored_none(header: str | None) -> bool:
    """Of a write that was refused for good."""
    outcome = read_outcome_header(header) if header is not None else None
    return header is None or (outcome is not None and outcome.accepted == 0)
