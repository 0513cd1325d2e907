"""The tsdb tools beside a running cluster: import by remote write, snapshot while it is written to, restore."""

from __future__ import annotations

import threading
from pathlib import Path

from running_cluster import RunningCluster, filoray, wait_until

SERIES = 30
START_MS = 1_700_000_000_000
COUNT = 'sum(count_over_time({__name__="m"}[1h]))'
NOW_S = START_MS / 1000 + 1800


def write_step(cluster: RunningCluster, step: int) -> None:
    series = [({"__name__": "m", "i": str(i)}, [START_MS + step * 1000], [float(step)]) for i in range(SERIES)]
    assert cluster.write(series).ok


def test_a_snapshot_of_a_cluster_that_is_written_to_is_restored_into_another(tmp_path: Path) -> None:
    with RunningCluster(tmp_path / "first", nodes=2) as cluster:
        cluster.setup()
        stop = threading.Event()
        steps = 0

        def write_until_stopped() -> None:
            nonlocal steps
            while not stop.is_set():
                write_step(cluster, steps)
                steps += 1

        writer = threading.Thread(target=write_until_stopped)
        writer.start()
        wait_until(lambda: steps >= 20, 30, "20 steps are written")
        before = steps
        done = filoray("tsdb", "snapshot", str(tmp_path / "first"), str(tmp_path / "snapshot"))
        after = steps + 1
        wait_until(lambda: steps > after, 30, "writes go on")
        stop.set()
        writer.join(30)
        assert done.returncode == 0, done.stderr
        assert cluster.number(COUNT, NOW_S) == steps * SERIES

        lines = "".join(f'imported{{i="{i}"}} {i} {START_MS / 1000 + i}\n' for i in range(500))
        (tmp_path / "more.om").write_text(lines + "# EOF\n")
        imported = filoray("tsdb", "import", str(tmp_path / "more.om"), "--url", cluster.url)
        assert imported.returncode == 0, imported.stderr
        assert "500 samples are stored" in imported.stderr
        assert cluster.number("sum(sum_over_time(imported[1h]))", NOW_S) == sum(range(500))
        offline = filoray("tsdb", "import", str(tmp_path / "more.om"), "--into", str(tmp_path / "first"))
        assert offline.returncode == 1
        assert "in use" in offline.stderr

        verified = filoray("tsdb", "verify", str(tmp_path / "first"))
        assert verified.returncode == 0, verified.stdout
    restored = filoray("tsdb", "restore", str(tmp_path / "snapshot"), str(tmp_path / "second"))
    assert restored.returncode == 0, restored.stderr
    with RunningCluster(tmp_path / "second", nodes=2) as cluster:
        cluster.wait_active()
        samples = cluster.number(COUNT, NOW_S)
        assert before * SERIES <= samples <= after * SERIES
        write_step(cluster, 2000)
        assert cluster.number("count(m)", START_MS / 1000 + 2001) == SERIES
