"""The demo's metrics, held against what Prometheus demands of counters and histograms."""

import re

import numpy as np
import pytest

from filoray.command.demo import INTERVAL_MS, METADATA, demo_series
from filoray.http.remote.remote_write_client import METADATA_TYPES

END_MS = 1_790_000_000_000 // INTERVAL_MS * INTERVAL_MS
WEEKS = [END_MS, 1_767_225_600_000, END_MS + 7 * 86_400_000]  # in the middle of one, and where one ends


def written(end_ms, samples=480, instances=5):
    """Values by target, metric and the rest of the labels."""
    found = {}
    for labels, times_ms, values in demo_series(instances, end_ms - samples * INTERVAL_MS, end_ms):
        assert len(times_ms) == len(values) == samples
        rest = tuple(sorted((name, value) for name, value in labels.items() if name in ("le", "path", "code")))
        found[labels["instance"], labels["__name__"], rest] = values
    return found


@pytest.mark.parametrize("end_ms", WEEKS)
def test_counters_never_fall(end_ms):
    for (_, name, rest), values in written(end_ms).items():
        if re.search("_(total|bucket|count|sum)$", name):
            assert np.all(np.diff(values) >= 0), (name, rest)
            assert values[-1] > values[0] or rest == (("le", "2.5"),), (name, rest)


@pytest.mark.parametrize("end_ms", WEEKS)
def test_histograms_are_consistent(end_ms):
    found = written(end_ms)
    for instance in {instance for instance, _, _ in found}:
        of_target = {(name, rest): values for (target, name, rest), values in found.items() if target == instance}
        buckets = sorted(
            (float(rest[0][1]), values)
            for (name, rest), values in of_target.items()
            if name == "http_request_duration_seconds_bucket"
        )
        count = of_target["http_request_duration_seconds_count", ()]
        requests = sum(values for (name, _), values in of_target.items() if name == "http_requests_total")
        bounds = [bound for bound, _ in buckets]
        rows = np.array([values for _, values in buckets])
        assert bounds[-1] == np.inf
        assert np.array_equal(rows[-1], count)
        assert np.array_equal(requests, count)
        assert np.array_equal(rows, np.floor(rows))
        assert np.all(np.diff(rows, axis=0) >= 0)
        for scrapes in (1, 4, 20):  # over any window too, or histogram_quantile has to mend it
            grown = rows[:, scrapes:] - rows[:, :-scrapes]
            assert np.all(np.diff(grown, axis=0) >= 0)
        within = np.diff(rows, axis=0, prepend=0)
        least = (within * np.array([0, *bounds[:-1]])[:, None]).sum(axis=0)
        most = (within * np.array([*bounds[:-1], 100])[:, None]).sum(axis=0)
        sums = of_target["http_request_duration_seconds_sum", ()]
        assert np.all((least <= sums) & (sums <= most))
        assert 0.07 < (sums[-1] - sums[0]) / (count[-1] - count[0]) < 0.09


def test_the_same_minutes_are_the_same_samples():
    long, short = written(END_MS, samples=480), written(END_MS, samples=7)
    assert all(np.array_equal(long[series][-7:], values) for series, values in short.items())


def test_every_metric_has_its_metadata():
    names = {re.sub("_(bucket|count|sum)$", "", name) for _, name, _ in written(END_MS, samples=1, instances=1)}
    assert names == {entry.metric for entry in METADATA}
    for entry in METADATA:
        assert entry.type in METADATA_TYPES
        assert entry.help.endswith(".")
        assert not entry.unit or entry.unit in entry.metric
