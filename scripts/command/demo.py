"""Generated metrics of a small shop: what ``--demo`` and ``filoray write-demo`` feed a cluster with.

Values are functions of the series and the time alone, so that writing the same minutes again is a no-op. They are
sent as any agent would send them: remote write over HTTP.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from urllib.parse import quote

import numpy as np
import xxhash
from numpy.typing import NDArray
from rich.progress import Progress

from filoray.cluster.config.shipped_files import shipped_config_text
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.errors import FilorayError
from filoray.command.client_access import ClientAccess
from filoray.command.http_client import get_json, send
from filoray.http.remote.remote_write_client import WRITE_HEADERS, encode_write_request
from filoray.nodes.data.metric_metadata import MetricMetadata

INTERVAL_MS = 15_000
_WINDOW_SAMPLES = 120
_TIMEOUT_S = 60
_LOOK_S = 0.1
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SERVICES = ("cart", "checkout", "search", "users")
_PATHS = ("/", "/items", "/login")
_CODES = ("200", "404", "500")

_MEAN_S = 0.08
_COUNTED_SINCE_MS = 1_735_689_600_000  # the first of January 2025

METADATA = (
    MetricMetadata("http_requests_total", "counter", "Requests answered, by path and status code.", ""),
    MetricMetadata("http_request_duration_seconds", "histogram", "Time from a request to its answer.", "seconds"),
    MetricMetadata("process_resident_memory_bytes", "gauge", "Memory that the process has in use.", "bytes"),
    MetricMetadata("process_cpu_seconds_total", "counter", "Processor time that the process has used.", "seconds"),
    MetricMetadata("up", "gauge", "Whether the last scrape of the target succeeded.", ""),
)

Labels = dict[str, str]
DemoSeries = tuple[Labels, NDArray[np.int64], NDArray[np.float64]]


def write_demo(
    access: ClientAccess, dataset: str, instances: int, minutes: int, *, follow: bool, quiet: bool = False
) -> int:
    """Write ``minutes`` of history; with ``follow`` go on with each new scrape until the process is ended."""
    path = f"/promql/{quote(dataset, safe='')}/api/v1/write"
    now_ms = _aligned(time.time() * 1000)
    written_ms = _aligned(now_ms - minutes * 60_000)
    with Progress(disable=quiet) as progress:
        task = progress.add_task("writing samples", total=now_ms - written_ms)
        while written_ms < now_ms:
            end_ms = min(now_ms, written_ms + _WINDOW_SAMPLES * INTERVAL_MS)
            _post(access, path, encode_write_request(demo_series(instances, written_ms, end_ms), METADATA))
            progress.update(task, advance=end_ms - written_ms)
            written_ms = end_ms
    while follow:
        time.sleep(max(0.0, (written_ms + INTERVAL_MS) / 1000 - time.time()))
        end_ms = _aligned(time.time() * 1000)
        if end_ms > written_ms:
            try:
                _post(access, path, encode_write_request(demo_series(instances, written_ms, end_ms), METADATA))
                written_ms = end_ms
            except FilorayError as error:
                print(f"{error.message}; trying again with the next scrape", flush=True)
    return 0


def set_up(access: ClientAccess, dataset: str) -> None:
    """Set up the data set of ``conf/timeseries-dev-source.conf``, unless it is there. Raises FilorayError."""
    text = shipped_config_text("timeseries-dev-source.conf").encode()
    answer = send(access, f"/api/v1/cluster/{dataset}", text, timeout_s=_TIMEOUT_S)
    if not answer.is_good and answer.status != 409:  # it is set up already
        raise FilorayError(f"the demo data set could not be set up: {answer.error_text}")


def wait_until_served(gateways: Sequence[ClientAccess], dataset: str, timeout_s: float) -> None:
    """Return when each of them has every shard as Active. Raises FilorayError with what one of them says else."""
    deadline_s = time.monotonic() + timeout_s
    for access in gateways:
        while problem := _what_is_not_served(access, dataset):
            if time.monotonic() > deadline_s:
                raise FilorayError(f"the demo data set is not served by {access.url}: {problem}")
            time.sleep(_LOOK_S)


def _what_is_not_served(access: ClientAccess, dataset: str) -> str:
    try:
        shards = get_json(access, f"/api/v1/cluster/{dataset}/status")["data"]
    except FilorayError as error:
        return error.message
    return ", ".join(
        f"shard {one['shard']} is {one['status']}" for one in shards if one["status"] != StatusKind.ACTIVE.value
    )


def demo_series(instances: int, after_ms: int, until_ms: int) -> Iterator[DemoSeries]:
    """All series with their samples in ``(after_ms, until_ms]``, every 15 s."""
    times_ms = np.arange(after_ms + INTERVAL_MS, until_ms + 1, INTERVAL_MS, dtype=np.int64)
    for instance in range(instances):
        service = _SERVICES[instance % len(_SERVICES)]
        target = {"_ws_": "demo", "_ns_": "shop", "job": service, "instance": f"10.0.0.{instance + 1}:9100"}
        yield from _target_series(target, times_ms)


def _target_series(target: Labels, times_ms: NDArray[np.int64]) -> Iterator[DemoSeries]:
    load = _load(target, times_ms)
    # Requests are counted once, by path, code and how long they took: whatever is summed of them agrees, and no bucket
    # grows more slowly than a smaller one.
    by_time_taken = np.zeros((len(_BUCKETS_S) + 1, len(times_ms)))
    for path in _PATHS:
        for code in _CODES:
            labels = {**target, "__name__": "http_requests_total", "path": path, "code": code}
            per_second = {"200": 20.0, "404": 0.4, "500": 0.05}[code] * (0.5 + _unit(labels))
            requests = _integral(labels, times_ms, per_second)
            starts = np.array([_unit({**labels, "bucket": str(bucket)}) for bucket in range(len(_SHARES))])
            counts = np.floor(_SHARES[:, None] * requests + starts[:, None])
            by_time_taken += counts
            yield labels, times_ms, counts.sum(axis=0)
    duration = {**target, "__name__": "http_request_duration_seconds"}
    buckets = by_time_taken.cumsum(axis=0)
    for bound, values in zip((*map(repr, _BUCKETS_S), "+Inf"), buckets, strict=True):
        yield {**duration, "__name__": "http_request_duration_seconds_bucket", "le": bound}, times_ms, values
    yield {**duration, "__name__": "http_request_duration_seconds_count"}, times_ms, buckets[-1]
    sums_s = (_MEANS_S[:, None] * by_time_taken).sum(axis=0)
    yield {**duration, "__name__": "http_request_duration_seconds_sum"}, times_ms, np.round(sums_s, 3)
    memory = {**target, "__name__": "process_resident_memory_bytes"}
    yield memory, times_ms, np.round(60e6 + 40e6 * load) // 4096 * 4096
    cpu = {**target, "__name__": "process_cpu_seconds_total"}
    yield cpu, times_ms, np.round(_integral(cpu, times_ms, 0.3), 2)
    yield {**target, "__name__": "up"}, times_ms, np.ones(len(times_ms))


def _shares_and_means() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each bucket, the last without upper bound: the share of requests in it, and how many seconds they take.

    Times are distributed exponentially with the mean ``_MEAN_S``.
    """
    lower, upper = np.array((0.0, *_BUCKETS_S)), np.array((*_BUCKETS_S, np.inf))
    beyond_lower, beyond_upper = np.exp(-lower / _MEAN_S), np.exp(-upper / _MEAN_S)
    shares = beyond_lower - beyond_upper
    means_s = _MEAN_S + (lower * beyond_lower - np.nan_to_num(upper, posinf=0.0) * beyond_upper) / shares
    return shares, means_s


_SHARES, _MEANS_S = _shares_and_means()


def _load(labels: Labels, times_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Between 0 and 1: a slow wave with a phase of the target's own, and a quicker ripple."""
    seconds = times_ms / 1000
    phase = 2 * math.pi * _unit(labels)
    return 0.5 + 0.35 * np.sin(seconds / 1800 + phase) + 0.15 * np.sin(seconds / 97 + 3 * phase)


def _integral(labels: Labels, times_ms: NDArray[np.int64], per_second: float) -> NDArray[np.float64]:
    """A counter that grows by ``per_second`` on average, faster and slower by turns, never falling."""
    seconds = (times_ms - _COUNTED_SINCE_MS) / 1000
    phase = 2 * math.pi * _unit(labels)
    wave = 0.7 * 1800 * (math.cos(phase) - np.cos(seconds / 1800 + phase))
    return per_second * (seconds + wave)


def _unit(labels: Labels) -> float:
    """A number in [0, 1) that belongs to the labels."""
    return xxhash.xxh3_64_intdigest("\0".join(labels.values()).encode()) / 2**64


def _aligned(time_ms: float) -> int:
    return int(time_ms) // INTERVAL_MS * INTERVAL_MS


def _post(access: ClientAccess, path: str, body: bytes) -> None:
    answer = send(access, path, body, WRITE_HEADERS, timeout_s=_TIMEOUT_S)
    if not answer.is_good:
        raise FilorayError(f"{access.url} refused the samples ({answer.status}): {answer.error_text}")
