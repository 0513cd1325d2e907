"""A whole cluster on hosts of its own: Ray on some of them, PostgreSQL on another, filoray launched on the first.

Ray is started as its documentation says, with its own defaults for what it notices and when. Whoever asks is on the
host of the database, which is never cut off or lost: the test's own thread is in its network meanwhile.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from hosts import Host, Hosts
from postgres_server import PostgresServer, ServerPlace, running_postgres
from running_cluster import RunningCluster, wait_until

from filoray.cluster.addresses import NodeAddress

DATABASE = "database"
RAY_PORT = 6379
HTTP_PORT = 8080
NODE_PORT = 2552
DATA_DIR = "/tmp/filoray"
_CONFIG = "/tmp/filoray.conf"
_BINARIES = Path(sys.executable).parent
_RAY = ("--object-store-memory=80000000", "--num-cpus=2", "--disable-usage-stats")
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1", "RAY_AUTH_MODE": "disabled"}


class ManyMachines(RunningCluster):
    """A RunningCluster whose node and gateway i may be on any of ``machines``, the first of which is Ray's head.

    ``own_disks``: shards are files of the nodes' own, of so many nodes; 0: they are in PostgreSQL.
    """

    def __init__(
        self, hosts: Hosts, machines: Sequence[str], server: PostgresServer, settings: str = "", own_disks: int = 0
    ) -> None:
        url = server.new_database()
        self.server = server
        self._database = url.rpartition("/")[2]
        self.hosts = hosts
        self.machines = tuple(machines)
        self.nodes = own_disks or len(machines)
        shards = "node.spread-over-machines = true" if own_disks else f'column-store-url = "{url}"'
        self.head = hosts[machines[0]]
        self.data_dir = self.head.path(DATA_DIR)
        self._settings = f"""filoray {{
            meta-store-url = "{url}", data-dir = "{DATA_DIR}", node-count = {self.nodes}
            node {{ host = "0.0.0.0", port-base = {NODE_PORT} }}
            http {{ host = "0.0.0.0", port = {HTTP_PORT}, allow-open = true }}
            {shards}
            {settings}
        }}"""

    def start(self) -> None:
        """Ray first, where it does not run yet."""
        self.start_ray(self.head.name)
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.start_ray, self.machines[1:]))
        self.up()

    def up(self) -> None:
        self.head.path(_CONFIG).write_text(self._settings)
        self._must(self.head, "filoray", "up", "--address", self.ray_address, "--config", _CONFIG)

    def stop(self) -> None:
        self._must(self.head, "filoray", "down", "--data-dir", DATA_DIR)

    # ---- machines

    @property
    def ray_address(self) -> str:
        return f"{self.head.address}:{RAY_PORT}"

    def start_ray(self, name: str) -> None:
        """The head, or another that joins it."""
        host = self.hosts[name]
        joins = [f"--address={self.ray_address}"]
        heads = ["--head", f"--port={RAY_PORT}", "--include-dashboard=false"]
        role = heads if host is self.head else joins
        self._must(host, "ray", "start", *role, f"--node-ip-address={host.address}", *_RAY)

    def host_of(self, process: str) -> str:
        """The name of the host where the actor of that class runs."""
        for name in self.machines:
            if self.hosts[name].is_running and self.runs(name, process):
                return name
        raise AssertionError(f"{process} runs nowhere")

    def leading_host(self) -> str:
        """The name of the host whose coordinator leads, as the store says."""
        ((holder,),) = self.server.sql("SELECT holder FROM coordinator_leader", self._database)
        logs = {name: self.hosts[name].path(f"{DATA_DIR}/{holder}.log") for name in self.machines}
        # One that moved has left its log where it was.
        return max((name for name, log in logs.items() if log.exists()), key=lambda name: logs[name].stat().st_mtime)

    def lead_from(self, *names: str) -> str:
        """Have the coordinator of one of those hosts lead; returns its name."""
        while (leader := self.leading_host()) not in names:
            self.hosts[leader].run("pkill", "-9", "-f", "ray::CoordinatorActor")
            wait_until(lambda former=leader: self.leading_host() != former, 60, "the other coordinator leads")
        wait_until(lambda: self.addresses(self.any_gateway()).count("") == 0, 60, "all nodes are members")
        self.wait_active()
        return leader

    def runs(self, name: str, process: str) -> bool:
        return self.hosts[name].run("pgrep", "-f", f"ray::{process}").returncode == 0

    def _must(self, host: Host, program: str, *arguments: str) -> None:
        done = host.run(str(_BINARIES / program), *arguments, environment=_ENVIRONMENT, timeout_s=240)
        assert done.returncode == 0, f"{program} {' '.join(arguments)} on {host.name}:\n{done.stdout}\n{done.stderr}"

    # ---- where things are

    def addresses(self, gateway: str) -> list[str]:
        """Of the nodes, by their index, as that gateway knows the members."""
        answer = requests.get(f"{gateway}/__members", timeout=10)
        assert answer.status_code == 200, answer.text
        members = [NodeAddress.parse(text) for text in answer.json()["members"]]
        by_index = {member.port - NODE_PORT: member.host for member in members}
        return [by_index.get(index, "") for index in range(self.nodes)]

    def gateway(self, index: int) -> str:
        """Its URL, wherever it serves now; raises ConnectionError if it does nowhere."""
        for name in self.machines:
            url = f"http://{self.hosts[name].address}:{HTTP_PORT + index}"
            with contextlib.suppress(requests.RequestException):
                if self.hosts[name].is_running and requests.get(f"{url}/__health", timeout=2).status_code == 200:
                    return url
        raise requests.ConnectionError(f"gateway {index} serves nowhere")

    def any_gateway(self, *, beside: Sequence[str] = ()) -> str:
        """One on a host that is not among ``beside``."""
        avoided = {self.hosts[name].address for name in beside}
        for index in range(self.nodes):
            with contextlib.suppress(requests.ConnectionError):
                url = self.gateway(index)
                if url.split("//")[1].split(":")[0] not in avoided:
                    return url
        raise requests.ConnectionError("no gateway serves")

    def wait_spread(self, names: Sequence[str], timeout_s: float) -> None:
        """Until nodes are even on those hosts, and each gateway beside its node."""
        wanted = {self.hosts[name].address for name in names}

        def is_spread() -> bool:
            where = self.addresses(self.any_gateway())
            counts = [where.count(address) for address in wanted]
            is_even = set(where) <= wanted and sum(counts) == self.nodes and max(counts) - min(counts) <= 1
            return is_even and all(self.gateway(i) == f"http://{at}:{HTTP_PORT + i}" for i, at in enumerate(where))

        wait_until(is_spread, timeout_s, f"nodes and gateways are spread over {', '.join(names)}")


@contextlib.contextmanager
def many_machines(
    directory: Path, machines: Sequence[str], settings: str = "", own_disks: int = 0
) -> Iterator[ManyMachines]:
    """All of it, launched; the calling thread is on the database's host meanwhile. Everything ends at the end."""
    with Hosts(directory, [*machines, DATABASE]) as hosts:
        database = hosts[DATABASE]
        place = ServerPlace(database.address, database.entering, database.disk)
        with running_postgres(place) as server, database.network():
            cluster = ManyMachines(hosts, machines, server, settings, own_disks)
            cluster.start()
            yield cluster
