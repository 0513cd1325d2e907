"""Hosts that are cut off: the others answer in full again, whoever led, and no acknowledged sample is lost.

Ray's own settings are its defaults: it believes in a machine that is cut off for a minute longer. What takes long is
played only where FILORAY_HOSTS_LONG says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import requests
from many_machines import ManyMachines, many_machines
from running_cluster import wait_until
from steady_samples import SteadySamples

MACHINES = ("one", "two", "three")
long = pytest.mark.skipif(not os.environ.get("FILORAY_HOSTS_LONG"), reason="takes minutes: FILORAY_HOSTS_LONG=1")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManyMachines]:
    with many_machines(tmp_path_factory.mktemp("hosts"), MACHINES) as running:
        running.wait_spread(MACHINES, timeout_s=60)
        running.setup(num_shards=8, min_num_nodes=1)
        yield running


@pytest.fixture
def samples(cluster: ManyMachines) -> Iterator[SteadySamples]:
    with SteadySamples(cluster) as writing:
        yield writing


def wait_answered(cluster: ManyMachines, samples: SteadySamples, without: str) -> None:
    """Until a gateway elsewhere answers with all samples, from owners that are elsewhere."""
    lost = cluster.hosts[without].address

    def is_answered() -> bool:
        gateway = cluster.any_gateway(beside=[without])
        answer = requests.get(f"{gateway}/api/v1/cluster/timeseries/status", timeout=10).json()
        elsewhere = all(
            entry["status"] == "ShardStatusActive" and lost not in entry["address"] for entry in answer["data"]
        )
        return elsewhere and samples.are_all_there(gateway)

    wait_until(is_answered, 60, f"all shards answer without {without}")


def test_the_host_of_the_coordinator_that_leads_is_cut_off(cluster: ManyMachines, samples: SteadySamples) -> None:
    leader = cluster.lead_from("two", "three")
    samples.wait_for_more()
    cluster.hosts.isolate(leader)
    wait_answered(cluster, samples, leader)
    assert cluster.leading_host() != leader
    samples.wait_for_more()
    cluster.hosts.heal()
    cluster.wait_spread(MACHINES, timeout_s=150)
    cluster.wait_active()
    wait_until(lambda: samples.are_all_there(cluster.any_gateway()), 60, "every acknowledged sample is there")


@long
def test_another_host_is_cut_off(cluster: ManyMachines, samples: SteadySamples) -> None:
    leader = cluster.lead_from("one", "two")
    cluster.hosts.isolate("three")
    wait_answered(cluster, samples, "three")
    assert cluster.leading_host() == leader
    cluster.hosts.heal()
    cluster.wait_spread(MACHINES, timeout_s=150)


@long
@pytest.mark.parametrize("is_heard", [True, False], ids=["it is heard and hears nothing", "it hears and is not heard"])
def test_a_host_is_cut_off_in_one_direction(cluster: ManyMachines, samples: SteadySamples, is_heard: bool) -> None:
    cluster.lead_from("one", "two")
    for other in (*MACHINES[:2], "database"):
        cluster.hosts.cut(*((other, "three") if is_heard else ("three", other)))
    wait_answered(cluster, samples, "three")
    cluster.hosts.heal()
    cluster.wait_spread(MACHINES, timeout_s=150)
    wait_until(lambda: samples.are_all_there(cluster.any_gateway()), 60, "every acknowledged sample is there")


@long
def test_a_slow_cable_costs_no_sample_and_no_node(cluster: ManyMachines, samples: SteadySamples) -> None:
    before = cluster.addresses(cluster.any_gateway())
    cluster.hosts.slow("three", "2mbit")
    samples.wait_for_more(50)
    assert cluster.addresses(cluster.any_gateway()) == before
    cluster.hosts.quicken("three")
    wait_until(lambda: samples.are_all_there(cluster.any_gateway()), 60, "every acknowledged sample is there")
