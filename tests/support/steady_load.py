"""A load of writes that goes on through what a test does to a cluster, and what of it must be answered afterwards."""

from __future__ import annotations

import itertools
import threading
import time

import requests
from running_cluster import RunningCluster, wait_until

START_MS = 1_600_000_000_000
SERIES = [{"__name__": "load", "instance": str(i)} for i in range(40)]


class Load:
    """Writes one sample of each series after the other, in its own thread, and counts what was acknowledged."""

    def __init__(self, cluster: RunningCluster, gateway: int = 0, dataset: str = "timeseries") -> None:
        self._cluster = cluster
        self._dataset = dataset
        self._gateway = gateway
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.acknowledged: list[int] = []

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for_more(self, count: int) -> None:
        wanted = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= wanted, 30, f"{count} more requests are acknowledged")

    def write(self, step: int) -> requests.Response:
        """One sample of each series."""
        samples = [(labels, [START_MS + step * 1000], [float(step)]) for labels in SERIES]
        return self._cluster.write(samples, self._dataset, self._gateway)

    def _run(self) -> None:
        for step in itertools.count():
            while not self._stop.is_set():
                try:
                    answer = self.write(step)
                except requests.RequestException:
                    time.sleep(0.02)
                    continue
                if answer.status_code == 204:
                    self.acknowledged.append(step)
                    break
                assert answer.status_code in (429, 503), answer.text
            if self._stop.is_set():
                return


def assert_nothing_lost(cluster: RunningCluster, load: Load, gateway: int = 0, dataset: str = "timeseries") -> None:
    end_s = START_MS / 1000 + len(load.acknowledged) + 100
    window = f"[{len(load.acknowledged) + 200}s]"
    counts = _by_instance(cluster.query(f"count_over_time(load{window})", end_s, dataset, gateway))
    sums = _by_instance(cluster.query(f"sum_over_time(load{window})", end_s, dataset, gateway))
    assert len(counts) == len(SERIES)
    for instance, count in counts.items():
        # The last request may be stored though its answer never came.
        assert len(load.acknowledged) <= count <= len(load.acknowledged) + 1
        assert sums[instance] == count * (count - 1) / 2


def _by_instance(result: list[dict]) -> dict[str, float]:
    return {series["metric"]["instance"]: float(series["value"][1]) for series in result}
