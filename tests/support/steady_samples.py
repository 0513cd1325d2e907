"""Samples that are written one after the other to whichever gateway takes them, and what was acknowledged of them."""

from __future__ import annotations

import threading
import time

import requests
from many_machines import ManyMachines
from running_cluster import WRITE_HEADERS, wait_until

from filoray.http.remote.remote_write_client import encode_write_request

_SERIES_COUNT = 30
_PAUSE_S = 0.1


class SteadySamples:
    """Use as a context manager, on the network where it may write from. Each step is a sample of every series."""

    def __init__(self, cluster: ManyMachines, dataset: str = "timeseries") -> None:
        self._cluster = cluster
        self._dataset = dataset
        self._acknowledged: list[int] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._write_on, daemon=True)
        self._begun_ms = time.time_ns() // 1_000_000
        self._metric = f"steady_{self._begun_ms}"
        self._series = [{"__name__": self._metric, "instance": str(number)} for number in range(_SERIES_COUNT)]

    def __enter__(self) -> SteadySamples:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def wait_for_more(self, count: int = 5) -> None:
        before = len(self._acknowledged)
        wait_until(lambda: len(self._acknowledged) >= before + count, 60, f"{count} more writes are acknowledged")

    def are_all_there(self, gateway: str) -> bool:
        """Whether a gateway answers, and in full: with every sample that was acknowledged when it was asked."""
        floor = len(self._acknowledged)
        now_s = time.time()
        window_s = int(now_s - self._begun_ms / 1000) + 10
        answer = requests.get(
            f"{gateway}/promql/{self._dataset}/api/v1/query",
            params={"query": f"count_over_time({self._metric}[{window_s}s])", "time": str(now_s + 1), "timeout": "10s"},
            timeout=15,
        )
        if answer.status_code != 200:
            return False
        counts = [float(series["value"][1]) for series in answer.json()["data"]["result"]]
        assert not counts or floor == 0 or min(counts) >= floor, f"{min(counts)} of {floor} acknowledged are there"
        return len(counts) == _SERIES_COUNT

    def _write_on(self) -> None:
        while not self._is_over.wait(_PAUSE_S):
            at_ms = time.time_ns() // 1_000_000
            body = encode_write_request([(labels, [at_ms], [1.0]) for labels in self._series])
            while not (is_taken := self._is_taken(body)) and not self._is_over.is_set():
                pass
            if is_taken:
                self._acknowledged.append(at_ms)

    def _is_taken(self, body: bytes) -> bool:
        """The same samples again, until one acknowledges them: that changes nothing where they were stored already."""
        try:
            url = f"{self._cluster.any_gateway()}/promql/{self._dataset}/api/v1/write"
            return requests.post(url, data=body, headers=WRITE_HEADERS, timeout=10).status_code == 204
        except requests.RequestException:
            return False
