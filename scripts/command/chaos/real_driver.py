"""A scenario's cluster in real time: its words carried out by signals, HTTP and a disk that is really full.

Only processes of that cluster on this machine are ever touched (``cluster_access.py``); what was left hanging or full
is set right when the scenario is over.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
import urllib.parse
from typing import Any

import orjson

from filoray.cluster.actor_names import node_name, slot_index
from filoray.cluster.chaos.actions import (
    Deed,
    Delete,
    Drain,
    FillDisk,
    FreeDisk,
    Hang,
    Kill,
    LoseDisk,
    MoveShard,
    Part,
    Resume,
    RollingRestart,
    Scale,
    SetUp,
    StartQuerying,
    StartShard,
    StartWriting,
    StopQuerying,
    StopShard,
    StopWriting,
    Target,
    Undrain,
)
from filoray.cluster.chaos.clients import make_writers
from filoray.cluster.chaos.driver import NodeShards, Witness, lacking_text
from filoray.cluster.chaos.operations import Outcome
from filoray.cluster.config.dataset import LOG_STREAM_FACTORY
from filoray.cluster.config.dataset_file import COPIES_DIRECTORY
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.errors import FilorayError
from filoray.cluster.process.process_identity import ProcessIdentity
from filoray.command.chaos.cluster_access import ClusterAccess
from filoray.command.chaos.own_cluster import scale
from filoray.command.chaos.real_clients import RealClients
from filoray.command.chaos.small_disk import SmallDisk
from filoray.command.chaos.status_watch import StatusWatch, read_statuses, read_story

_DEATH_TIMEOUT_S = 10
_LOOK_S = 0.01
_ORDER_TIMEOUT_S = 60.0
_READ_EVERYTHING_S = 60.0
_READ_AGAIN_S = 0.2
_MEMBERS_S = 60.0


class RealScenarioDriver:
    """A ``ScenarioDriver``, and a context: once left, nothing of it goes on. ``disk``: the cluster's, if small."""

    poll_ms = 5

    def __init__(
        self, cluster: ClusterAccess, node_count: int, witness: Witness, disk: SmallDisk | None = None
    ) -> None:
        self._cluster = cluster
        self._disk = disk
        self._addresses = self._wait_for_members(node_count)
        self._began_s = time.monotonic()
        self._deed_ms = began_ms = round(time.time() * 1000)
        self._hung: dict[Target, ProcessIdentity] = {}
        self._datasets: list[str] = []
        self._drained: set[int] = set()
        self._clients = RealClients(cluster, witness, self.now_ms, began_ms)
        self._watch = StatusWatch(cluster, witness, self.now_ms, began_ms, self._name_of)

    def __enter__(self) -> RealScenarioDriver:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for target in list(self._hung):
            self._resume(target)
        if self._disk is not None:
            self._disk.free()
        self._clients.stop()
        self._watch.stop()

    def tidy_up(self) -> None:
        """A cluster that goes on afterwards: the scenario's data sets go, and nodes that it drained may have shards.

        A coordinator may just be on its way.
        """
        self._clients.stop()
        deadline_s = time.monotonic() + _ORDER_TIMEOUT_S
        for dataset in list(self._datasets):
            while problem := self._delete(dataset):
                if time.monotonic() >= deadline_s:
                    raise FilorayError(f"the scenario's data set {dataset} could not be deleted: {problem}")
                time.sleep(_READ_AGAIN_S)
        for node in sorted(self._drained):
            self.perform(Undrain(node))

    # ---- time

    def now_ms(self) -> int:
        return round((time.monotonic() - self._began_s) * 1000)

    def advance(self, duration_ms: int) -> None:
        time.sleep(duration_ms / 1000)

    # ---- what it does

    def perform(self, deed: Deed) -> str:
        self._deed_ms = round(time.time() * 1000)
        match deed:
            case Kill(target):
                return self._send(target, signal.SIGKILL)
            case Hang(target):
                return self._send(target, signal.SIGSTOP)
            case Resume(target):
                return self._resume(target)
            case LoseDisk(node):
                return self._lose_disk(node)
            case FillDisk() | FreeDisk():
                assert self._disk is not None, "refused before it began"
                self._disk.fill() if isinstance(deed, FillDisk) else self._disk.free()
            case StartWriting():
                self._clients.start_writing(make_writers(deed, len(self._clients.writers)))
            case StartQuerying():
                self._clients.start_reading(deed.readers)
            case StopWriting():
                self._clients.stop_writing()
            case StopQuerying():
                self._clients.stop_reading()
            case SetUp():
                return self._set_up(deed)
            case Delete(dataset):
                return self._delete(dataset)
            case StopShard(dataset, shard):
                return self._order(f"/api/v1/cluster/{dataset}/stopshards", {"shardList": [shard]})
            case StartShard(dataset, shard, node):
                where = {"address": self._addresses[node], "shardList": [shard]}
                return self._order(f"/api/v1/cluster/{dataset}/startshards", where)
            case MoveShard(dataset, shard, node):
                where = {"node": node_name(node), "shardList": [shard]}
                return self._order(f"/api/v1/cluster/{dataset}/moveshards", where)
            case Drain(node):
                self._drained.add(node)
                return self._order(f"/admin/nodes/{node_name(node)}/drain", {})
            case Undrain(node):
                self._drained.discard(node)
                return self._order(f"/admin/nodes/{node_name(node)}/undrain", {})
            case RollingRestart():
                return self._order("/admin/rolling-restart", {})
            case Scale(nodes):
                return scale(self._cluster.data_dir, nodes)
            case _:
                raise AssertionError(f"a word that a real cluster does not play: {deed}")
        return ""

    def _send(self, target: Target, number: signal.Signals) -> str:
        process = self._cluster.find(target)
        if process is None:
            return "there is no such process now"
        process.send(number)
        if number is signal.SIGSTOP:
            self._hung[target] = process
        return ""

    def _lose_disk(self, node: int) -> str:
        """What a process of that name finds that comes after: nothing. Of each shard another copy must be in sync."""
        if problem := self._sole_copy(node_name(node)):
            return problem
        process = self._cluster.find(Target(Part.NODE, node))
        if process is None:
            return "there is no such process now"
        process.send(signal.SIGKILL)
        deadline_s = time.monotonic() + _DEATH_TIMEOUT_S
        while process.is_running():
            if time.monotonic() >= deadline_s:
                return f"its process still runs {_DEATH_TIMEOUT_S} s after it was killed"
            time.sleep(_LOOK_S)
        shutil.rmtree(self._cluster.data_dir / COPIES_DIRECTORY / node_name(node), ignore_errors=True)
        return ""

    def _sole_copy(self, node: str) -> str:
        """A shard of which no other node is in sync, or ""."""
        for dataset in self._datasets:
            try:
                shards = self._shards(dataset)
            except FilorayError as error:
                return f"whether other copies are in sync is not known: {error.message}"
            for shard in shards:
                if shard["replicas"] > 1 and set(shard["inSync"]) <= {node}:
                    return f"no other copy of {dataset} shard {shard['shard']} is in sync"
        return ""

    def _resume(self, target: Target) -> str:
        process = self._hung.pop(target, None)
        if process is None or not process.is_running():
            return "the process that hung is no more"
        process.send(signal.SIGCONT)
        return ""

    def _set_up(self, deed: SetUp) -> str:
        body = {
            "dataset": deed.dataset,
            "num-shards": deed.num_shards,
            "min-num-nodes": deed.min_num_nodes,
            "num-replicas": deed.num_replicas,
            "sourcefactory": LOG_STREAM_FACTORY,
            "sourceconfig": {"store": {}},
        }
        problem = self._order(f"/api/v1/cluster/{deed.dataset}", body)
        if not problem:
            self._datasets.append(deed.dataset)
            self._watch.datasets.add(deed.dataset)
        return problem

    def _delete(self, dataset: str) -> str:
        self._clients.stop()
        self._clients.writers.clear()
        problem = self._order(f"/api/v1/cluster/{dataset}", None, method="DELETE")
        if not problem:
            self._watch.datasets.discard(dataset)
            self._datasets.remove(dataset)
        return problem

    def _order(self, path: str, body: object, method: str | None = None) -> str:
        data = None if body is None else orjson.dumps(body)
        try:
            answer = self._cluster.ask(path, data, timeout_s=_ORDER_TIMEOUT_S, method=method)
        except FilorayError as error:
            return error.message
        is_gone_already = method == "DELETE" and answer.status == 404
        return "" if answer.is_good or is_gone_already else answer.error_text

    # ---- what it sees

    def statuses(self) -> dict[str, list[StatusKind]]:
        with contextlib.suppress(FilorayError, KeyError):
            return {name: [kind for kind, _ in read_statuses(self._cluster, name)] for name in self._datasets}
        return {}

    def passed(self, dataset: str, shard: int) -> set[StatusKind]:
        with contextlib.suppress(FilorayError, KeyError):
            changes = read_story(self._cluster, dataset, shard)
            return {change.status for change in changes if change.at_ms >= self._deed_ms}
        return set()

    def members(self) -> frozenset[int]:
        with contextlib.suppress(FilorayError, KeyError):
            present = self._cluster.json("/__members")["members"]
            return frozenset(index for index, address in enumerate(self._addresses) if address in present)
        return frozenset()

    def nodes(self) -> list[NodeShards]:
        with contextlib.suppress(FilorayError, KeyError):
            return [
                NodeShards(
                    slot_index(node["node"]),
                    node["drained"],
                    dict.fromkeys(self._datasets, 0) | {name: len(shards) for name, shards in node["shards"].items()},
                )
                for node in self._cluster.json("/admin/nodes")["data"]
            ]
        return []

    def lacking_copies(self) -> list[str] | None:
        with contextlib.suppress(FilorayError, KeyError):
            return [
                lacking_text(name, shard["shard"], len(shard["inSync"]), shard["replicas"])
                for name in self._datasets
                for shard in self._shards(name)
                if len(shard["inSync"]) < shard["replicas"]
            ]
        return None

    def _shards(self, dataset: str) -> list[dict[str, Any]]:
        """With their copies. Raises FilorayError."""
        shards: list[dict[str, Any]] = self._cluster.json(f"/api/v1/cluster/{dataset}/status?verbose=true")["data"]
        return shards

    def is_restarting(self) -> bool:
        with contextlib.suppress(FilorayError, KeyError):
            return bool(self._cluster.json("/admin/rolling-restart")["data"]["left"])
        return True

    def read_everything(self) -> str:
        left = [(writer, read) for writer in self._clients.writers for read in writer.everything()]
        deadline_s = time.monotonic() + _READ_EVERYTHING_S
        gateway = 0
        while left:
            if time.monotonic() >= deadline_s:
                return f"{len(left)} of the reads that would show it got no answer in {_READ_EVERYTHING_S:.0f} s"
            failed = []
            for writer, read in left:
                gateway += 1
                if self._clients.ask("last reader", writer, read, gateway) is not Outcome.OK:
                    failed.append((writer, read))
            left = failed
            time.sleep(_READ_AGAIN_S if left else 0)
        return ""

    # ---- nodes

    def _wait_for_members(self, node_count: int) -> list[str]:
        """Addresses by the nodes' index: their ports follow each other."""
        deadline_s = time.monotonic() + _MEMBERS_S
        while len(members := self._cluster.json("/__members")["members"]) != node_count:
            if time.monotonic() >= deadline_s:
                raise FilorayError(f"a scenario begins when all {node_count} nodes are members; there are {members}")
            time.sleep(_READ_AGAIN_S)
        return sorted(members, key=_port)

    def _name_of(self, address: str) -> str:
        return f"node-{self._addresses.index(address)}" if address in self._addresses else address


def _port(address: str) -> int:
    return urllib.parse.urlsplit(address).port or 0
