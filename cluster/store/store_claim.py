"""Whether a coordinator may go by the store that it finds: said where it is not clear, never guessed.

Some things may be wrong with a store that opens well:

* Another coordinator uses it. Then this one ends (``MetaStore.hold``); and should the other only seem to be gone, it
  cannot write any more once this one has begun (``MetaStore`` compares the generation in each write).
* It is a copy (``cp -a`` of a data directory, running or not). By the processes it names, this coordinator would end
  the original's nodes; with shards in PostgreSQL, two clusters would take them from each other. A store therefore knows
  its file by path and inode. The same inode is the same file, wherever it was moved or mounted; the same path is a
  directory put back in its place; if both differ, it is a copy. Then its processes are somebody else's and
  forgotten; and if the original is still there, or where it is cannot be seen, an operator has to say that this copy
  shall begin a life of its own (``adopt-copy``). Which copies of a shard are in sync was copied with it.
* Each node's files are on a machine of its own, and the launch would have nodes elsewhere; or the other way round.
* It is new, and shards' files lie there already: the former one was lost. Beginning an empty cluster over them would
  hide their data, so an operator has to say that they are to be taken over (``recover-datasets``). Each directory says
  what it belongs to (``dataset_file.py``); how high the epochs were, the shards' stores say when they are opened.
  But of several copies of a shard, only the lost store knew who was in sync: any other may lack what was acknowledged,
  and as a leader would have all others lack it too. So those are never taken over by a launch, but by
  ``filoray tsdb adopt-copies``, which compares them all. It is asked for as well where a store that is not new knows
  nothing of a data set whose copies are there: it was emptied, or is another's.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from filoray.cluster.config.dataset_file import DATASET_FILE, DatasetDirectory, dataset_directories
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.control.shard_table import RestoredState, is_ours
from filoray.cluster.errors import FilorayError
from filoray.cluster.node_protocol import StoredCopies
from filoray.cluster.store.meta_store import SQLITE_FILE, MetaStore, StoreIdentity

logger = logging.getLogger(__name__)


class StoreNotOurs(FilorayError):
    """The store is a copy, or was lost: an operator has to say what is meant."""


class Relation(Enum):
    SAME = "the file that it was"
    MOVED = "that file at another place, or another in its place"
    COPY = "a copy of a file that is elsewhere"


@dataclass(frozen=True, slots=True)
class StorePlace:
    """Of the store's file."""

    path: Path
    inode: int


def relation(kept: StoreIdentity, here: StorePlace) -> Relation:
    """What the file ``here`` is to the file that the store was last opened as."""
    is_same_path, is_same_inode = kept.path == str(here.path), kept.inode == here.inode
    if is_same_path and is_same_inode:
        return Relation.SAME
    return Relation.MOVED if is_same_path or is_same_inode else Relation.COPY


def claim(store: MetaStore, config: ServerConfig) -> None:
    """Returns if this coordinator may go by ``store``. Raises StoreInUse (Unavailable) and StoreNotOurs."""
    if not config.has_standby:  # else who leads is settled already
        store.hold()
    if store.file is not None:
        _settle_identity(store, store.file, config)
    elif store.identity() is None:
        store.put_identity(StoreIdentity(secrets.token_hex(8), "", 0))
    if config.column_store_url is None:
        _settle_orphans(store, config)
    _settle_machines(store, config)


def _settle_machines(store: MetaStore, config: ServerConfig) -> None:
    """Nodes that have files on machines of their own find them nowhere else, and shards with one file are on one."""
    state = store.restored_state({})
    if config.keeps_nodes_at_home:
        configs = (*(config for config, _ in state.shard_maps), *state.deleting)
        if names := sorted(one.name for one in configs if not one.has_copies):
            raise StoreNotOurs(
                f"dataset {', '.join(names)}: each shard is one file, where this cluster was launched before; "
                "filoray.node.spread-over-machines is for data sets with num-replicas of 2 or more. Launch without it, "
                "and move the samples to another data set (filoray tsdb dump, import)"
            )
    elif homes := {node: address for node, address in state.machines.items() if address}:
        said = ", ".join(f"{node} on {address}" for node, address in sorted(homes.items()))
        raise StoreNotOurs(
            f"the nodes of this cluster have their copies of shards on machines of their own ({said}): launch it with "
            "filoray.node.spread-over-machines = true, as before"
        )


def _settle_identity(store: MetaStore, file: Path, config: ServerConfig) -> None:
    here = StorePlace(file.resolve(), file.stat().st_ino)
    kept = store.identity()
    if kept is None:
        kept = StoreIdentity(secrets.token_hex(8), "", 0)
    elif (found := relation(kept, here)) is Relation.SAME:
        return
    elif found is Relation.COPY:
        original = Path(kept.path)
        is_elsewhere = config.column_store_url is not None or config.keeps_nodes_at_home
        if not config.adopt_copy and (original.exists() or is_elsewhere):
            raise StoreNotOurs(_copy_text(here.path, original, config))
        logger.warning("the store was copied; its processes are forgotten path=%s original=%s", here.path, original)
        store.forget_processes()
        kept = StoreIdentity(secrets.token_hex(8), "", 0)
    store.put_identity(StoreIdentity(kept.cluster_id, str(here.path), here.inode))


def _copy_text(here: Path, original: Path, config: ServerConfig) -> str:
    there = "which is still there" if original.exists() else "which cannot be seen from here"
    shared = (
        "; both would use the same column store and take the shards from each other: give this one a column-store-url "
        "of its own first"
        if config.column_store_url is not None
        else ""
    )
    return (
        f"{here} is a copy of {original}, {there}{shared}. Either go on with the original "
        f"(--data-dir {original.parent}), or let this copy begin a life of its own: set filoray.adopt-copy = true "
        "for one launch (filoray up --set adopt-copy=true)"
    )


def _settle_orphans(store: MetaStore, config: ServerConfig) -> None:
    orphans = unknown_directories(store, config.data_dir)
    place = SQLITE_FILE if config.meta_store_url is None else "the store at meta-store-url"
    names = ", ".join(dict.fromkeys(directory.dataset for directory in orphans))
    if nodes := sorted({directory.node for directory in orphans if directory.node}):
        url = "" if config.meta_store_url is None else " --meta-store-url URL"
        raise StoreNotOurs(
            f"{config.data_dir} holds copies of shards of {names} ({', '.join(nodes)}), but {place} does not know "
            "them, nor which of them have all that was acknowledged: it was lost, or another data directory was meant. "
            "Either bring it back (from a snapshot: filoray tsdb restore), or put the copies of all nodes there and "
            f"have the newest of each shard taken: filoray tsdb adopt-copies {config.data_dir}{url}"
        )
    if not orphans or not store.is_new:
        return
    if not config.recover_datasets:
        raise StoreNotOurs(
            f"{config.data_dir} holds shards of {names}, but {place} knows of none: it was lost, or "
            f"another data directory was meant. Either bring it back (from a snapshot: filoray tsdb restore), or have "
            f"the datasets taken from their directories: set filoray.recover-datasets = true for one launch "
            "(filoray up --set recover-datasets=true)"
        )
    recover_datasets(store, orphans)


def unknown_directories(store: MetaStore, data_dir: Path) -> list[DatasetDirectory]:
    """Those that the store cannot tell anything of. In a store that is in use, only copies that say what they are.

    (Somebody may have put a directory aside there; a data set is in the store before it is on disk.)
    """
    found = dataset_directories(data_dir)
    if store.is_new:
        return found
    state = store.restored_state({})
    return [directory for directory in found if directory.node and _is_unknown(directory, state)]


def _is_unknown(directory: DatasetDirectory, state: RestoredState) -> bool:
    described = directory.described()
    if described is None:
        return False
    name, generation = directory.dataset, directory.generation
    configs = (*(config for config, _ in state.shard_maps), *state.deleting)
    present = next((one for one in configs if (one.name, one.generation) == (name, generation)), None)
    stored = StoredCopies(name, generation, (), described.cluster_id)
    return not is_ours(stored, present, state.generations.get(name, -1), state.cluster_id)


def recover_datasets(store: MetaStore, directories: Iterable[DatasetDirectory]) -> None:
    """Have the store know the data sets, each with one copy of its shards, that are in those directories."""
    for directory in directories:
        name, generation = directory.dataset, directory.generation
        described = directory.described()
        if described is not None:
            logger.warning("dataset recovered dataset=%s directory=%s", name, directory.path)
            store.put_dataset(described, is_deleting=False)
        else:
            # Whoever sets it up next gets this generation, and so these files.
            store.put_generation(name, generation - 1)
            logger.error(
                "dataset not recovered, for there is no %s: set it up again as it was, and its %d shards' files are "
                "its own dataset=%s directory=%s",
                DATASET_FILE,
                len(list(directory.path.glob("shard-*.db"))),
                name,
                directory.path,
            )
