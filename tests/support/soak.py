"""Weeks of series churn through a gateway's decoder and a shard, in a process of its own: what stays in memory?

    python soak.py DIRECTORY HOURS

Each hour brings pods that never come back: new series, new label names, new metric names, series over the limits, and
queries with regular expressions that nobody asks twice. Prints one line of JSON per hour.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from shards import NOW_MS, matching, shard_spec

from filoray.cluster.process.process_memory import release_freed_memory
from filoray.http.remote.remote_write import RemoteWriteDecoder
from filoray.http.remote.remote_write_client import encode_write_request
from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.data.metric_metadata import MetricMetadata
from filoray.nodes.data.write_outcome import RefusalReason, UnknownSeries
from filoray.nodes.host import metric_metadata_file
from filoray.nodes.host.metric_metadata_file import MetricMetadataFile
from filoray.nodes.memstore.shard import Shard

HOUR_MS = 3_600_000
SAMPLES = 12
STABLE_SERIES, NEW_SERIES, REFUSED_SERIES, QUERIES, NAMESPACE_SERIES_MAX = 200, 1200, 1500, 40, 2000
STORE = {
    "flush_interval_ms": HOUR_MS,
    "disk_time_to_live_ms": 3 * HOUR_MS,
    "shard_mem_bytes": 2 << 20,
    "decoded_chunk_cache_bytes": 1 << 20,
    "max_namespace_series_per_shard": NAMESPACE_SERIES_MAX,
}


@dataclass(frozen=True)
class Limits:
    """A gateway's, small enough to be reached within two hours."""

    max_decoded_bytes: int = 64 << 20
    max_label_count: int = 32
    max_label_name_bytes: int = 200
    max_label_value_bytes: int = 200
    series_cache_count: int = 5000


class Soak:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._decoder = RemoteWriteDecoder(Limits())  # type: ignore[arg-type]
        self._shard = Shard.open(shard_spec(directory, **STORE))
        self._metadata = MetricMetadataFile(directory / "shard-3.metrics")

    def hour(self, number: int) -> dict[str, int]:
        start_ms = number * HOUR_MS
        names = [f"metric_{number}_{i}" for i in range(20)]
        times = [start_ms + HOUR_MS * i // SAMPLES for i in range(SAMPLES)]
        stable = [labels_of("up", "stable", instance=f"host-{i}") for i in range(STABLE_SERIES)]
        fresh = [
            labels_of(names[i % 20], f"churn-{number}", pod=f"pod-{number}-{i}", **{f"only_{number}": "x"})
            for i in range(NEW_SERIES)
        ]
        self.write(stable + fresh, times)
        # These keep their namespace full, so that whatever is new in it is refused.
        self.write([labels_of("m", "full", request=str(i)) for i in range(NAMESPACE_SERIES_MAX)], times[:1])
        refused = [labels_of("m", "full", request=f"{number}-{i:040}") for i in range(REFUSED_SERIES)]
        assert self.write(refused, times) == REFUSED_SERIES * SAMPLES
        self._metadata.put([MetricMetadata(name, "counter", f"help of {name} " * 10, "") for name in names])
        for i in range(QUERIES):
            pattern = f".*-{number}-({i}|{i + 1}).*"
            # Few go over the thousands of pods: what is compiled and kept is the same for the hundreds of instances.
            name = "pod" if i % 8 == 0 else "instance"
            for value in (pattern, f"{name}.*{i}.+|never-{number}-{i}"):
                self._shard.select([LabelMatcher(name, MatchOp.REGEX, value)], start_ms, start_ms + HOUR_MS)
        found = self._shard.select(matching(_ns_="stable"), start_ms, start_ms + HOUR_MS)
        assert len(found.values) == STABLE_SERIES * SAMPLES
        self._shard.label_values("pod", [], start_ms, start_ms + HOUR_MS)
        for quarter in (2, 4):
            while self._shard.upkeep(NOW_MS + start_ms + quarter * HOUR_MS // 4):
                pass
        return self.report()

    def write(self, label_sets: list[dict[str, str]], times: list[int]) -> int:
        """Samples refused."""
        body = encode_write_request([(labels, times, np.arange(len(times)) * 0.5) for labels in label_sets])
        decoded = self._decoder.decode("d", body, 1, 0)
        container = decoded.containers[0]
        (result,) = self._shard.append([container.encode()])
        if isinstance(result, UnknownSeries):
            (result,) = self._shard.append([decoded.with_keys(0, result.series).encode()])
        decoded.acknowledged()
        assert result.accepted + result.refused_count == len(label_sets) * len(times)
        return result.refused.get(RefusalReason.OVER_LIMIT, 0)

    def report(self) -> dict[str, int]:
        gc.collect()
        release_freed_memory()
        stats = self._shard.stats()
        labels = self._shard._memory.index.labels
        return {
            "resident_bytes": resident_bytes(),
            "accounted_bytes": stats.memory_bytes + stats.cache_bytes,
            "series": stats.series,
            "label_pairs": labels.pair_count,
            "label_names": len(labels.names),
            "chunks": stats.chunks,
            "gateway_series": self._decoder.cached_series_count(),
            "metrics_told_of": len(self._metadata.get("", 0)),
            "disk_bytes": sum(file.stat().st_size for file in self._directory.iterdir()),
        }


def labels_of(metric: str, namespace: str, **more: str) -> dict[str, str]:
    return {"__name__": metric, "_ws_": "w", "_ns_": namespace, **more}


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    metric_metadata_file.METRICS_MAX = 100
    soak = Soak(Path(sys.argv[1]))
    for number in range(int(sys.argv[2])):
        print(json.dumps(soak.hour(number)), flush=True)


if __name__ == "__main__":
    main()
