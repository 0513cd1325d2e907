"""How long a writer and a reader wait when the node that leads their shard is killed: a benchmark, run by hand.

    python tests/support/takeovers.py --replicas 2 --kills 50 [--lose-disk] [--samples 1000000] [--directory DIR]

Starts a cluster of three nodes, fills each of four shards with so many samples, then kills with SIGKILL, again and
again, the node that leads most (``--lose-disk``: and deletes its directory at once), while one client writes and one
asks for everything, each as fast as it is answered. Of each kill: the time until the end of the first write that began
after it and was acknowledged, and of the first query that began after it and had everything. When all copies are in
sync again the next node is killed. In the end everything acknowledged must be there. Prints one line of JSON per kill,
then medians.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import requests
from running_cluster import RunningCluster, wait_until

START_MS = 1_700_000_000_000
SHARDS, SERIES_PER_WRITE, SAMPLES_PER_SERIES = 4, 500, 500
STEP_MS = 1000
PROBES = 32
"""Series that are written and read all the time, of all shards."""
DATASET = "takeovers"
REQUEST_TIMEOUT_S = 30


@dataclass
class Client:
    """Does one thing as fast as it is answered, and keeps when each attempt began and ended well."""

    attempt: Callable[[], bool]
    done: list[tuple[float, float]] = field(default_factory=list)
    failed: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stop.is_set():
            began_s = time.monotonic()
            try:
                is_well = self.attempt()
            except requests.RequestException:
                is_well = False
            if is_well:
                self.done.append((began_s, time.monotonic()))
            else:
                self.failed += 1
            time.sleep(0.002)

    def outage_s(self, killed_s: float) -> float | None:
        """Until the end of the first good one that began after the kill."""
        return next((ended_s - killed_s for began_s, ended_s in self.done if began_s >= killed_s), None)


@contextmanager
def running(clients: Collection[Client]) -> Iterator[None]:
    """Each in a thread of its own, until the end."""
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for client in clients:
            client.stop.set()
        for thread in threads:
            thread.join()


class Takeovers:
    def __init__(self, cluster: RunningCluster, replicas: int, samples: int) -> None:
        self.cluster = cluster
        self.replicas = replicas
        self.samples = samples
        self.acknowledged = 0
        self._session = requests.Session()

    # ---- before

    def set_up(self) -> None:
        source = {
            "dataset": DATASET,
            "num-shards": SHARDS,
            "min-num-nodes": 2,
            "num-replicas": self.replicas,
            "sourcefactory": "filoray.nodes.streams.LogStreamFactory",
            "sourceconfig": {"store": {"disk-time-to-live": "7000 days"}},
        }
        answer = requests.post(f"{self.cluster.url}/api/v1/cluster/{DATASET}", json=source, timeout=60)
        assert answer.status_code == 200, answer.text
        self.wait_until_whole()

    def fill(self) -> None:
        """Evenly over the shards, by the labels' hash."""
        series_count = SHARDS * self.samples // SAMPLES_PER_SERIES
        times = START_MS + STEP_MS * np.arange(SAMPLES_PER_SERIES)
        dice = np.random.default_rng(7)
        for first in range(0, series_count, SERIES_PER_WRITE):
            body = [
                (
                    {"__name__": f"filled_{i % 97}", "_ws_": "w", "_ns_": f"n{i % 13}", "i": str(i)},
                    times,
                    dice.random(len(times)),
                )
                for i in range(first, min(first + SERIES_PER_WRITE, series_count))
            ]
            answer = self.cluster.write(body, DATASET)
            assert answer.status_code == 204, answer.text

    def statuses(self) -> list[dict[str, Any]]:
        shards: list[dict[str, Any]] = self.cluster.get(f"/api/v1/cluster/{DATASET}/status?verbose=true").json()["data"]
        return shards

    def is_whole(self) -> bool:
        return len(self.cluster.get("/__members").json()["members"]) == self.cluster.nodes and all(
            shard["status"] == "ShardStatusActive" and len(shard["inSync"]) == self.replicas
            for shard in self.statuses()
        )

    def wait_until_whole(self) -> None:
        wait_until(self.is_whole, 120, "every shard is Active and every copy in sync")

    # ---- the clients

    def write(self) -> bool:
        """One sample each of some series, which are of all shards."""
        step = self.acknowledged
        body = [
            (
                {"__name__": "probe", "_ws_": "w", "_ns_": f"n{i}", "i": str(i)},
                [START_MS + STEP_MS * step],
                [float(step)],
            )
            for i in range(PROBES)
        ]
        if self.cluster.write(body, DATASET).status_code != 204:
            return False
        self.acknowledged += 1
        return True

    def read(self) -> bool:
        """All that was acknowledged of the probes when it was asked."""
        known = self.acknowledged
        query = f"count(count_over_time(probe[10d]) >= {known})"
        answer = self._session.get(
            f"{self.cluster.gateway(1)}/promql/{DATASET}/api/v1/query",
            params={"query": query, "time": str(self._end_s())},
            timeout=REQUEST_TIMEOUT_S,
        )
        return answer.status_code == 200 and (not known or _is_complete(answer.json()["data"]["result"]))

    def _end_s(self) -> float:
        return START_MS / 1000 + max(self.acknowledged, SAMPLES_PER_SERIES) + 1000

    # ---- the kills

    def kill_one(self, *, loses_disk: bool) -> tuple[str, int, float]:
        """The node that leads most. Returns it, how many it led, and when it was killed."""
        leaders = [shard["leader"] for shard in self.statuses()]
        node = max(sorted(set(leaders)), key=leaders.count)
        pid = self.cluster.pid(node)
        killed_s = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        if loses_disk:
            shutil.rmtree(self.cluster.data_dir / "copies" / node)
        return node, leaders.count(node), killed_s

    def check(self) -> None:
        """Everything that was acknowledged is there, once."""
        answer = self.cluster.query("min(count_over_time(probe[10d]))", self._end_s(), DATASET)
        least = float(answer[0]["value"][1])
        assert least >= self.acknowledged, f"{least} of {self.acknowledged} acknowledged samples of a series are there"
        filled = self.cluster.query("sum(count_over_time({__name__=~'filled_.*'}[10d]))", self._end_s(), DATASET)
        expected = SHARDS * self.samples // SAMPLES_PER_SERIES * SAMPLES_PER_SERIES
        assert float(filled[0]["value"][1]) == expected, f"{filled} of {expected} samples are there"


def _is_complete(result: list[dict[str, Any]]) -> bool:
    """Whether all series of the probe have what they must have."""
    return bool(result) and result[0]["value"][1] == str(PROBES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--lose-disk", action="store_true")
    parser.add_argument("--directory", type=Path)
    options = parser.parse_args()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="takeovers-"))
    with RunningCluster(directory) as cluster:
        run = Takeovers(cluster, options.replicas, options.samples)
        run.set_up()
        run.fill()
        clients = {"write": Client(run.write), "read": Client(run.read)}
        outages: dict[str, list[float]] = {name: [] for name in clients}
        with running(clients.values()):
            for _ in range(options.kills):
                time.sleep(0.5)
                node, led, killed_s = run.kill_one(loses_disk=options.lose_disk)
                wait_until(
                    lambda at_s=killed_s: all(it.outage_s(at_s) is not None for it in clients.values()), 60, "answers"
                )
                line: dict[str, object] = {"node": node, "led": led}
                for name, client in clients.items():
                    outage_s = client.outage_s(killed_s)
                    assert outage_s is not None
                    outages[name].append(outage_s)
                    line[f"{name}_ms"] = round(1000 * outage_s)
                run.wait_until_whole()
                line["whole_again_ms"] = round(1000 * (time.monotonic() - killed_s))
                print(json.dumps(line), flush=True)
        run.check()
    for name, found in outages.items():
        worst, median = max(found), statistics.median(found)
        print(
            f"{name}: median {1000 * median:.0f} ms, max {1000 * worst:.0f} ms, {clients[name].failed} attempts failed"
        )
    if options.directory is None:
        shutil.rmtree(directory)


if __name__ == "__main__":
    sys.exit(main())
