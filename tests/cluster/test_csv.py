"""A cluster whose data set is a CSV file."""

from __future__ import annotations

from pathlib import Path

import orjson
import requests
from running_cluster import RunningCluster, wait_until


def test_a_csv_file_is_loaded_into_all_shards_survives_a_kill_and_takes_no_writes(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    rows = [f"m{i % 9},{1_700_000_000_000 + i},{i},{i % 50}" for i in range(5000)]
    path.write_text("metric,timestamp,value,host\n" + "\n".join(rows) + "\nnot a sample\n")
    body = {
        "dataset": "csv", "num-shards": 4, "min-num-nodes": 2,
        "sourcefactory": "filodb.coordinator.sources.CsvStreamFactory",
        "sourceconfig": {"file": str(path), "header": True, "batch-size": 100, "store": {"flush-interval": "1s"}},
    }  # fmt: skip
    with RunningCluster(
        tmp_path / "data", 3, f"filoray.datasets.csv-directory = {orjson.dumps(str(tmp_path)).decode()}"
    ) as cluster:
        forbidden = {**body, "sourceconfig": {"file": "/etc/passwd"}}
        answer = requests.post(f"{cluster.url}/api/v1/cluster/csv", data=orjson.dumps(forbidden), timeout=30)
        assert (answer.status_code, answer.json()["errorType"]) == (400, "bad_data")
        assert "not below filoray.datasets.csv-directory" in answer.json()["error"]
        answer = requests.post(f"{cluster.url}/api/v1/cluster/csv", data=orjson.dumps(body), timeout=30)
        assert answer.status_code == 200, answer.text
        cluster.wait_active("csv")
        query = " + ".join(f"sum(count_over_time(m{i}[1h]))" for i in range(9))
        assert cluster.number(query, 1_700_000_100, "csv") == 5000, "Active means: all of the file is there"
        cluster.kill("node-0")
        wait_until(lambda: cluster.number(query, 1_700_000_100, "csv", gateway=1) == 5000, 60, "all is there again")
        refused = cluster.write([({"__name__": "m"}, [1_700_000_000_000], [1.0])], "csv")
        assert refused.status_code == 400
        assert "takes no remote writes" in refused.text
