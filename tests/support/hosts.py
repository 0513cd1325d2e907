"""Machines for tests, made of Linux namespaces: each has an address, processes, shared memory and a disk of its own.

A host is a process that holds five namespaces (network, mounts, processes, shared memory, name) and waits for the end
of a pipe. When whoever made it ends, however that was, the pipe closes, that process ends, and the kernel ends
everything in its namespaces with it: nothing can be left behind. The hosts' cables meet at a bridge in a network
namespace of its own, so that the machine's own network has no part in it and any number of tests may do so at once.

A cut is a neighbour entry with an address that nobody has: packets from one host to another vanish without a word, as
they do where a cable is pulled, in that direction only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

NETWORK = "10.99.0"
_BITS = 24
_NOBODY = "02:ff:ff:ff:ff:ff"
_CLONE_NEWNET = 0x40000000
_STARTED = b"started\n"
_PROGRAMS = ("ip", "tc", "unshare", "nsenter", "mount")
_HOLDER = f"""
import signal, socket, subprocess, sys
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
for command in sys.argv[2:]:
    subprocess.run(command.split(), check=True)
if sys.argv[1]:
    socket.sethostname(sys.argv[1])
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans are this process's: the kernel buries them
sys.stdout.buffer.write({_STARTED!r})
sys.stdout.buffer.flush()
sys.stdin.read()
"""


class Host:
    """One machine. Its ``/tmp`` is ``disk``, seen from outside; all else it has of files is the machine's own."""

    def __init__(self, name: str, number: int, disk: Path) -> None:
        self.name = name
        self.address = f"{NETWORK}.{number}"
        self.mac = f"02:00:00:00:00:{number:02x}"
        self.port = f"port{number}"
        self.disk = disk
        self._holder: _Holder | None = None

    @property
    def is_running(self) -> bool:
        return self._holder is not None

    @property
    def pid(self) -> int:
        """Of the process that holds its namespaces."""
        assert self._holder is not None, f"{self.name} does not run"
        return self._holder.pid

    def start(self) -> None:
        """Without a cable yet."""
        self.disk.mkdir(mode=0o1777, parents=True, exist_ok=True)
        self.disk.chmod(0o1777)
        flags = ("--net", "--mount", "--pid", "--ipc", "--uts", "--mount-proc")
        mounts = (f"mount --bind {self.disk} /tmp", "mount -t tmpfs shm /dev/shm", "ip link set lo up")
        self._holder = _Holder(flags, self.name, mounts)

    def end(self) -> None:
        """All its processes at once, as when the power goes."""
        if self._holder is not None:
            self._holder.end()
            self._holder = None

    def path(self, inside: str) -> Path:
        """Where a file below the host's ``/tmp`` is, seen from outside."""
        return self.disk / Path(inside).relative_to("/tmp")

    # ---- processes there

    @property
    def entering(self) -> list[str]:
        """What a command begins with that runs there."""
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", "--pid", "--ipc", "--uts", "--wd=/tmp", "--"]

    def run(
        self, *command: str, timeout_s: float = 120, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Returns when it has ended, however it did."""
        return subprocess.run(
            [*self.entering, *command], env=_environment(environment), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    def ip(self, *arguments: str) -> None:
        _run([f"--target={self.pid}", "--net"], "ip", *arguments)

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Sockets that this thread, and threads that it starts, make meanwhile are that host's."""
        with open("/proc/thread-self/ns/net", "rb") as before, open(f"/proc/{self.pid}/ns/net", "rb") as there:
            _set_network(there.fileno())
            try:
                yield
            finally:
                _set_network(before.fileno())


class Hosts:
    """Use as a context manager. ``names``: of the hosts, all joined by one switch."""

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        self._hosts = {name: Host(name, number, directory / name) for number, name in enumerate(names, 1)}
        self._switch: _Holder | None = None

    def __enter__(self) -> Hosts:
        try:
            self._switch = _Holder(("--net",), "", ("ip link add bridge type bridge", "ip link set bridge up"))
            for host in self._hosts.values():
                host.start()
                self._plug_in(host)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for host in self._hosts.values():
            host.end()
        if self._switch is not None:
            self._switch.end()

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def names(self) -> tuple[str, ...]:
        return tuple(self._hosts)

    # ---- what may happen to them

    def cut(self, source: str, target: str) -> None:
        """Nothing that ``source`` sends to ``target`` arrives any more; the other direction stays as it is."""
        other = self[target].address
        self[source].ip("neigh", "replace", other, "lladdr", _NOBODY, "nud", "permanent", "dev", "eth0")

    def isolate(self, name: str) -> None:
        """It can neither send to nor hear from any other."""
        for other in self._others(name):
            self.cut(name, other)
            self.cut(other, name)

    def heal(self) -> None:
        """Undo every cut."""
        running = [host for host in self._hosts.values() if host.is_running]
        for host in running:
            for other in running:
                if other is not host:
                    host.ip("neigh", "replace", other.address, "lladdr", other.mac, "nud", "reachable", "dev", "eth0")

    def slow(self, name: str, rate: str) -> None:
        """Its cable takes no more than ``rate`` (``tc``'s word: 1mbit) in each direction."""
        host = self[name]
        for target, device in ((host.pid, "eth0"), (self._switch_pid(), host.port)):
            shaping = ("root", "tbf", "rate", rate, "burst", "16kb", "latency", "400ms")
            _run([f"--target={target}", "--net"], "tc", "qdisc", "replace", "dev", device, *shaping)

    def quicken(self, name: str) -> None:
        """Undo ``slow``."""
        host = self[name]
        for target, device in ((host.pid, "eth0"), (self._switch_pid(), host.port)):
            _run([f"--target={target}", "--net"], "tc", "qdisc", "del", "dev", device, "root")

    def lose(self, name: str) -> None:
        """It ends at once, and its disk is gone."""
        host = self[name]
        host.end()
        shutil.rmtree(host.disk)

    def replace(self, name: str) -> None:
        """A new machine in the place of one that was lost: its name and address, an empty disk."""
        self[name].start()
        self._plug_in(self[name])

    # ---- cables

    def _others(self, name: str) -> list[str]:
        running = [other for other, host in self._hosts.items() if host.is_running]
        return [other for other in running if other != name]

    def _switch_pid(self) -> int:
        assert self._switch is not None
        return self._switch.pid

    def _plug_in(self, host: Host) -> None:
        switch = [f"--target={self._switch_pid()}", "--net"]
        peer = ("peer", "name", "eth0", "address", host.mac, "netns", str(host.pid))
        _run(switch, "ip", "link", "add", host.port, "type", "veth", *peer)
        _run(switch, "ip", "link", "set", host.port, "master", "bridge", "up")
        host.ip("address", "add", f"{host.address}/{_BITS}", "dev", "eth0")
        host.ip("link", "set", "eth0", "up")
        host.ip("route", "add", "default", "dev", "eth0")  # programs ask by which address they would go out


class _Holder:
    """A process in namespaces of its own, which live as long as it does."""

    def __init__(self, flags: Sequence[str], name: str, commands: Sequence[str]) -> None:
        program = [sys.executable, "-c", _HOLDER, name, *commands]
        self._process = subprocess.Popen(
            ["unshare", *flags, "--fork", "--kill-child", "--", *program],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_environment(None), cwd="/",
        )  # fmt: skip
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if said != _STARTED:
            said += self._process.communicate()[0]
            raise OSError(f"unshare {' '.join(flags)}: {said.decode(errors='replace').strip()}")
        parent = self._process.pid
        self.pid = int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])

    def end(self) -> None:
        """Returns when it, and all that ran in its process namespace if it has one, are gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def require_hosts(directory: Path) -> None:
    """Skip the test, with the reason, where hosts cannot be made. Tried, for no single permission tells."""
    if missing := [program for program in _PROGRAMS if shutil.which(program) is None]:
        pytest.skip(f"hosts are made by {', '.join(missing)}, which is not installed (apt-get install iproute2)")
    if Path(sys.prefix).resolve().is_relative_to("/tmp"):
        pytest.skip(f"each host has a /tmp of its own, and would not find {sys.prefix}: check out elsewhere")
    if os.geteuid() != 0:
        pytest.skip("hosts are made of namespaces, for which one must be root")
    try:
        with Hosts(directory / "probe", ["one", "two"]) as hosts:
            done = hosts["one"].run("ip", "-brief", "address", "show", "eth0")
            assert hosts["one"].address in done.stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"namespaces are not allowed here: {error}")


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    """This process's, without what belongs to its own network."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, **(more or {})}


def _run(enter: Sequence[str], *command: str) -> None:
    done = subprocess.run(["nsenter", *enter, "--", *command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def _set_network(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter the network of another host")
