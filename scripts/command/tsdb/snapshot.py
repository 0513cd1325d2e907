"""Snapshots of a data directory while its cluster runs, and restoring from one.

    SNAPSHOT/manifest.json            what is in it, with sizes and checksums; written last: without it, it is none
    SNAPSHOT/coordinator.db           datasets and epochs, without the processes of then
    SNAPSHOT/<dataset>/shard-N.db     (or <dataset>@<generation>) each shard at one moment of its own, log included
    SNAPSHOT/<dataset>/shard-N.metrics
    SNAPSHOT/copies/<node>/<dataset>/shard-N.db     of a shard with several copies, the newest

The manifest names each shard's offset: all up to it is in the file, and a shard that reads a stream resumes behind its
oldest checkpoint. Shards are copied one after the other: a snapshot is consistent for each series, not across all. The
coordinator's file is copied last, so no shard's epoch is ahead of the epochs that a restored coordinator gives out.
What is restored has as long to live as it had when it was copied: the time in between does not count.

Of several copies of a shard one is enough: the newest has all that was acknowledged when the snapshot began, if any
that is in sync can be read. Copies that were taken at several moments would differ, and nobody could tell of a restored
follower whether it may lead. So the coordinator's file of the snapshot says that this one leads and is in sync; where
the data directory is restored, its node has the others make their copies anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import xxhash

from filoray.cluster.config.dataset_file import COPIES_DIRECTORY
from filoray.cluster.control.assignment import node_order
from filoray.cluster.errors import BadData, NotFound, Unavailable
from filoray.cluster.process.clocks import wall_ms
from filoray.cluster.store.leading_copies import LeadingCopy, put_leading_copies
from filoray.cluster.store.meta_store import SQLITE_FILE, MetaStore
from filoray.command.tsdb.database_copy import copy_database
from filoray.command.tsdb.shard_copies import newest_copies
from filoray.command.tsdb.shard_files import ShardFile, find_shard_files
from filoray.command.tsdb.stored_shard import StoredShard

MANIFEST_FILE = "manifest.json"
FORMAT = 1
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """``path`` is relative to the snapshot. Shard, epoch, offset and resume offset are None for other files.

    ``offset``: of the last log row or stream record in the file. ``resume_offset``: the first that a stream must
    give again.
    """

    path: str
    size_bytes: int
    xxh3_128: str
    dataset: str | None = None
    shard: int | None = None
    epoch: int | None = None
    offset: int | None = None
    resume_offset: int | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    created_ms: int
    files: tuple[SnapshotFile, ...]

    @property
    def nodes(self) -> list[str]:
        """Whose copies are in it."""
        paths = [PurePosixPath(file.path).parts for file in self.files]
        return sorted({parts[1] for parts in paths if parts[0] == COPIES_DIRECTORY and len(parts) > 2}, key=node_order)

    def to_json(self) -> str:
        return json.dumps(
            {
                "format": FORMAT,
                "created_ms": self.created_ms,
                "files": [dataclasses.asdict(file) for file in self.files],
            },
            indent=2,
        )

    @classmethod
    def load(cls, snapshot: Path) -> Manifest:
        """Raises NotFound, or BadData for a manifest that this filoray does not read."""
        path = snapshot / MANIFEST_FILE
        try:
            values = json.loads(path.read_text("utf-8"))
            if values["format"] != FORMAT:
                raise BadData(f"{path}: format {values['format']}; this filoray reads format {FORMAT}")
            return cls(values["created_ms"], tuple(SnapshotFile(**file) for file in values["files"]))
        except FileNotFoundError:
            raise NotFound(f"{snapshot} is no snapshot: it has no {MANIFEST_FILE}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadData(f"{path}: {type(error).__name__}: {error}") from error


def create_snapshot(data_dir: Path, target: Path, on_file: Callable[[str], None] = lambda path: None) -> Manifest:
    """Copy all that ``data_dir`` holds into ``target``, which must not be there or be empty; each shard once.

    Raises Unavailable where no copy of a shard that is in sync can be read.
    """
    chosen = newest_copies(data_dir, find_shard_files(data_dir))
    if doubts := [doubt for one in chosen for doubt in one.doubts]:
        raise Unavailable(f"a snapshot might lack what was acknowledged: {'; '.join(doubts)}")
    _make_empty(target)
    entries = []
    leading: dict[str, dict[int, LeadingCopy]] = {}
    for file in (one.file for one in chosen):
        on_file(f"{file.dataset}/{file.path.name}")
        copy = target / file.path.relative_to(data_dir)
        copy.parent.mkdir(parents=True, exist_ok=True)
        entry = _copy_shard(file, copy, target)
        entries.append(entry)
        if file.node:
            assert entry.epoch is not None, "of a shard's file"
            leading.setdefault(file.dataset, {})[file.shard] = LeadingCopy(file.node, entry.epoch)
        metrics = file.path.with_suffix(".metrics")
        if metrics.is_file():
            copy_database(metrics, copy.with_suffix(".metrics"))
            entries.append(_entry(copy.with_suffix(".metrics"), target))
    meta_store = data_dir / SQLITE_FILE
    if meta_store.is_file():
        copy_database(meta_store, target / SQLITE_FILE)
        _let_lead(target / SQLITE_FILE, leading)
        _forget_processes(target / SQLITE_FILE)
        entries.append(_entry(target / SQLITE_FILE, target))
    manifest = Manifest(wall_ms(), tuple(entries))
    draft = target / f"{MANIFEST_FILE}.tmp"
    with draft.open("w", encoding="utf-8") as text:
        text.write(manifest.to_json())
        text.flush()
        os.fsync(text.fileno())
    draft.rename(target / MANIFEST_FILE)
    return manifest


def restore_snapshot(snapshot: Path, data_dir: Path, on_file: Callable[[str], None] = lambda path: None) -> Manifest:
    """Copy a snapshot into ``data_dir``, which must not be there or be empty, after every file was checked.

    Raises BadData naming files that are not what the manifest says; nothing is copied then.
    """
    manifest = Manifest.load(snapshot)
    damaged = [file.path for file in manifest.files if _fingerprint(_inside(snapshot, file.path)) != _expected(file)]
    if damaged:
        raise BadData(f"{snapshot}: missing or damaged: {', '.join(damaged)}")
    _make_empty(data_dir)
    for file in manifest.files:
        on_file(file.path)
        target = data_dir / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(snapshot / file.path, target)
        if _fingerprint(target) != _expected(file):
            raise Unavailable(f"{target}: the copy is not what was copied")
        if file.shard is not None:
            _go_on_from_now(target)
    return manifest


def _copy_shard(file: ShardFile, copy: Path, target: Path) -> SnapshotFile:
    copy_database(file.path, copy)
    with StoredShard(ShardFile(file.dataset, file.shard, copy)) as stored:
        state = stored.state
    return dataclasses.replace(
        _entry(copy, target),
        dataset=file.dataset,
        shard=file.shard,
        epoch=state.epoch,
        offset=max(state.next_offset - 1, *state.offsets),
        resume_offset=min(state.offsets) + 1,
    )


def _entry(path: Path, target: Path) -> SnapshotFile:
    size, checksum = _fingerprint(path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return SnapshotFile(path.relative_to(target).as_posix(), size, checksum)


def _expected(file: SnapshotFile) -> tuple[int, str]:
    return file.size_bytes, file.xxh3_128


def _fingerprint(path: Path) -> tuple[int, str]:
    """Size and checksum; (-1, "") for a file that is not there."""
    checksum = xxhash.xxh3_128()
    size = 0
    try:
        with path.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                checksum.update(piece)
                size += len(piece)
    except OSError:
        return -1, ""
    return size, checksum.hexdigest()


def _inside(snapshot: Path, relative: str) -> Path:
    """Raises BadData for a path that leads out of the snapshot."""
    path = (snapshot / relative).resolve()
    if not path.is_relative_to(snapshot.resolve()):
        raise BadData(f"{snapshot / MANIFEST_FILE}: {relative!r} leads out of the snapshot")
    return path


def _make_empty(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise BadData(f"{directory} is not empty")


def _go_on_from_now(shard_file: Path) -> None:
    """As if the shard's last flush had been just now: disk-time-to-live counts from here."""
    with contextlib.closing(sqlite3.connect(shard_file)) as database, database:
        if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'clock'").fetchone():
            database.execute("UPDATE clock SET wall_ms = ?, owed_ms = 0", (wall_ms(),))


def _let_lead(meta_store: Path, leading: Mapping[str, Mapping[int, LeadingCopy]]) -> None:
    """What is in the snapshot, and nothing else, is in sync."""
    if not leading:
        return
    with contextlib.closing(MetaStore(f"sqlite:///{meta_store}")) as store:
        for config, _ in store.restored_state({}).shard_maps:
            put_leading_copies(store, config, leading.get(config.name, {}))


def _forget_processes(meta_store: Path) -> None:
    """Or a restored coordinator might take living nodes of the first cluster for its own dead ones, and end them."""
    with contextlib.closing(sqlite3.connect(meta_store)) as database, database:
        database.execute("UPDATE nodes SET pid = NULL, pid_started_s = NULL")
        database.execute("DELETE FROM identity")  # a restored cluster is one of its own
        if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'node_machines'").fetchone():
            database.execute("DELETE FROM node_machines")  # nodes are where the copies are restored
    with contextlib.closing(sqlite3.connect(meta_store)) as database:
        database.execute("PRAGMA journal_mode = DELETE")  # one plain file, whatever wrote to it
