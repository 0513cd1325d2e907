"""A data directory whose coordinator.db is gone: said in one line, and served when the launch is told to."""

from __future__ import annotations

from running_cluster import RunningCluster, filoray, wait_until

START_MS = 1_600_000_000_000
SERIES = [{"__name__": "kept", "instance": str(i)} for i in range(40)]


def test_a_lost_store_is_said_and_its_datasets_are_recovered_from_their_directories(tmp_path):
    cluster = RunningCluster(tmp_path / "data", nodes=2)
    with cluster:
        cluster.setup(min_num_nodes=1)
        assert cluster.write([(labels, [START_MS], [1.0]) for labels in SERIES]).status_code == 204
        killed = cluster.kill("node-0")  # its shards get epoch 2
        actors = "/admin/actors"
        wait_until(lambda: cluster.get(actors).json()["data"].get("node-0") not in (None, killed), 60, "it is back")
        cluster.wait_active()
        cluster.kill_everything()
        for path in cluster.data_dir.glob("coordinator.db*"):
            path.unlink()

        refused = filoray("up", "--nodes", "2", "--http-port", str(cluster.http_port), "--node-port",
                          str(cluster.node_port), "--data-dir", str(cluster.data_dir))  # fmt: skip
        assert refused.returncode != 0
        words = "holds shards of timeseries, but coordinator.db knows of none: it was lost"
        assert words in refused.stdout + refused.stderr

        recovering = RunningCluster(cluster.data_dir, nodes=2, config="filoray.recover-datasets = true")
        recovering.http_port, recovering.node_port = cluster.http_port, cluster.node_port
        recovering.start()
        cluster.wait_active()
        assert cluster.number("count(kept)", START_MS / 1000) == len(SERIES)
        assert cluster.write([(labels, [START_MS + 1000], [2.0]) for labels in SERIES]).status_code == 204
