"""Three hosts whose nodes have the shards on disks of their own, and copies of each shard on two hosts.

PostgreSQL has what the coordinator must not lose, and no sample. What takes long is played only where
FILORAY_HOSTS_LONG says so.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import requests
from many_machines import DATA_DIR, HTTP_PORT, ManyMachines, many_machines
from running_cluster import WRITE_HEADERS, wait_until
from steady_samples import SteadySamples

from filoray.cluster.addresses import NodeAddress
from filoray.http.remote.remote_write_client import encode_write_request

MACHINES = ("one", "two", "three")
NODES = 4
SHARDS = 8
pytestmark = pytest.mark.timeout(900)  # a busy machine takes minutes to begin
long = pytest.mark.skipif(not os.environ.get("FILORAY_HOSTS_LONG"), reason="takes minutes: FILORAY_HOSTS_LONG=1")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManyMachines]:
    with many_machines(tmp_path_factory.mktemp("hosts"), MACHINES, "seed.timeout = 300s", own_disks=NODES) as running:
        running.wait_spread(MACHINES, timeout_s=60)
        running.setup(num_shards=SHARDS, min_num_nodes=1, replicas=2)
        yield running


@pytest.fixture
def samples(cluster: ManyMachines) -> Iterator[SteadySamples]:
    with SteadySamples(cluster) as writing:
        yield writing


def shards(cluster: ManyMachines, beside: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Of each shard who leads, who follows and who is in sync, as a gateway that is not there knows."""
    gateway = cluster.any_gateway(beside=beside)
    answer = requests.get(f"{gateway}/api/v1/cluster/timeseries/status?verbose=true", timeout=10)
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def hosts_in_sync(shard: dict[str, Any]) -> list[str]:
    """Addresses of those that may lead it; "": of a node that is away."""
    followers = [follower["address"] for follower in shard["followers"] if follower["inSync"]]
    return [NodeAddress.parse(text).host if text else "" for text in (shard["address"], *followers)]


def are_whole_on(cluster: ManyMachines, names: Sequence[str], beside: Sequence[str] = ()) -> bool:
    """Whether every shard is Active with two copies in sync on two of those hosts."""
    wanted = {cluster.hosts[name].address for name in names}
    return all(
        shard["status"] == "ShardStatusActive"
        and len(found := hosts_in_sync(shard)) == len(set(found)) == 2
        and wanted.issuperset(found)
        for shard in shards(cluster, beside)
    )


def wait_whole(cluster: ManyMachines, names: Sequence[str], beside: Sequence[str] = (), timeout_s: float = 120) -> None:
    text = f"two copies of each shard are in sync, on two of {', '.join(names)}"
    wait_until(lambda: are_whole_on(cluster, names, beside), timeout_s, text)


def are_led_elsewhere(cluster: ManyMachines, without: str) -> bool:
    lost = cluster.hosts[without].address
    return all(
        shard["status"] == "ShardStatusActive" and lost not in shard["address"] for shard in shards(cluster, [without])
    )


def wait_answered(cluster: ManyMachines, samples: SteadySamples, without: str) -> None:
    """Until a gateway elsewhere answers with all samples, from leaders that are elsewhere."""

    def is_answered() -> bool:
        return are_led_elsewhere(cluster, without) and samples.are_all_there(cluster.any_gateway(beside=[without]))

    wait_until(is_answered, 90, f"all shards answer without {without}")


def copies_on_disk(cluster: ManyMachines, name: str) -> Counter[str]:
    """By node, how many shards' files are on that host."""
    found = cluster.hosts[name].path(f"{DATA_DIR}/copies").glob("*/timeseries/shard-*.db")
    return Counter(path.parent.parent.name for path in found)


def bystander(cluster: ManyMachines) -> str:
    """A host with neither Ray's head nor the coordinator that leads: what they need is in other tests."""
    return next(name for name in MACHINES[1:] if name != cluster.leading_host())


def test_a_host_lost_with_its_disk_loses_nothing_that_was_acknowledged(
    cluster: ManyMachines, samples: SteadySamples
) -> None:
    wait_whole(cluster, MACHINES)
    at_first = {name: copies_on_disk(cluster, name) for name in MACHINES}
    assert sum(count.total() for count in at_first.values()) == 2 * SHARDS
    samples.wait_for_more()

    lost = bystander(cluster)
    staying = [name for name in MACHINES if name != lost]
    cluster.hosts.lose(lost)
    begun_s = time.monotonic()
    wait_answered(cluster, samples, lost)
    print(f"without {lost}: full answers after {time.monotonic() - begun_s:.1f} s")
    samples.wait_for_more()
    wait_whole(cluster, staying, beside=[lost])  # copies were made anew; nodes of the lost host are nowhere else
    assert not any(set(copies_on_disk(cluster, name)) & set(at_first[lost]) for name in staying)

    cluster.hosts.replace(lost)
    cluster.hosts.heal()
    cluster.start_ray(lost)
    cluster.wait_spread(MACHINES, timeout_s=150)

    def is_even() -> bool:
        counts = [count for name in MACHINES for count in copies_on_disk(cluster, name).values()]
        return are_whole_on(cluster, MACHINES) and len(counts) == NODES and max(counts) - min(counts) <= 1

    wait_until(is_even, 150, "copies are spread evenly again, the new disk's among them")
    wait_until(lambda: samples.are_all_there(cluster.any_gateway()), 60, "every acknowledged sample is there")


@long
@pytest.mark.parametrize("ways", ["both", "it is heard and hears nothing", "it hears and is not heard"])
def test_a_host_of_leaders_that_is_cut_off_neither_acknowledges_nor_answers(
    cluster: ManyMachines, samples: SteadySamples, ways: str
) -> None:
    """Its own clients, on that host, ask the gateway there."""
    wait_whole(cluster, MACHINES)
    samples.wait_for_more()
    cut = bystander(cluster)
    others = [name for name in (*MACHINES, "database") if name != cut]
    led = [shard["shard"] for shard in shards(cluster) if cluster.hosts[cut].address in shard["address"]]
    assert led, f"{cut} leads some"
    for other in others:
        if ways != "it is heard and hears nothing":
            cluster.hosts.cut(cut, other)
        if ways != "it hears and is not heard":
            cluster.hosts.cut(other, cut)
    wait_answered(cluster, samples, cut)
    with cluster.hosts[cut].network():
        inside = f"http://{cluster.hosts[cut].address}:{gateway_port(cluster, cut)}/promql/timeseries/api/v1"
        body = encode_write_request(
            [({"__name__": "cut", "instance": str(n)}, [time.time_ns() // 1_000_000], [1.0]) for n in range(100)]
        )
        written = requests.post(f"{inside}/write", data=body, headers=WRITE_HEADERS, timeout=60)
        assert written.status_code == 503, written.text
        asked = requests.get(f"{inside}/query", params={"query": "count(cut)", "timeout": "5s"}, timeout=60)
        assert asked.status_code == 503, asked.text
    samples.wait_for_more()
    cluster.hosts.heal()
    wait_until(lambda: is_back(cluster, cut), 240, f"{cut} has its node again, and gateways are beside theirs")
    wait_whole(cluster, MACHINES, timeout_s=200)
    wait_until(lambda: samples.are_all_there(cluster.any_gateway()), 60, "every acknowledged sample is there")


def is_back(cluster: ManyMachines, name: str) -> bool:
    """Its Ray is started again where it ended itself: it does when it was away for longer than Ray's head bears."""
    if cluster.hosts[name].run("pgrep", "-f", "raylet/raylet").returncode != 0:
        cluster.start_ray(name)
    address = cluster.hosts[name].address
    where = cluster.addresses(cluster.any_gateway())
    return all(at and cluster.gateway(i) == f"http://{at}:{HTTP_PORT + i}" for i, at in enumerate(where)) and (
        address in where
    )


def gateway_port(cluster: ManyMachines, name: str) -> int:
    """Of one beside a node of that host."""
    address = cluster.hosts[name].address
    for index in range(cluster.nodes):
        url = f"http://{address}:{HTTP_PORT + index}/__health"
        try:
            if requests.get(url, timeout=2).status_code == 200:
                return HTTP_PORT + index
        except requests.RequestException:
            continue
    raise AssertionError(f"no gateway serves on {name}")
