"""The coordinator's store in a simulated cluster: what the MetaStore keeps, in dictionaries; and one that misbehaves.

``tests/unit/test_coordinator_store.py`` holds the model to what the MetaStore does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from filoray.cluster.config.dataset import DatasetConfig
from filoray.cluster.control.shard_map import ShardEntry, ShardMap
from filoray.cluster.control.shard_status import OWNED, ShardStatus, StatusKind
from filoray.cluster.control.shard_table import RestoredState
from filoray.cluster.data_plane_keys import KeyPair
from filoray.cluster.errors import Unavailable
from filoray.cluster.node_protocol import NodeProcessId
from filoray.cluster.simulation.checkers import Checkers, FileKey
from filoray.cluster.simulation.simulated_disks import SimulatedDisks
from filoray.cluster.simulation.world import SimulatedWorld
from filoray.cluster.store.coordinator_store import CoordinatorStore
from filoray.cluster.store.meta_store import NodeRow

_KEYS = KeyPair(b"public", b"secret")


class ModelStore:
    """A ``CoordinatorStore`` of which nothing is lost while the simulation lasts."""

    def __init__(self) -> None:
        self._generation = 0
        self._nodes: dict[str, NodeRow] = {}
        self._datasets: dict[str, tuple[DatasetConfig, ShardMap | None, bool]] = {}
        self._generations: dict[str, int] = {}
        self._epochs: dict[tuple[str, int], int] = {}
        self._opened: dict[tuple[str, int], int] = {}
        self._drained: set[str] = set()
        self._machines: dict[str, str] = {}
        self._restart_left: tuple[NodeProcessId, ...] = ()
        self._node_count: int | None = None

    def next_generation(self) -> int:
        self._generation += 1
        return self._generation

    def gateway_keys(self) -> KeyPair:
        return _KEYS

    def nodes(self) -> dict[str, NodeRow]:
        return dict(self._nodes)

    def restored_state(self, members: dict[str, int]) -> RestoredState:
        maps, deleting = [], []
        for _, (config, shard_map, is_deleting) in sorted(self._datasets.items()):
            if is_deleting:
                deleting.append(config)
            else:
                shard_map = shard_map or ShardMap.initial(config.name, config.num_shards)
                entries = tuple(self._restored(config.name, entry, members) for entry in shard_map.shards)
                maps.append((config, ShardMap(config.name, 1, entries)))
        generations = dict.fromkeys((dataset for dataset, _ in self._epochs), 0) | self._generations
        return RestoredState(
            tuple(maps),
            tuple(deleting),
            dict(self._epochs),
            members,
            frozenset(self._drained),
            generations,
            dict(self._machines),
        )

    def _restored(self, name: str, entry: ShardEntry, members: dict[str, int]) -> ShardEntry:
        status, node = replace(entry.status, progress_pct=0), entry.node
        if status.kind in OWNED and node not in members:
            status, node = ShardStatus(StatusKind.DOWN), None
        last_epoch = max(entry.epoch, self._epochs.get((name, entry.shard), 0))
        return replace(entry, status=status, node=node, epoch=last_epoch)

    def opened_shards(self) -> dict[tuple[str, int], int]:
        return dict(self._opened)

    def put_opened(self, opened: Mapping[tuple[str, int], int]) -> None:
        self._opened |= opened

    def put_dataset(self, config: DatasetConfig, *, is_deleting: bool) -> None:
        self._datasets[config.name] = (config, None, is_deleting)
        self._generations[config.name] = config.generation

    def forget_dataset(self, name: str) -> None:
        self._datasets.pop(name, None)

    def put_shard_map(self, shard_map: ShardMap) -> None:
        former = None
        if (known := self._datasets.get(shard_map.dataset)) is not None:
            former = known[1] if known[1] is not None and len(known[1]) == len(shard_map) else None
            self._datasets[shard_map.dataset] = (known[0], shard_map, known[2])
        changed = shard_map.changed_since(former)
        self._epochs |= {(shard_map.dataset, entry.shard): entry.epoch for entry in changed if entry.epoch}

    def node_count(self) -> int | None:
        return self._node_count

    def put_node_count(self, count: int) -> None:
        self._node_count = count

    def restart_left(self) -> tuple[NodeProcessId, ...]:
        return self._restart_left

    def put_restart(self, left: tuple[NodeProcessId, ...]) -> None:
        self._restart_left = left

    def put_drained(self, node: str, *, is_drained: bool) -> None:
        (self._drained.add if is_drained else self._drained.discard)(node)

    def put_machine(self, node: str, address: str) -> None:
        self._machines[node] = address

    def put_incarnation(self, node: str, incarnation: int) -> None:
        self._nodes[node] = NodeRow(node, incarnation, None, None)

    def put_process(self, node: str, pid: int | None, pid_started_s: float | None) -> None:
        if (row := self._nodes.get(node)) is not None:
            self._nodes[node] = NodeRow(node, row.incarnation, pid, pid_started_s)


class FaultyStore:
    """``inner``, which fails and is slow as the world's rates say, and full while ``is_full``.

    ``files``: those that there are, by which it is seen whether what is to be forgotten is gone.
    """

    def __init__(
        self, inner: CoordinatorStore, world: SimulatedWorld, checkers: Checkers, files: SimulatedDisks
    ) -> None:
        self._inner = inner
        self._world = world
        self._checkers = checkers
        self._files = files
        self._durable: dict[str, tuple[int, ShardMap | None]] = {}
        """Of each dataset its generation, and the last map that was really written."""
        self.is_full = False
        self.generation = 0
        """The last that was given out."""
        self.lag_ms = 0
        """How long the last writes have kept whoever made them; that is who sets it back."""

    def _write(self, write: Callable[[], None]) -> None:
        rates = self._world.rates
        if self.is_full or rates.is_disk_full:
            raise Unavailable("the coordinator's store is full")
        if rates.disk_delay_ms:
            self.lag_ms += self._world.between(1, rates.disk_delay_ms)
        if self._world.happens(rates.slow_store):
            self.lag_ms += self._world.between(1, rates.slow_store_ms)
        if self._world.happens(rates.fail_store):
            if self._world.happens(0.5):
                write()
            raise Unavailable("the coordinator's store has failed")
        write()

    def next_generation(self) -> int:
        if self.is_full or self._world.rates.is_disk_full:
            raise Unavailable("the coordinator's store is full")
        self.generation = self._inner.next_generation()
        return self.generation

    def gateway_keys(self) -> KeyPair:
        return self._inner.gateway_keys()

    def nodes(self) -> dict[str, NodeRow]:
        return self._inner.nodes()

    def restored_state(self, members: dict[str, int]) -> RestoredState:
        return self._inner.restored_state(members)

    def opened_shards(self) -> dict[tuple[str, int], int]:
        return self._inner.opened_shards()

    def put_opened(self, opened: Mapping[tuple[str, int], int]) -> None:
        self._write(lambda: self._inner.put_opened(opened))

    def put_dataset(self, config: DatasetConfig, *, is_deleting: bool) -> None:
        said = self._checkers.served.deleted if is_deleting else self._checkers.served.set_up
        said(config.name, config.generation)
        if self._durable.get(config.name, (-1, None))[0] != config.generation:
            self._durable[config.name] = (config.generation, None)
        self._write(lambda: self._inner.put_dataset(config, is_deleting=is_deleting))

    def forget_dataset(self, name: str) -> None:
        # What nodes have on machines of their own, those that are away delete when they are back: looked at in the end.
        files = (file for file, stored in self._files.items() if not (stored.is_late or self._files.are_apart))
        self._checkers.gone.forgotten(name, self._checkers.served.last_deleted(name), files)
        self._write(lambda: self._inner.forget_dataset(name))

    def put_shard_map(self, shard_map: ShardMap) -> None:
        def write() -> None:
            self._inner.put_shard_map(shard_map)
            generation, former = self._durable.get(shard_map.dataset, (0, None))
            self._durable[shard_map.dataset] = (generation, shard_map)
            self._check_in_sync(shard_map, former, generation)

        self._write(write)

    def _check_in_sync(self, shard_map: ShardMap, former: ShardMap | None, generation: int) -> None:
        """Those that may lead from now on have all that was shown so far."""
        for entry in shard_map.changed_since(former) if former is not None else ():
            known = former[entry.shard].copies.in_sync if former is not None else ()
            file = (shard_map.dataset, entry.shard, generation)
            for node in entry.copies.in_sync:
                stored = self._files.get((*file, node))
                if node not in known and stored is not None and known:
                    self._checkers.leader_has_all.leads(file, stored.ids, (node, 0))

    def durable_in_sync(self, file: FileKey) -> tuple[str, ...]:
        """The nodes that may lead that shard, as it was written last; none of a dataset that is no more."""
        dataset, shard, generation = file
        known_generation, shard_map = self._durable.get(dataset, (-1, None))
        is_known = shard_map is not None and known_generation == generation
        return shard_map[shard].copies.in_sync if is_known and shard_map is not None else ()

    def node_count(self) -> int | None:
        return self._inner.node_count()

    def put_node_count(self, count: int) -> None:
        self._write(lambda: self._inner.put_node_count(count))

    def restart_left(self) -> tuple[NodeProcessId, ...]:
        return self._inner.restart_left()

    def put_restart(self, left: tuple[NodeProcessId, ...]) -> None:
        self._write(lambda: self._inner.put_restart(left))

    def put_drained(self, node: str, *, is_drained: bool) -> None:
        self._write(lambda: self._inner.put_drained(node, is_drained=is_drained))

    def put_machine(self, node: str, address: str) -> None:
        self._write(lambda: self._inner.put_machine(node, address))

    def put_incarnation(self, node: str, incarnation: int) -> None:
        self._write(lambda: self._inner.put_incarnation(node, incarnation))

    def put_process(self, node: str, pid: int | None, pid_started_s: float | None) -> None:
        self._write(lambda: self._inner.put_process(node, pid, pid_started_s))


class LifeStore:
    """``shared``, as one life of a coordinator has it: it cannot be reached while that is cut off, and takes nothing of

    a life whose generation is not the last any more, as the MetaStore.
    """

    def __init__(self, shared: FaultyStore) -> None:
        self._shared = shared
        self._generation = 0
        self.is_cut = False

    @property
    def lag_ms(self) -> int:
        return self._shared.lag_ms

    @lag_ms.setter
    def lag_ms(self, lag_ms: int) -> None:
        self._shared.lag_ms = lag_ms

    def _reach(self) -> FaultyStore:
        if self.is_cut:
            raise Unavailable("the coordinator's store cannot be reached")
        return self._shared

    def _write(self) -> FaultyStore:
        if self._reach().generation != self._generation:
            raise Unavailable(f"coordinator {self._shared.generation} has taken the place of this, {self._generation}")
        return self._shared

    def next_generation(self) -> int:
        self._generation = self._reach().next_generation()
        return self._generation

    def gateway_keys(self) -> KeyPair:
        return self._reach().gateway_keys()

    def nodes(self) -> dict[str, NodeRow]:
        return self._reach().nodes()

    def restored_state(self, members: dict[str, int]) -> RestoredState:
        return self._reach().restored_state(members)

    def opened_shards(self) -> dict[tuple[str, int], int]:
        return self._reach().opened_shards()

    def node_count(self) -> int | None:
        return self._reach().node_count()

    def put_node_count(self, count: int) -> None:
        self._write().put_node_count(count)

    def restart_left(self) -> tuple[NodeProcessId, ...]:
        return self._reach().restart_left()

    def put_restart(self, left: tuple[NodeProcessId, ...]) -> None:
        self._write().put_restart(left)

    def put_drained(self, node: str, *, is_drained: bool) -> None:
        self._write().put_drained(node, is_drained=is_drained)

    def put_opened(self, opened: Mapping[tuple[str, int], int]) -> None:
        self._write().put_opened(opened)

    def put_dataset(self, config: DatasetConfig, *, is_deleting: bool) -> None:
        self._write().put_dataset(config, is_deleting=is_deleting)

    def forget_dataset(self, name: str) -> None:
        self._write().forget_dataset(name)

    def put_shard_map(self, shard_map: ShardMap) -> None:
        self._write().put_shard_map(shard_map)

    def put_machine(self, node: str, address: str) -> None:
        self._write().put_machine(node, address)

    def put_incarnation(self, node: str, incarnation: int) -> None:
        self._write().put_incarnation(node, incarnation)

    def put_process(self, node: str, pid: int | None, pid_started_s: float | None) -> None:
        self._write().put_process(node, pid, pid_started_s)
