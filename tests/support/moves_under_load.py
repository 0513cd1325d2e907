"""How long writers and readers wait while a shard moves to another node: a benchmark, run by hand.

    python tests/support/moves_under_load.py --moves 40 [--samples 500000] [--directory DIR] [--column-store-url URL]

Starts a cluster of three nodes, fills each of four shards with so many samples, then orders, again and again, a shard
to the next node, while one client writes and one asks for everything, each as fast as it is answered. Of each move: the
longest that a write, and a query, took that was under way between the order and its end. None may fail or be refused.
In the end everything acknowledged must be there. Prints one line of JSON per move, then median, p99 and maximum, and
the same of as many pauses of the same length between moves, for what the machine does by itself. For another version
of filoray: the Python of its environment, and this file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import requests
from running_cluster import RunningCluster, wait_until
from takeovers import DATASET, SHARDS, Client, Takeovers, running

PAUSE_S = 0.5
"""Before each move, and after it: what still waits then has waited for the move."""
ORDER_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Span:
    began_s: float
    ended_s: float

    def longest_ms(self, client: Client) -> float:
        """Of what was under way within it."""
        waits = [ended - began for began, ended in client.done if ended >= self.began_s and began <= self.ended_s]
        return 1000 * max(waits, default=0.0)


class Moves(Takeovers):
    """One copy of each shard, or where nodes keep them warm."""

    def is_whole(self) -> bool:
        return all(shard["status"] == "ShardStatusActive" for shard in self.statuses())

    def move(self, shard: int) -> Span:
        """To the node after its own."""
        addresses = sorted(self.cluster.get("/__members").json()["members"])
        present = self.statuses()[shard]["address"]
        target = addresses[(addresses.index(present) + 1) % len(addresses)]
        order = {"address": target, "shardList": [shard]}
        began_s = time.monotonic()
        answer = requests.post(
            f"{self.cluster.url}/api/v1/cluster/{DATASET}/moveshards", json=order, timeout=ORDER_TIMEOUT_S
        )
        assert answer.status_code == 200, answer.text
        span = Span(began_s, time.monotonic())
        assert self.statuses()[shard]["address"] == target
        return span


def report(what: str, spans: list[Span], clients: dict[str, Client]) -> None:
    for name, client in clients.items():
        found = [span.longest_ms(client) for span in spans]
        median, p99, worst = np.percentile(found, [50, 99, 100])
        print(f"{what}: longest {name}: median {median:.0f} ms, p99 {p99:.0f} ms, max {worst:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=40)
    parser.add_argument("--samples", type=int, default=500_000)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--column-store-url")
    options = parser.parse_args()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="moves-"))
    config = "filoray.balance.rebalance = false"
    if options.column_store_url:
        config += f'\nfiloray.column-store-url = "{options.column_store_url}"'
    with RunningCluster(directory, config=config) as cluster:
        run = Moves(cluster, 1, options.samples)
        run.set_up()
        run.fill()
        clients = {"write": Client(run.write), "query": Client(run.read)}
        moves: list[Span] = []
        pauses: list[Span] = []
        with running(clients.values()):
            for number in range(options.moves):
                time.sleep(PAUSE_S)
                moves.append(run.move(number % SHARDS))
                time.sleep(PAUSE_S)
                line = {f"{name}_ms": round(moves[-1].longest_ms(client)) for name, client in clients.items()}
                length_s = moves[-1].ended_s - moves[-1].began_s
                print(json.dumps({"shard": number % SHARDS, "took_ms": round(1000 * length_s), **line}), flush=True)
                pauses.append(Span(time.monotonic(), time.monotonic() + min(length_s, 2.0)))
                wait_until(lambda span=pauses[-1]: time.monotonic() > span.ended_s, 10, "a pause as long as the move")
        run.check()
    report("moves", moves, clients)
    report("pauses", pauses, clients)
    print("failed: " + ", ".join(f"{client.failed} of {name}" for name, client in clients.items()))
    if options.directory is None:
        shutil.rmtree(directory)


if __name__ == "__main__":
    sys.exit(main())
