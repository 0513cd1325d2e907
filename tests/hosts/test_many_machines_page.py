"""``conf/many-machines/README.md``, followed word for word on hosts that have the addresses it names.

Its blocks say on which machines they are typed (``# on 10.99.0.1``); SQL is for the database's administrator. What it
leaves to the reader is to install filoray: the hosts see this checkout, with its ``.venv``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import requests
from hosts import Host, Hosts
from many_machines import NODE_PORT
from postgres_server import ServerPlace, running_postgres
from running_cluster import wait_until

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "conf/many-machines/README.md"
MACHINES = ("one", "two", "three")
LONG = os.environ.get("FILORAY_HOSTS_LONG")
TOKEN = {"Authorization": "Bearer change-me-as-well"}
_BLOCK = re.compile(r"```(sh|sql)\n(.*?)```", re.DOTALL)
_ON = re.compile(r"# on ([\d. ]+)\n")


def blocks(*, on_own_disks: bool = False) -> list[tuple[str, str]]:
    """Kind and text of each, in the page's order; what comes after Ray is of one of two kinds of clusters."""
    page = PAGE.read_text()
    before, common, after = page.partition("## 3. Ray")
    ray, launch, in_database = after.partition("## 4. filoray")
    in_database, own_disks, on_disks = in_database.partition("## Samples on the machines' own disks")
    assert all((common, launch, own_disks)), "the page has other headings"
    return _BLOCK.findall(before + ray + (on_disks if on_own_disks else in_database))


def typed(host: Host, text: str) -> None:
    done = host.run("bash", "-ec", f"cd {ROOT}\n{text}", timeout_s=240)
    assert done.returncode == 0, f"on {host.name}:\n{text}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    "on_own_disks",
    [False, pytest.param(True, marks=pytest.mark.skipif(not LONG, reason="takes minutes: FILORAY_HOSTS_LONG=1"))],
    ids=["in PostgreSQL", "on their own disks"],
)
def test_the_page_makes_a_cluster_of_three_machines_and_stops_it(tmp_path: Path, on_own_disks: bool) -> None:
    with Hosts(tmp_path, [*MACHINES, "database"]) as hosts:
        database = hosts["database"]
        place = ServerPlace(database.address, database.entering, database.disk, port=5432)
        with running_postgres(place) as server, database.network():
            *making, stopping = blocks(on_own_disks=on_own_disks)
            for kind, text in making:
                if kind == "sql":
                    for statement in text.strip().splitlines():
                        server.sql(statement)
                else:
                    follow(hosts, text)
            assert_serves(hosts)
            if on_own_disks:
                assert all(list(hosts[name].path("/tmp/filoray/copies").glob("*/timeseries/*.db")) for name in MACHINES)
            assert "filoray down" in stopping[1]
            follow(hosts, stopping[1])
            with pytest.raises(requests.ConnectionError):
                requests.get(f"http://{hosts['one'].address}:8080/__health", timeout=10)


def follow(hosts: Hosts, text: str) -> None:
    on = _ON.match(text)
    assert on is not None, f"it is not said where this is typed:\n{text}"
    by_address = {hosts[name].address: hosts[name] for name in hosts.names()}
    for address in on[1].split():
        typed(by_address[address], text)


def assert_serves(hosts: Hosts) -> None:
    """The data set that the page sets up, from every gateway, each on a machine of its own beside its node."""
    urls = [f"http://{hosts[name].address}:{8080 + index}" for index, name in enumerate(MACHINES)]
    for index, url in enumerate(urls):
        members = requests.get(f"{url}/__members", headers=TOKEN, timeout=10).json()["members"]
        address = url.split("//")[1].split(":")[0]
        assert f"akka://filo-server@{address}:{NODE_PORT + index}" in members
        assert requests.get(f"{url}/promql/timeseries/api/v1/labels", timeout=10).status_code == 401

        def is_active(url: str = url) -> bool:
            answer = requests.get(f"{url}/api/v1/cluster/timeseries/status", headers=TOKEN, timeout=10)
            return {entry["status"] for entry in answer.json()["data"]} == {"ShardStatusActive"}

        wait_until(is_active, 30, f"all shards are Active for {url}")
        answer = requests.get(
            f"{url}/promql/timeseries/api/v1/query", params={"query": "1 + 1"}, headers=TOKEN, timeout=10
        )
        assert answer.json()["data"]["result"][1] == "2"
