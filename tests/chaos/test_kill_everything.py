"""SIGKILL to every process at once, Ray's own included, at random moments of one load, again and again.

In between, the files are copied at a random moment of the load: what they hold there must recover as well.

FILORAY_CHAOS_ROUNDS says how often; the load has 50,000 samples for each, so twenty rounds are a million. Where nothing
says so it is twice, and with ``durability = power`` once: what a process leaves behind is the same with both.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import requests
from running_cluster import RunningCluster

from filoray.command.tsdb.dump import opened_copies
from filoray.command.tsdb.shard_files import find_shard_files
from filoray.nodes.memstore.shard import Shard

GIVEN_ROUNDS = int(os.environ.get("FILORAY_CHAOS_ROUNDS", "0"))
ROUNDS = GIVEN_ROUNDS or 2
SERIES = [{"__name__": "load", "instance": f"i{i % 50}", "shelf": f"s{i // 50}"} for i in range(500)]
STEPS_PER_ROUND = 100
STEPS = STEPS_PER_ROUND * ROUNDS
START_MS = 1_600_000_000_000


class Writer(threading.Thread):
    """Sends one sample of every series with each request, from a step on, until all are sent or one fails."""

    def __init__(self, cluster: RunningCluster, first_step: int) -> None:
        super().__init__()
        self._cluster = cluster
        self._first_step = first_step
        self._advanced = threading.Condition()
        self.next_step = first_step
        """Steps below it were acknowledged."""
        self.failure = ""

    def run(self) -> None:
        for step in range(self._first_step, STEPS):
            try:
                answer = self._cluster.write([(labels, [START_MS + step * 1000], [float(step)]) for labels in SERIES])
                self.failure = "" if answer.status_code == 204 else f"{answer.status_code}: {answer.text}"
            except requests.RequestException as error:
                self.failure = str(error)
            with self._advanced:
                self.next_step = step + (not self.failure)
                self._advanced.notify()
            if self.failure:
                return

    def wait_for(self, step: int) -> None:
        """Until so many steps are acknowledged."""
        with self._advanced:
            assert self._advanced.wait_for(lambda: self.next_step >= step or self.failure, 60), "the load stands still"
        assert not self.failure, self.failure


def assert_each_is_answered_once(cluster: RunningCluster, acknowledged: int) -> None:
    end_s = START_MS / 1000 + STEPS + 10
    window = f"[{STEPS + 100}s]"
    counts = {str(s["metric"]): int(s["value"][1]) for s in cluster.query(f"count_over_time(load{window})", end_s)}
    sums = {str(s["metric"]): float(s["value"][1]) for s in cluster.query(f"sum_over_time(load{window})", end_s)}
    assert len(counts) == len(SERIES)
    for series, count in counts.items():
        # The request that the kill interrupted may be stored in part of the shards.
        assert acknowledged <= count <= acknowledged + 1
        assert sums[series] == count * (count - 1) / 2


def assert_copy_has_each_once(data_dir: Path, acknowledged: int) -> None:
    with opened_copies(find_shard_files(data_dir)) as shards:
        counts = [count for shard in shards for count in sample_counts(shard, acknowledged)]
        assert [shard.stats().damages for shard in shards] == [()] * len(shards)
    assert len(counts) == (len(SERIES) if acknowledged else len(counts))


def sample_counts(shard: Shard, acknowledged: int) -> list[int]:
    batch = shard.select((), START_MS, START_MS + STEPS * 1000)
    counts = np.diff(batch.offsets)
    assert not batch.warnings
    assert (counts >= acknowledged).all()
    for start, count in zip(batch.offsets.tolist(), counts.tolist(), strict=False):
        assert batch.values[start : start + count].tolist() == [float(step) for step in range(count)]
    return counts.tolist()


@pytest.mark.timeout(120 + 90 * ROUNDS)
@pytest.mark.parametrize(("durability", "rounds"), [("process", ROUNDS), ("power", GIVEN_ROUNDS or 1)])
def test_every_acknowledged_sample_is_answered_once(tmp_path, durability, rounds):
    dice = random.Random(7)
    kill_steps = sorted(dice.sample(range(1, STEPS), rounds))
    cluster, copy = RunningCluster(tmp_path / "data", nodes=2), tmp_path / "copy"
    cluster.start()
    try:
        cluster.setup(num_shards=8, min_num_nodes=2, durability=durability, **{"flush-interval": "1s"})
        acknowledged = 0
        for kill_step in kill_steps:
            writer = Writer(cluster, acknowledged)
            writer.start()
            writer.wait_for(dice.randint(acknowledged, max(acknowledged, kill_step)))
            time.sleep(dice.uniform(0, 0.02))  # anywhere inside a request
            with cluster.halted():
                copied_step = writer.next_step
                shutil.copytree(cluster.data_dir / "timeseries", copy / "timeseries")
            writer.wait_for(kill_step)
            time.sleep(dice.uniform(0, 0.02))
            cluster.kill_everything()
            writer.join()
            acknowledged = writer.next_step
            assert_copy_has_each_once(copy, copied_step)
            shutil.rmtree(copy)
            cluster.start()
            cluster.wait_active(timeout_s=60)
            assert_each_is_answered_once(cluster, acknowledged)
        writer = Writer(cluster, acknowledged)
        writer.start()
        writer.join()
        assert (writer.next_step, writer.failure) == (STEPS, "")
        assert_each_is_answered_once(cluster, STEPS)
    finally:
        cluster.stop()
