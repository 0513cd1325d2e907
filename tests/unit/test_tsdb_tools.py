"""The tsdb tools on real shard files: written through shards, read back through shards."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import sqlite3
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from filoray.cluster.config.dataset import DatasetConfig, parse_dataset_config
from filoray.cluster.errors import BadData, NotFound, Unavailable
from filoray.cluster.process.clocks import wall_ms
from filoray.cluster.store.meta_store import MetaStore
from filoray.command.cli import main
from filoray.command.tsdb.analyze import analyze
from filoray.command.tsdb.dataset_configs import read_dataset_configs
from filoray.command.tsdb.dump import batches_of, opened_copies
from filoray.command.tsdb.offline_import import OfflineImport
from filoray.command.tsdb.open_metrics import parse_series, read_open_metrics, series_text
from filoray.command.tsdb.parquet import read_parquet, write_parquet
from filoray.command.tsdb.series_blocks import BlockBuilder, containers_of, pieces_of
from filoray.command.tsdb.shard_files import find_shard_files
from filoray.command.tsdb.snapshot import Manifest, create_snapshot, restore_snapshot
from filoray.command.tsdb.stored_shard import StoredShard
from filoray.command.tsdb.verify import verify_shard_file
from filoray.nodes.data.series_batch import STALE_NAN_BITS
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.shard_spec import ShardSpec
from filoray.nodes.streams.log_stream import LogStream
from filoray.nodes.streams.stream import ProblemReport

SHARDS = 2
START_MS = 1_700_000_000_000
STALE = struct.unpack("<d", struct.pack("<Q", STALE_NAN_BITS))[0]
EVER = (-(1 << 61), 1 << 61)

Samples = dict[tuple[tuple[str, str], ...], list[tuple[int, bytes]]]
"""By label set: times and the values' bits."""


@pytest.fixture(scope="module")
def config() -> DatasetConfig:
    return parse_dataset_config(
        f"""dataset = prom, num-shards = {SHARDS}, min-num-nodes = 1
        sourcefactory = "filoray.nodes.streams.LogStreamFactory"
        sourceconfig {{ store {{ groups-per-shard = 4 }} }}""",
        "prom",
    )


def write_data(data_dir: Path, config: DatasetConfig) -> None:
    """40 series of two metrics: 200 samples each in chunks, 5 more in the log, and one of odd values and names."""
    builder = BlockBuilder()
    store = MetaStore.open(None, data_dir)
    store.put_dataset(config, is_deleting=False)
    store.close()
    for i in range(40):
        labels = {"__name__": f"m{i % 2}_total", "job": f"job-{i % 3}", "instance": str(i)}
        for step in range(200):
            builder.add(labels, START_MS + step * 15_000, float(step * i))
    with OfflineImport(data_dir, config) as target:
        target.write(builder.take())
    for shard in range(SHARDS):
        late = BlockBuilder()
        for i in range(40):
            labels = {"__name__": f"m{i % 2}_total", "job": f"job-{i % 3}", "instance": str(i)}
            for step in range(200, 205):
                late.add(labels, START_MS + step * 15_000, float(step * i) + 0.5)
        odd = {"__name__": "odd.metric", 'la"bel': 'x\n"y\\', "ünï": "✓"}
        for step, value in enumerate([math.inf, -math.inf, math.nan, STALE, -0.0, 5e-324]):
            late.add(odd, START_MS + step, value)
        late.add({"job": "nameless"}, 1, 1.0)
        append(data_dir, config, shard, late)


def append(data_dir: Path, config: DatasetConfig, shard: int, builder: BlockBuilder) -> None:
    """To the log only."""
    path = data_dir / config.name / f"shard-{shard}.db"
    opened = Shard.open(ShardSpec(config.name, shard, 1, path, config.store))
    containers = containers_of(builder.take(), SHARDS, config.spread)
    if shard in containers:
        opened.append([containers[shard].encode()])
    opened.close()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, config: DatasetConfig) -> Path:
    data_dir = tmp_path_factory.mktemp("pristine")
    write_data(data_dir, config)
    return data_dir


@pytest.fixture
def data_dir(pristine: Path, tmp_path: Path) -> Path:
    restore_from = tmp_path / "copy"
    create_snapshot(pristine, restore_from)
    target = tmp_path / "data"
    restore_snapshot(restore_from, target)
    return target


def samples_in(data_dir: Path, *, with_stale: bool = True) -> Samples:
    found: Samples = {}
    with opened_copies(find_shard_files(data_dir)) as shards:
        for shard in shards:
            batch = shard.select((), *EVER)
            assert batch.warnings == ()
            for row, labels in enumerate(batch.labels.label_sets()):
                part = slice(int(batch.offsets[row]), int(batch.offsets[row + 1]))
                found[tuple(sorted(labels.items()))] = [
                    (time_ms, struct.pack("<d", value))
                    for time_ms, value in zip(batch.timestamps[part].tolist(), batch.values[part].tolist(), strict=True)
                    if with_stale or struct.pack("<d", value) != struct.pack("<d", STALE)
                ]
    return found


def test_the_tests_own_data_is_what_it_says(pristine: Path) -> None:
    samples = samples_in(pristine)
    assert len(samples) == 42
    assert sum(len(of_series) for of_series in samples.values()) == 40 * 205 + 6 + 1


# ---- verify


def test_sound_files_are_sound(pristine: Path) -> None:
    reports = [verify_shard_file(file) for file in find_shard_files(pristine)]
    assert [report.problems for report in reports] == [(), ()]
    assert sum(report.series for report in reports) == 42
    assert all(report.chunks and report.log_rows for report in reports)


DAMAGES = {
    "a byte of a chunk": ("UPDATE chunks SET data = flipped(data, length(data) - 3)", "chunk .* of series .*checksum"),
    "a byte of a time column": ("UPDATE chunks SET data = flipped(data, 3)", "time column 0.*checksum"),
    "a byte of a batch's meta": ("UPDATE chunks SET meta = flipped(meta, 20)", "chunk batch 1: meta: checksum"),
    "cut chunk data": ("UPDATE chunks SET data = substr(data, 1, 100)", "chunk batch 1: 100 bytes where"),
    "a byte of part keys": ("UPDATE part_keys SET data = flipped(data, 20)", "part keys of row .*checksum"),
    "lost part keys": ("DELETE FROM part_keys WHERE row_id = 1", "series without part key"),
    "a byte of the log": ("UPDATE log SET data = flipped(data, 40)", "log row .*checksum"),
    "an empty meta table": ("DELETE FROM meta", "meta table is empty"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named(data_dir: Path, damage: str) -> None:
    statement, named = DAMAGES[damage]
    sound, damaged = find_shard_files(data_dir)
    with sqlite3.connect(damaged.path) as database:
        database.create_function("flipped", 2, flipped)
        assert database.execute(statement).rowcount >= 1
    database.close()
    report = verify_shard_file(damaged)
    assert any(matches(named, problem) for problem in report.problems), report.problems
    assert verify_shard_file(sound).problems == ()


def test_a_page_that_was_overwritten_and_a_file_that_is_no_database_are_named(data_dir: Path) -> None:
    first, second = find_shard_files(data_dir)
    content = bytearray(first.path.read_bytes())
    content[3 * 4096 : 4 * 4096] = b"\xaa" * 4096
    first.path.write_bytes(content)
    second.path.write_bytes(b"hello" * 1000)
    assert verify_shard_file(first).problems
    assert verify_shard_file(second).problems


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :]


def matches(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


def test_the_commands_exit_code_tells_damage(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tsdb", "verify", str(data_dir)]) == 0
    assert capsys.readouterr().out.count("sound") == 2
    find_shard_files(data_dir)[1].path.write_bytes(b"")
    assert main(["tsdb", "verify", str(data_dir)]) == 1
    assert "shard-1.db: damaged" in capsys.readouterr().out
    assert main(["tsdb", "verify", str(data_dir), "--dataset", "nope"]) == 1
    assert "no shard files of dataset nope" in capsys.readouterr().err


def test_verify_names_a_file_that_is_gone(pristine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir = shutil.copytree(pristine, tmp_path / "data")
    gone, *others = find_shard_files(data_dir)
    for path in gone.path.parent.glob(f"{gone.path.name}*"):
        path.unlink()
    assert main(["tsdb", "verify", str(data_dir)]) == 1
    output = capsys.readouterr().out
    assert f"{gone.path}: missing" in output
    assert output.count(": sound,") == len(others)


# ---- the log as a stream


def test_the_log_is_a_stream_of_containers_that_resumes_at_any_offset(pristine: Path, tmp_path: Path) -> None:
    file = find_shard_files(pristine)[0]
    with StoredShard(file) as stored:
        log = LogStream(stored, "log", None)
        batches = list(log.poll(1000))
        assert log.ended or log.poll(1000) == []
        assert batches[-1].offset == log.end_offset() == log.position
        rest = LogStream(stored, "log", batches[0].offset)
        assert [batch.offset for batch in rest.poll(1000)] == [batch.offset for batch in batches[1:]]
    spec = ShardSpec("replayed", 0, 1, tmp_path / "replayed.db", read_dataset_configs(pristine)["prom"].store)
    replayed = Shard.open(spec)
    results = replayed.append([batch.container for batch in batches])
    in_log = sum(use.log_samples for use in analyze([file]).metrics.values())
    assert sum(result.accepted for result in results) == in_log > 0
    replayed.close()


# ---- analyze


def test_analyze_counts_series_samples_and_bytes_by_metric(pristine: Path) -> None:
    analysis = analyze(find_shard_files(pristine))
    use = analysis.metrics["m0_total"]
    assert (use.series, use.chunk_samples, use.log_samples) == (20, 20 * 200, 20 * 5)
    assert analysis.samples == 40 * 205 + 7
    assert analysis.label_pairs["job", "job-0"] == 14
    assert len(analysis.label_values["instance"]) == 40
    data_bytes = 0
    for file in find_shard_files(pristine):
        with StoredShard(file) as stored:
            data_bytes += sum(len(found[1]) for i in stored.batch_ids() if (found := stored.batch(i)) is not None)
    assert analysis.total.chunk_bytes == pytest.approx(data_bytes)


def test_analyze_prints_tables(pristine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tsdb", "analyze", str(pristine), "--limit", "2"]) == 0
    out = capsys.readouterr().out
    assert "42 series, 8,207 samples" in out
    assert "m0_total" in out


# ---- dump and import


def empty_like(data_dir: Path, config: DatasetConfig) -> Path:
    store = MetaStore.open(None, data_dir)
    store.put_dataset(config, is_deleting=False)
    store.close()
    return data_dir


@pytest.mark.parametrize("kind", ["openmetrics", "parquet"])
def test_a_dump_imported_elsewhere_is_the_same_data(
    pristine: Path, tmp_path: Path, config: DatasetConfig, kind: str
) -> None:
    file = tmp_path / "dump.out"
    assert main(["tsdb", "dump", str(pristine), "--format", kind, "--output", str(file)]) == 0
    target = empty_like(tmp_path / "target", config)
    assert main(["tsdb", "import", str(file), "--format", kind, "--into", str(target)]) == 0
    assert samples_in(target) == samples_in(pristine, with_stale=kind == "parquet")
    assert all(not verify_shard_file(each).problems for each in find_shard_files(target))


def test_importing_twice_changes_nothing_and_another_value_is_refused(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "more.om"
    file.write_text(
        f'm0_total{{instance="0",job="job-0"}} 0 {START_MS / 1000}\n'
        f'm0_total{{instance="2",job="job-2"}} 77 {START_MS / 1000}\nm9 1 5\n# EOF\n'
    )
    before = samples_in(data_dir)
    assert main(["tsdb", "import", str(file), "--into", str(data_dir)]) == 1
    err = capsys.readouterr().err
    assert "2 samples are stored" in err
    assert "1 samples were refused (different value at a stored timestamp: 1)" in err
    after = samples_in(data_dir)
    assert after.pop((("__name__", "m9"),)) == [(5000, struct.pack("<d", 1.0))]
    assert after == before


def test_bad_lines_are_named_and_the_rest_is_imported(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.om"
    file.write_text('# TYPE a counter\na 1 1\na 1\nb{x=1} 2 2\nc{} 3 3 # {trace="x"} 1\nnot a sample at all\n')
    assert main(["tsdb", "import", str(file), "--into", str(data_dir)]) == 1
    err = capsys.readouterr().err
    assert "2 samples are stored" in err
    for text in ("line 3: a sample without a time", "line 4: ", "line 6: not a", "line 6: the text ends without # EOF"):
        assert text in err


def test_dump_takes_a_selector_and_a_range(pristine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_s = START_MS // 1000
    arguments = ["--match", 'm0_total{job="job-0"}', "--start", str(start_s), "--end", str(start_s + 15)]
    assert main(["tsdb", "dump", str(pristine), *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "# EOF"
    assert lines[0] == f'm0_total{{instance="0",job="job-0"}} 0.0 {float(start_s)}'
    assert len(lines) == 7 * 2 + 1
    assert main(["tsdb", "dump", str(pristine), "--match", "sum(x)"]) == 1


def test_a_dump_of_a_damaged_chunk_says_what_is_missing(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(find_shard_files(data_dir)[0].path) as database:
        database.create_function("flipped", 2, flipped)
        database.execute("UPDATE chunks SET data = flipped(data, length(data) - 3)")
    database.close()
    assert main(["tsdb", "dump", str(data_dir)]) == 1
    assert "missing: " in capsys.readouterr().err


def test_a_dump_leaves_nothing_behind_and_changes_nothing(data_dir: Path) -> None:
    before = {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file()}
    with opened_copies(find_shard_files(data_dir)) as shards:
        assert sum(len(batch.timestamps) for batch in batches_of(shards, (), *EVER)) == 40 * 205 + 7
    assert {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file()} == before


def test_an_import_into_files_that_a_node_has_open_is_refused(data_dir: Path, config: DatasetConfig) -> None:
    owner = Shard.open(ShardSpec("prom", 0, 7, data_dir / "prom" / "shard-0.db", config.store))
    with pytest.raises(Unavailable, match="in use: stop the cluster"):
        OfflineImport(data_dir, config)
    owner.close()
    with OfflineImport(data_dir, config):
        pass


def test_an_import_needs_a_known_dataset_that_no_stream_feeds(
    tmp_path: Path, config: DatasetConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    csv = dataclasses.replace(config, source_factory="filodb.coordinator.sources.CsvStreamFactory")
    target = empty_like(tmp_path / "d", csv)
    (tmp_path / "x.om").write_text("# EOF\n")
    assert main(["tsdb", "import", str(tmp_path / "x.om"), "--into", str(target)]) == 1
    assert "may only be written from there" in capsys.readouterr().err
    assert main(["tsdb", "import", str(tmp_path / "x.om"), "--into", str(target), "--dataset", "y"]) == 1
    assert "dataset y is not known" in capsys.readouterr().err


# ---- OpenMetrics text


@pytest.mark.parametrize(
    "labels",
    [
        {"__name__": "up"},
        {"__name__": "up", "a": "b,c}", "d": 'q"u\\o\nte'},
        {"__name__": "ns:rule:sum", "x": "# y"},
        {"__name__": "with.dots", "dö.t": "1"},
        {"__name__": 'quo"te{'},
        {"job": "nameless"},
    ],
)
def test_series_are_read_as_they_were_written(labels: Mapping[str, str]) -> None:
    assert parse_series(series_text(labels)) == labels
    problems = ProblemReport("test")
    (batch,) = read_open_metrics([f"{series_text(labels)} 1.5 -2.001\n", "# EOF\n"], problems, 10)
    assert batch.labels.label_sets() == [labels]
    assert batch.timestamps.tolist() == [-2001]
    assert problems.count == 0


@pytest.mark.parametrize("text", ['m{a="1",a="2"}', "m{a}", "m{a=b}", "1m", 'm{="x"}', "m{,,}"])
def test_wrong_series_are_refused(text: str) -> None:
    with pytest.raises(BadData):
        parse_series(text)


def test_blocks_stay_within_their_size_and_sort_each_series() -> None:
    lines = [f'm{{i="{i % 3}"}} {i} {1000 - i}\n' for i in range(1000)] + ["# EOF\n"]
    blocks = list(read_open_metrics(lines, ProblemReport("test"), 64))
    assert max(len(block.timestamps) for block in blocks) == 64
    assert sorted(value for block in blocks for value in block.values.tolist()) == list(range(1000))
    for block in blocks:
        for start, end in zip(block.offsets[:-1], block.offsets[1:], strict=True):
            assert (np.diff(block.timestamps[start:end]) > 0).all()


def test_pieces_have_all_samples_in_order() -> None:
    builder = BlockBuilder()
    for i in range(100):
        builder.add({"__name__": "m", "i": str(i * i % 7)}, i, float(i))
    batch = builder.take()
    for size in (1, 3, 50, 99, 100, 1000):
        pieces = list(pieces_of(batch, size))
        assert max(len(piece.timestamps) for piece in pieces) <= size
        rows = [row for piece in pieces for row in rows_of(piece)]
        assert rows == list(rows_of(batch))


def rows_of(batch: object) -> Iterator[tuple[str, int, float]]:
    for row, labels in enumerate(batch.labels.label_sets()):  # type: ignore[attr-defined]
        for i in range(batch.offsets[row], batch.offsets[row + 1]):  # type: ignore[attr-defined]
            yield labels["i"], int(batch.timestamps[i]), float(batch.values[i])  # type: ignore[attr-defined]


def test_a_parquet_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(arrow.table({"metric": ["a"], "value": [1.0]}), tmp_path / "x.parquet")
    with pytest.raises(BadData, match="no column labels, timestamps, values"):
        list(read_parquet(tmp_path / "x.parquet"))
    (tmp_path / "y.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadData):
        list(read_parquet(tmp_path / "y.parquet"))


def test_an_empty_dump_is_a_readable_parquet_file(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    assert write_parquet([], tmp_path / "x.parquet") == 0
    assert list(read_parquet(tmp_path / "x.parquet")) == []


# ---- snapshot and restore


def test_a_restored_snapshot_is_the_data_of_then(data_dir: Path, tmp_path: Path, config: DatasetConfig) -> None:
    owner = Shard.open(ShardSpec("prom", 0, 3, data_dir / "prom" / "shard-0.db", config.store))
    then = samples_in(data_dir)
    assert main(["tsdb", "snapshot", str(data_dir), str(tmp_path / "snap")]) == 0
    later = BlockBuilder()
    later.add({"__name__": "later"}, 1, 1.0)
    for container in containers_of(later.take(), 1, 0).values():
        owner.append([container.encode()])
    owner.close()
    assert main(["tsdb", "restore", str(tmp_path / "snap"), str(tmp_path / "back")]) == 0
    assert samples_in(tmp_path / "back") == then
    assert read_dataset_configs(tmp_path / "back") == {"prom": config}


def test_what_is_restored_long_after_has_as_long_to_live_as_it_had(pristine: Path, tmp_path: Path) -> None:
    for file in find_shard_files(pristine):
        with sqlite3.connect(file.path) as database:  # flushed a year ago, and copied then
            database.execute(
                "UPDATE clock SET wall_ms = wall_ms - 31536000000, retention_ms = retention_ms - 31536000000"
            )
            database.execute("UPDATE chunks SET written_ms = written_ms - 31536000000")
    create_snapshot(pristine, tmp_path / "snap")
    restore_snapshot(tmp_path / "snap", tmp_path / "back")
    config = read_dataset_configs(pristine)["prom"]
    shard = Shard.open(ShardSpec("prom", 0, 9, tmp_path / "back" / "prom" / "shard-0.db", config.store))
    samples = shard.stats().samples
    assert samples > 0
    for hour in range(24):
        while shard.upkeep(hour * 3_600_000, wall_ms() + hour * 3_600_000):
            pass
    assert shard.stats().samples == samples
    shard.close()


def test_the_tools_know_the_last_generation_of_a_data_set(
    data_dir: Path, tmp_path: Path, config: DatasetConfig
) -> None:
    """The first was deleted, or is still being deleted; it was set up again since."""
    then = samples_in(data_dir)
    again = dataclasses.replace(config, generation=12)
    store = MetaStore.open(None, data_dir)
    store.put_dataset(again, is_deleting=False)
    store.close()
    builder = BlockBuilder()
    builder.add({"__name__": "new"}, START_MS, 1.0)
    with OfflineImport(data_dir, again) as target:
        target.write(builder.take())
    (data_dir / "prom@3").mkdir()
    shutil.copy(data_dir / "prom" / "shard-1.db", data_dir / "prom@3" / "shard-7.db")
    new = samples_in(data_dir)
    assert list(new) == [(("__name__", "new"),)] != list(then)
    assert {(file.dataset, file.path.parent.name) for file in find_shard_files(data_dir)} == {("prom", "prom@12")}
    assert find_shard_files(data_dir, "prom") == find_shard_files(data_dir)

    create_snapshot(data_dir, tmp_path / "snap")
    restore_snapshot(tmp_path / "snap", tmp_path / "back")
    assert samples_in(tmp_path / "back") == new
    assert read_dataset_configs(tmp_path / "back") == {"prom": again}


def test_the_manifest_tells_offsets_and_checksums(pristine: Path, tmp_path: Path) -> None:
    manifest = create_snapshot(pristine, tmp_path / "snap")
    shards = [file for file in manifest.files if file.shard is not None]
    assert [(file.path, file.dataset, file.shard) for file in shards] == [
        ("prom/shard-0.db", "prom", 0),
        ("prom/shard-1.db", "prom", 1),
    ]
    for file, entry in zip(find_shard_files(pristine), shards, strict=True):
        with StoredShard(file) as stored:
            assert entry.offset == stored.next_offset - 1
            assert entry.resume_offset == min(stored.state.checkpoints.values()) + 1
            assert entry.epoch == stored.state.epoch
    assert Manifest.load(tmp_path / "snap") == manifest
    assert json.loads((tmp_path / "snap" / "manifest.json").read_text())["format"] == 1


def test_a_snapshot_knows_no_processes(data_dir: Path, tmp_path: Path) -> None:
    with sqlite3.connect(data_dir / "coordinator.db") as database:
        database.execute("INSERT INTO nodes VALUES ('node-0', 3, 1234, 5.5)")
    database.close()
    create_snapshot(data_dir, tmp_path / "snap")
    store = MetaStore.open(None, tmp_path / "snap")
    node = store.nodes()["node-0"]
    store.close()
    assert (node.incarnation, node.pid, node.pid_started_s) == (3, None, None)


def test_a_damaged_or_incomplete_snapshot_is_not_restored(pristine: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "snap"
    create_snapshot(pristine, snapshot)
    path = snapshot / "prom" / "shard-1.db"
    path.write_bytes(flipped(path.read_bytes(), 5000))
    with pytest.raises(BadData, match=r"missing or damaged: prom/shard-1\.db"):
        restore_snapshot(snapshot, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    (snapshot / "manifest.json").unlink()
    with pytest.raises(NotFound, match="is no snapshot"):
        restore_snapshot(snapshot, tmp_path / "back")


def test_a_manifest_that_leads_elsewhere_is_refused(pristine: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "snap"
    create_snapshot(pristine, snapshot)
    manifest = snapshot / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"prom/shard-0.db"', '"../../etc/passwd"'))
    with pytest.raises(BadData, match="leads out of the snapshot"):
        restore_snapshot(snapshot, tmp_path / "back")


def test_nothing_is_overwritten(pristine: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(BadData, match="is not empty"):
        create_snapshot(pristine, tmp_path / "full")
    create_snapshot(pristine, tmp_path / "snap")
    with pytest.raises(BadData, match="is not empty"):
        restore_snapshot(tmp_path / "snap", tmp_path / "full")


def test_an_import_gives_the_logs_room_back(pristine: Path, tmp_path: Path, config: DatasetConfig) -> None:
    builder = BlockBuilder()
    for i in range(100):
        for step in range(240):
            builder.add({"__name__": "m", "i": str(i)}, START_MS + step * 15_000, float(step))
    target = empty_like(tmp_path / "d", config)
    with OfflineImport(target, config) as offline:
        offline.write(builder.take())
    analysis = analyze(find_shard_files(target))
    assert analysis.log_bytes == 0
    assert analysis.file_bytes < 24_000 * 8, "the log alone took 16 bytes a sample"
