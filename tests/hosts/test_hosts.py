"""The tests' own machines: what is cut is cut, in the direction that was meant, and nothing of them stays behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import Host, Hosts
from waiting import wait_until

PORT = 4000


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with Hosts(tmp_path, ["one", "two", "three"]) as made:
        yield made


def listener(host: Host) -> socket.socket:
    """Takes single messages (UDP: it needs no way back)."""
    with host.network():
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((host.address, PORT))
    made.settimeout(0.2)
    return made


def arrives(hosts: Hosts, source: str, target: str) -> bool:
    with listener(hosts[target]) as taking, hosts[source].network():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            sending.sendto(b"hello", (hosts[target].address, PORT))
        try:
            return taking.recv(16) == b"hello"
        except TimeoutError:
            return False


def ways(hosts: Hosts) -> set[tuple[str, str]]:
    names = [name for name in hosts.names() if hosts[name].is_running]
    return {(a, b) for a in names for b in names if a != b and arrives(hosts, a, b)}


ALL = {("one", "two"), ("one", "three"), ("two", "one"), ("two", "three"), ("three", "one"), ("three", "two")}


def test_cuts_go_one_way_and_are_healed(hosts: Hosts) -> None:
    assert ways(hosts) == ALL
    hosts.cut("one", "two")
    assert ways(hosts) == ALL - {("one", "two")}
    hosts.isolate("three")
    assert ways(hosts) == {("two", "one")}
    hosts.heal()
    assert ways(hosts) == ALL


def test_a_slow_cable_takes_its_rate(hosts: Hosts) -> None:
    """10 kB are more than a burst and a queue at that rate would let through at once; all of it comes in the end."""
    hosts.slow("two", "256kbit")
    with hosts["two"].network():
        server = socket.create_server((hosts["two"].address, PORT))
    with hosts["one"].network():
        client = socket.create_connection((hosts["two"].address, PORT))
    taken, _ = server.accept()
    amount = 100_000
    sender = threading.Thread(target=client.sendall, args=(bytes(amount),))
    with server, client, taken:
        begun_s = time.monotonic()
        sender.start()
        received = 0
        while received < amount:
            received += len(taken.recv(65_536))
        took_s = time.monotonic() - begun_s
        sender.join()
    assert took_s > (amount - 16 * 1024) * 8 / 256_000 * 0.8  # never faster than its rate, however slow the machine


def test_hosts_see_neither_each_others_processes_nor_files(hosts: Hosts) -> None:
    one, two = hosts["one"], hosts["two"]
    assert one.run("sh", "-c", "echo kept > /tmp/file; hostname").stdout == "one\n"
    assert one.path("/tmp/file").read_text() == "kept\n"
    assert two.run("ls", "/tmp", "/dev/shm").stdout.split() == ["/dev/shm:", "/tmp:"]
    sleeper = subprocess.Popen([*one.entering, "sleep", "1000"])
    wait_until(lambda: "sleep" in one.run("ps", "-A", "-o", "comm=").stdout, "it runs")
    assert "sleep" not in two.run("ps", "-A", "-o", "comm=").stdout
    one.end()
    sleeper.wait(timeout=10)


def test_a_lost_host_is_gone_with_its_disk_and_another_takes_its_place(hosts: Hosts) -> None:
    hosts["two"].path("/tmp/file").write_text("lost")
    hosts.lose("two")
    assert ways(hosts) == {("one", "three"), ("three", "one")}
    hosts.replace("two")
    hosts.heal()
    assert ways(hosts) == ALL
    assert hosts["two"].run("ls", "/tmp").stdout == ""


def test_nothing_is_left_when_whoever_made_them_is_killed(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from hosts import Hosts
        with Hosts(Path({str(tmp_path)!r}), ["one", "two"]) as hosts:
            print(hosts["one"].pid, hosts["two"].pid, flush=True)
            hosts["one"].run("sleep", "1000", timeout_s=1000)
    """)
    support = Path(__file__).parents[1] / "support"
    maker = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(support)},
    )
    assert maker.stdout is not None
    pids = [int(pid) for pid in maker.stdout.readline().split()]
    assert len(pids) == 2
    namespaces = [os.readlink(f"/proc/{pid}/ns/net") for pid in pids]
    maker.kill()
    maker.communicate()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "the hosts ended")
    wait_until(lambda: not namespaces_in_use() & set(namespaces), "nothing runs in their networks")


def namespaces_in_use() -> set[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.add(os.readlink(entry / "ns/net"))
            except OSError:
                continue
    return found
