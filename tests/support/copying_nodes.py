"""Nodes with real files and sockets in one process, without Ray, and the part of a coordinator that copies need.

    cluster = CopyingCluster(tmp_path, ["a", "b"])
    cluster.start(config, {0: ("a", ["b"])})      # shard 0: a leads, b follows
    cluster["a"].write(0, data).wait()

Whoever leads proposes who is in sync; the coordinator takes it by its rule, at once or when a test says so.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
from shards import ALL_TIME, samples_of
from waiting import wait_until

from filoray.cluster.addresses import NodeAddress
from filoray.cluster.config.dataset import (
    KAFKA_STREAM_FACTORY,
    LOG_STREAM_FACTORY,
    DatasetConfig,
    parse_dataset_config,
)
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.copy_set import CopySet, InSyncProposed
from filoray.cluster.control.shard_status import IngestionError, IngestionStarted, ShardEvent
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.errors import ShardOpening, Unavailable
from filoray.cluster.node_protocol import Peer
from filoray.cluster.process.thread_watch import ThreadWatch
from filoray.nodes.host.append_jobs import PendingWrite
from filoray.nodes.host.replication.copy_check import CheckPace
from filoray.nodes.host.replication.replication_settings import ReplicationSettings
from filoray.nodes.host.request_handler import RequestHandler
from filoray.nodes.host.shard_host import ShardHost
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.wire.transport import TransportServer
from filoray.nodes.wire.write_reply import ShardWriteReply

HOST = "127.0.0.1"
DATASET = "d"


def copied_dataset(
    num_shards: int = 8, replicas: int = 2, least: int = 1, topic: Mapping[str, str] | None = None, **store: object
) -> DatasetConfig:
    """``topic``: a Kafka source's settings; None: it is written to."""
    body = {
        "dataset": DATASET, "num-shards": num_shards, "min-num-nodes": 1, "num-replicas": replicas,
        "min-in-sync-replicas": least, "sourcefactory": KAFKA_STREAM_FACTORY if topic else LOG_STREAM_FACTORY,
        "sourceconfig": {**(topic or {}), "store": store},
    }  # fmt: skip
    return parse_dataset_config(orjson.dumps(body).decode(), DATASET)


class Answer:
    def __init__(self) -> None:
        self._replies: list[ShardWriteReply] = []
        self._is_there = threading.Event()

    def take(self, replies: Sequence[ShardWriteReply]) -> None:
        self._replies.extend(replies)
        self._is_there.set()

    @property
    def is_there(self) -> bool:
        return self._is_there.is_set()

    def wait(self) -> ShardWriteReply:
        assert self._is_there.wait(60), "no answer"
        return self._replies[0]


Report = Callable[[str, int, int, ShardEvent | InSyncProposed], None]


class CopyingNode:
    """``incarnation``: grows when it is started anew over the same files."""

    def __init__(
        self,
        name: str,
        data_dir: Path,
        report: Report,
        incarnation: int = 1,
        check_pace: CheckPace | None = None,
        column_store_url: str | None = None,
        keys: KeyPair | None = None,
    ) -> None:
        self.name = name
        self.data_dir = data_dir
        self.incarnation = incarnation
        settings = ReplicationSettings(check_pace=check_pace, keys=keys)
        self.host = ShardHost(name, data_dir, report, column_store_url, replication=settings)
        self.handler = RequestHandler(self.host, default_server_config(), incarnation)
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = int(probe.getsockname()[1])
        self.server = TransportServer(HOST, self.port, self.handler.dispatch, keys.public if keys is not None else None)
        self.watch = ThreadWatch(30_000)
        for part in (self.server, self.host):
            part.watch_with(self.watch)

    @property
    def peer(self) -> Peer:
        address = NodeAddress(HOST, self.port)
        return Peer(self.name, self.incarnation, address, self.server.endpoint, self.server.public_key)

    def write(self, shard: int, data: bytes, epoch: int = 1) -> Answer:
        answer = Answer()
        self.host.submit(DATASET, [(shard, epoch)], [data], PendingWrite(answer.take, [None]))
        return answer

    def shard(self, number: int, epoch: int = 1) -> Shard:
        (shard,) = self.host.readable(DATASET, [(number, epoch)])
        return shard

    def shown(self, number: int, epoch: int = 1) -> Shard | None:
        """None while it is not known that others have what it has."""
        try:
            return self.shard(number, epoch)
        except ShardOpening:
            return None

    def samples(self, number: int, epoch: int = 1) -> dict[tuple[tuple[str, str], ...], list[tuple[int, bytes]]]:
        return samples_of(self.shard(number, epoch).select([], *ALL_TIME))

    def copy_path(self, config: DatasetConfig, shard: int) -> Path:
        return self.data_dir / "copies" / self.name / config.storage_name / f"shard-{shard}.db"

    def cut_off(self) -> None:
        """Nobody reaches it any more; it goes on by itself."""
        self.server.close()

    def close(self) -> None:
        self.server.close()
        self.handler.close()
        self.host.close()


@dataclass
class _Led:
    epoch: int
    leader: str
    copies: CopySet


class CopyingCluster:
    """``takes_proposals``: as soon as they come; else they wait for ``take_proposals``.

    ``keys``: all nodes are encrypted, as between machines.
    """

    def __init__(
        self,
        data_dir: Path,
        names: Sequence[str],
        check_pace: CheckPace | None = None,
        column_store_url: str | None = None,
        keys: KeyPair | None = None,
    ) -> None:
        self._keys = keys
        self._data_dir = data_dir
        self.column_store_url = column_store_url
        self._check_pace = check_pace
        self.nodes: dict[str, CopyingNode] = {}
        self.events: list[tuple[str, int, int, ShardEvent | InSyncProposed]] = []
        self.takes_proposals = True
        self.led: dict[int, _Led] = {}
        self.config = copied_dataset()
        self._proposals: queue.SimpleQueue[tuple[str, int, int, InSyncProposed] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        for name in names:
            self.boot(name)
        self._thread = threading.Thread(target=self._run, name="test coordinator", daemon=True)
        self._thread.start()

    def __getitem__(self, name: str) -> CopyingNode:
        return self.nodes[name]

    def boot(self, name: str) -> CopyingNode:
        """A new incarnation, over the same files."""
        former = self.nodes.get(name)

        def report(dataset: str, shard: int, epoch: int, event: ShardEvent | InSyncProposed) -> None:
            self.events.append((name, shard, epoch, event))
            if isinstance(event, InSyncProposed):
                self._proposals.put((name, shard, epoch, event))

        incarnation = 1 if former is None else former.incarnation + 1
        node = CopyingNode(
            name, self._data_dir, report, incarnation, self._check_pace, self.column_store_url, self._keys
        )
        self.nodes[name] = node
        return node

    def start(self, config: DatasetConfig, shards: Mapping[int, tuple[str, Sequence[str]]]) -> None:
        """New shards: (leader, followers) of each."""
        self.config = config
        for shard, (leader, followers) in shards.items():
            self.led[shard] = _Led(1, leader, CopySet(1, tuple(followers), (leader,)))
            self[leader].host.start_shards(config, [(shard, 1)])
            self._follow(shard)
        for shard in shards:
            self.wait_open(shard)
            self.tell(shard)
            self.wait_shown(shard)

    def _follow(self, shard: int) -> None:
        led = self.led[shard]
        for name in led.copies.followers:
            if name in self.nodes:
                self[name].host.follow_shards(self.config, [(shard, led.epoch, led.copies.version)])

    def tell(self, shard: int) -> None:
        led = self.led[shard]
        peers = [node.peer for node in self.nodes.values()]
        self[led.leader].host.tell_of_copies(DATASET, [(shard, led.epoch, led.copies)], peers)

    def promote(self, shard: int, name: str) -> None:
        """It leads at the next epoch; those that are there follow it."""
        with self._lock:
            led = self.led[shard]
            assert name in led.copies.in_sync, f"{name} is not in sync: {led}"
            others = [*led.copies.followers, led.leader]
            followers = tuple([other for other in others if other != name and other in self.nodes])
            copies = CopySet(led.copies.version + 1, followers, (name,))
            self.led[shard] = _Led(led.epoch + 1, name, copies)
        self[name].host.start_shards(self.config, [(shard, led.epoch + 1)], [shard])

    def have_follow(self, shard: int, *names: str) -> None:
        """Those and no others, from now on."""
        with self._lock:
            led = self.led[shard]
            dropped = [name for name in led.copies.followers if name not in names]
            in_sync = tuple([name for name in led.copies.in_sync if name not in dropped])
            led.copies = CopySet(led.copies.version + 1, names, in_sync)
        self.tell(shard)
        self._follow(shard)
        for name in dropped:
            if name in self.nodes:
                order = shard, led.epoch, led.copies.version
                self[name].host.drop_copies(DATASET, self.config.generation, [order])

    def hand_over(self, shard: int, name: str) -> None:
        """Of a shard whose store is shared: the leader stops it, then the other leads at the next epoch."""
        with self._lock:
            led = self.led[shard]
            former, epoch = led.leader, led.epoch
            self.led[shard] = _Led(epoch + 1, name, CopySet(led.copies.version + 1, (), (name,)))
        if former in self.nodes:
            self[former].host.stop_shards(DATASET, [(shard, epoch)])
        self[name].host.start_shards(self.config, [(shard, epoch + 1)], [shard])
        self.wait_open(shard)

    def after_promotion(self, shard: int) -> None:
        self._follow(shard)
        self.wait_open(shard)
        self.tell(shard)

    def forget(self, name: str) -> CopyingNode:
        """It is no member any more; it may still run."""
        node = self.nodes.pop(name)
        for shard, led in self.led.items():
            if led.leader in self.nodes and name in led.copies.followers:
                self.tell(shard)
        return node

    def wait_open(self, shard: int) -> None:
        led = self.led[shard]

        def is_open() -> bool:
            errors = [e for n, s, _, e in self.events if s == shard and n == led.leader and type(e) is IngestionError]
            assert not errors, errors
            wanted = (led.leader, shard, led.epoch, IngestionStarted())
            return wanted in self.events

        wait_until(is_open, lambda: f"shard {shard} leads on {led.leader}: {self.events}")

    def wait_shown(self, shard: int) -> None:
        led = self.led[shard]
        wait_until(lambda: self[led.leader].shown(shard, led.epoch), lambda: f"{shard} is shown: {self.figures(shard)}")

    def wait_in_sync(self, shard: int, *names: str) -> None:
        def is_so() -> bool:
            return set(self.led[shard].copies.in_sync) == set(names)

        wait_until(is_so, lambda: f"{names} are in sync: {self.led[shard]} {self.figures(shard)}")

    def figures(self, shard: int) -> object:
        leader = self[self.led[shard].leader]
        return [it.followers for it in leader.host.shards.figures() if it.shard == shard]

    def take_proposals(self) -> None:
        """Those that wait, and all that come."""
        self.takes_proposals = True
        for name, shard, epoch, event in list(self.events):
            if isinstance(event, InSyncProposed):
                self._proposals.put((name, shard, epoch, event))

    def _run(self) -> None:
        while (item := self._proposals.get()) is not None:
            name, shard, epoch, event = item
            with self._lock:
                led = self.led[shard]
                is_right = (name, epoch, event.base_version) == (led.leader, led.epoch, led.copies.version)
                if not self.takes_proposals or not is_right:
                    continue
                led.copies = replace(led.copies, version=led.copies.version + 1, in_sync=event.in_sync)
            try:
                self.tell(shard)
            except (Unavailable, KeyError):
                continue  # closed meanwhile, or gone

    def close(self) -> None:
        self._proposals.put(None)
        self._thread.join()
        for node in self.nodes.values():
            node.close()
