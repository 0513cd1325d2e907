"""``filoray tsdb``: arguments in, progress and tables out, exit code back; ``filoray.command.tsdb`` does the work."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from filoray.cluster.errors import BadData
from filoray.command.cli_access import add_client_options, client_access_of

if TYPE_CHECKING:
    from filoray.command.tsdb.adopt_copies import Adoption
    from filoray.command.tsdb.analyze import Analysis
    from filoray.command.tsdb.shard_copies import ChosenCopy
    from filoray.command.tsdb.shard_files import ShardFile
    from filoray.nodes.data.matching import LabelMatcher
    from filoray.nodes.data.series_batch import SeriesBatch
    from filoray.nodes.data.write_outcome import WriteOutcome
    from filoray.nodes.streams.stream import ProblemReport

OPEN_METRICS, PARQUET = "openmetrics", "parquet"
_BLOCK_SAMPLES = 200_000
_ALL_TIME_MS = (-(1 << 61), (1 << 61) - 1)


class ImportTarget(Protocol):
    outcome: WriteOutcome

    def write(self, batch: SeriesBatch) -> None: ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the tools to the ``filoray tsdb`` parser; each sets ``run``, which takes the parsed options."""
    tools = parser.add_subparsers(required=True, metavar="TOOL")
    verify = tools.add_parser("verify", help="check every checksum of a data directory")
    _add_directory(verify)
    verify.add_argument("--replicas", action="store_true", help="compare the copies of each shard instead")
    verify.set_defaults(run=_verify)

    analyze = tools.add_parser("analyze", help="show series, samples and bytes by metric, and label cardinality")
    _add_directory(analyze)
    analyze.add_argument("--limit", type=int, default=20, metavar="N", help="rows of each table (20)")
    analyze.set_defaults(run=_analyze)

    dump = tools.add_parser("dump", help="write series to OpenMetrics text or Parquet")
    _add_directory(dump)
    dump.add_argument("--output", type=Path, metavar="FILE", help="default: standard output (OpenMetrics only)")
    _add_format(dump)
    dump.add_argument("--match", metavar="SELECTOR", help='which series, as in PromQL: {job="api"}')
    dump.add_argument("--start", metavar="TIME", help="unix seconds or RFC 3339")
    dump.add_argument("--end", metavar="TIME", help="unix seconds or RFC 3339")
    dump.set_defaults(run=_dump)

    importing = tools.add_parser("import", help="load OpenMetrics text or Parquet")
    importing.add_argument("files", nargs="+", type=Path, metavar="FILE", help="- is standard input (OpenMetrics)")
    _add_format(importing)
    importing.add_argument("--dataset", metavar="NAME", help="default: the only one there is")
    target = importing.add_mutually_exclusive_group(required=True)
    target.add_argument("--url", metavar="URL", help="a gateway of a running cluster: by remote write")
    target.add_argument("--into", type=Path, metavar="DIR", help="a data directory whose cluster is stopped")
    add_client_options(importing, with_url=False)
    importing.set_defaults(run=_import)

    snapshot = tools.add_parser("snapshot", help="copy a data directory while its cluster runs")
    snapshot.add_argument("directory", type=Path, metavar="DIR", help="a cluster's data directory")
    snapshot.add_argument("target", type=Path, metavar="SNAPSHOT", help="a new or empty directory")
    snapshot.set_defaults(run=_snapshot)

    restore = tools.add_parser("restore", help="make a data directory of a snapshot")
    restore.add_argument("snapshot", type=Path, metavar="SNAPSHOT")
    restore.add_argument("directory", type=Path, metavar="DIR", help="a new or empty directory")
    restore.set_defaults(run=_restore)

    adopting = tools.add_parser(
        "adopt-copies", help="say which copy of each shard leads, after the coordinator's store was lost"
    )
    adopting.add_argument("directory", type=Path, metavar="DIR", help="the data directory of a stopped cluster")
    adopting.add_argument("--nodes", metavar="NODE,…", help="all nodes that the cluster had")
    adopting.add_argument(
        "--accept-loss", action="store_true", help="though samples that were acknowledged may be lost"
    )
    adopting.add_argument("--meta-store-url", metavar="URL", help="the coordinator's store (default: in DIR)")
    adopting.set_defaults(run=_adopt_copies)


def _add_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="a cluster's data directory")
    parser.add_argument("--dataset", metavar="NAME", help="only this data set (default: all)")


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=(OPEN_METRICS, PARQUET), help="default: by the file's name (*.parquet)")


def _format(given: str | None, path: Path | None) -> str:
    return given or (PARQUET if path is not None and path.suffix == ".parquet" else OPEN_METRICS)


# ---- verify


def _verify(options: argparse.Namespace) -> int:
    from filoray.command.tsdb.shard_files import find_shard_files, missing_shard_files
    from filoray.command.tsdb.verify import verify_shard_file

    files = find_shard_files(options.directory, options.dataset)
    if options.replicas:
        return _compare(files)
    with _progress("verify", sum(file.path.stat().st_size for file in files)) as (progress, task):
        reports = [verify_shard_file(file, lambda count: progress.advance(task, count)) for file in files]
        progress.update(task, completed=progress.tasks[0].total)
    for report in reports:
        state = "damaged" if report.problems else "sound"
        print(
            f"{_name(report.file)}: {state}, {report.series} series, {report.chunks} chunks, {report.log_rows} log rows"
        )
        for problem in report.problems:
            print(f"  {problem}")
    missing = missing_shard_files(options.directory, options.dataset)
    for file in missing:
        print(f"{_name(file)}: missing")
    return 1 if missing or any(report.problems for report in reports) else 0


def _compare(files: Sequence[ShardFile]) -> int:
    from filoray.command.tsdb.compare_copies import compare_copies

    with _progress("compare", sum(bool(file.node) for file in files)) as (progress, task):
        compared = compare_copies(files, lambda: progress.advance(task))
    for shard in compared:
        state = "differ" if shard.differences else f"are equal, {shard.batches} chunk batches"
        print(f"{shard.dataset} shard {shard.shard}: the copies of {', '.join(shard.nodes)} {state}")
        for difference in shard.differences:
            print(f"  {difference}")
    return 1 if any(shard.differences for shard in compared) else 0


def _name(file: ShardFile) -> str:
    return f"{file.path} ({file.node}'s copy)" if file.node else str(file.path)


# ---- analyze


def _analyze(options: argparse.Namespace) -> int:
    from filoray.command.tsdb.analyze import analyze
    from filoray.command.tsdb.shard_copies import newest_copies
    from filoray.command.tsdb.shard_files import find_shard_files

    chosen = newest_copies(options.directory, find_shard_files(options.directory, options.dataset))
    doubts = _tell_of_copies(chosen)
    with _progress("analyze", len(chosen)) as (progress, task):
        analysis = analyze([one.file for one in chosen], lambda: progress.advance(task))
    _print_analysis(analysis, options.limit)
    return 1 if doubts else 0


def _tell_of_copies(chosen: Sequence[ChosenCopy]) -> list[str]:
    """Say which of several copies are read; returns, and says, why they may not be the newest."""
    from filoray.command.tsdb.shard_copies import by_node

    for line in by_node(chosen):
        _tell(line)
    doubts = [doubt for one in chosen for doubt in one.doubts]
    for doubt in doubts:
        _tell(f"there may be more: {doubt}")
    return doubts


def _print_analysis(analysis: Analysis, limit: int) -> None:
    console = Console()
    total = analysis.total
    per_sample = analysis.file_bytes / analysis.samples if analysis.samples else math.nan
    console.print(
        f"{analysis.files} shards, {total.series:,} series, {analysis.samples:,} samples "
        f"({total.log_samples:,} of them only in the log); {analysis.file_bytes:,} bytes on disk, "
        f"{per_sample:.2f} per sample: chunks {total.chunk_bytes:,.0f}, log {analysis.log_bytes:,}, "
        f"part keys {analysis.part_key_bytes:,}, chunk metadata {analysis.meta_bytes:,}",
        highlight=False,
    )
    metrics = Table(
        "metric", "series", "samples", "chunk bytes", "bytes per sample", title="metrics", title_justify="left"
    )
    for use in sorted(analysis.metrics.values(), key=lambda use: (-use.series, use.metric))[:limit]:
        samples = use.chunk_samples + use.log_samples
        metrics.add_row(
            use.metric, f"{use.series:,}", f"{samples:,}", f"{use.chunk_bytes:,.0f}", f"{use.bytes_per_sample:.2f}"
        )
    console.print(metrics)
    names = Table("label", "distinct values", title="labels", title_justify="left")
    for name, values in sorted(analysis.label_values.items(), key=lambda entry: (-len(entry[1]), entry[0]))[:limit]:
        names.add_row(name, f"{len(values):,}")
    console.print(names)
    pairs = Table("label pair", "series", title="label pairs", title_justify="left")
    for (name, value), count in analysis.label_pairs.most_common(limit):
        pairs.add_row(f"{name}={value}", f"{count:,}")
    console.print(pairs)


# ---- dump


def _dump(options: argparse.Namespace) -> int:
    from filoray.command.tsdb.dump import batches_of, opened_copies
    from filoray.command.tsdb.open_metrics import write_open_metrics
    from filoray.command.tsdb.parquet import write_parquet
    from filoray.command.tsdb.shard_copies import newest_copies
    from filoray.command.tsdb.shard_files import find_shard_files
    from filoray.http.server.parameters import parse_time_ms

    kind = _format(options.format, options.output)
    if kind == PARQUET and options.output is None:
        raise BadData("Parquet needs --output FILE")
    files = find_shard_files(options.directory, options.dataset)
    datasets = sorted({file.dataset for file in files})
    if len(datasets) > 1:
        raise BadData(f"{options.directory} holds several data sets: say --dataset ({', '.join(datasets)})")
    matchers = _matchers(options.match)
    start_ms = parse_time_ms(options.start) if options.start else _ALL_TIME_MS[0]
    end_ms = parse_time_ms(options.end) if options.end else _ALL_TIME_MS[1]
    chosen = newest_copies(options.directory, files)
    doubts = _tell_of_copies(chosen)
    warnings: list[str] = []
    left_out = 0
    with (
        _progress("copy shards", len(chosen)) as (progress, task),
        opened_copies([one.file for one in chosen], lambda: progress.advance(task)) as shards,
    ):

        def on_metric(done: int, total: int) -> None:
            progress.update(task, description="metrics", completed=done, total=total)

        batches = _collecting(batches_of(shards, matchers, start_ms, end_ms, on_metric), warnings)
        if kind == PARQUET:
            written = write_parquet(batches, options.output)
        elif options.output is None:
            written, left_out = write_open_metrics(batches, sys.stdout)
        else:
            with options.output.open("w", encoding="utf-8") as file:
                written, left_out = write_open_metrics(batches, file)
    _tell(f"{written:,} samples written")
    if left_out:
        _tell(f"{left_out:,} staleness markers were left out: OpenMetrics cannot write them, Parquet can")
    for warning in dict.fromkeys(warnings):
        _tell(f"missing: {warning}")
    return 1 if warnings or doubts else 0


def _collecting(batches: Iterable[SeriesBatch], warnings: list[str]) -> Iterator[SeriesBatch]:
    for batch in batches:
        warnings.extend(batch.warnings)
        yield batch


def _matchers(selector: str | None) -> Sequence[LabelMatcher]:
    from filoray.nodes.promql.ast import TimeModifier, VectorSelector
    from filoray.nodes.promql.parser import parse

    if selector is None:
        return ()
    expression = parse(selector)
    if not isinstance(expression, VectorSelector) or expression.time != TimeModifier():
        raise BadData(f"--match: {selector!r} is not a series selector")
    return expression.matchers


# ---- import


def _import(options: argparse.Namespace) -> int:
    from filoray.command.tsdb.dataset_configs import choose_dataset, read_dataset_configs
    from filoray.command.tsdb.offline_import import OfflineImport
    from filoray.command.tsdb_import_target import RemoteWriteTarget
    from filoray.nodes.streams.sources import is_polled
    from filoray.nodes.streams.stream import ProblemReport

    problems = ProblemReport("import")
    if options.url:
        target = RemoteWriteTarget(client_access_of(options), options.dataset)
        _import_files(options, target, problems)
        return _tell_import(target.outcome, problems)
    config = choose_dataset(read_dataset_configs(options.into), options.dataset, options.into)
    if is_polled(config):
        raise BadData(
            f"dataset {config.name} is fed by {config.source_factory}: its files may only be written from there"
        )
    if config.has_copies:
        raise BadData(
            f"dataset {config.name}: each shard has copies on {config.num_replicas} nodes, which only their leaders "
            "keep equal: launch the cluster and import through it (--url)"
        )
    with OfflineImport(options.into, config) as offline:
        _import_files(options, offline, problems)
    return _tell_import(offline.outcome, problems)


def _import_files(options: argparse.Namespace, target: ImportTarget, problems: ProblemReport) -> None:
    from filoray.command.tsdb.open_metrics import read_open_metrics
    from filoray.command.tsdb.parquet import read_parquet

    sizes = [0 if str(path) == "-" else _size(path) for path in options.files]
    with _progress("import", sum(sizes)) as (progress, task):
        for path, size in zip(options.files, sizes, strict=True):
            if _format(options.format, path) == PARQUET:
                for batch in read_parquet(path):
                    target.write(batch)
                progress.advance(task, size)
            elif str(path) == "-":
                for batch in read_open_metrics(sys.stdin, problems, _BLOCK_SAMPLES):
                    target.write(batch)
            else:
                with path.open(encoding="utf-8") as file:
                    lines = _advancing(file, progress, task)
                    for batch in read_open_metrics(lines, problems, _BLOCK_SAMPLES):
                        target.write(batch)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise BadData(f"{path}: {error.strerror}") from error


def _advancing(lines: Iterable[str], progress: Progress, task: TaskID) -> Iterator[str]:
    """The same lines; the bar moves by their length, in steps worth drawing."""
    waiting = 0
    for line in lines:
        waiting += len(line)
        if waiting > 1 << 16:
            progress.advance(task, waiting)
            waiting = 0
        yield line
    progress.advance(task, waiting)


def _tell_import(outcome: WriteOutcome, problems: ProblemReport) -> int:
    _tell(f"{outcome.accepted:,} samples are stored")
    if outcome.refused_count:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(outcome.refused.items()))
        _tell(f"{outcome.refused_count:,} samples were refused ({reasons}); for example {outcome.example}")
    for problem in problems.examples:
        _tell(str(problem))
    if problems.count > len(problems.examples):
        _tell(f"and {problems.count - len(problems.examples):,} more such lines")
    return 1 if outcome.refused_count or problems.count else 0


# ---- snapshot and restore


def _snapshot(options: argparse.Namespace) -> int:
    from filoray.command.tsdb.shard_files import find_shard_files
    from filoray.command.tsdb.snapshot import create_snapshot

    with _progress("snapshot", len(find_shard_files(options.directory))) as (progress, task):
        manifest = create_snapshot(options.directory, options.target, lambda path: progress.advance(task))
    _tell(f"{options.target}: {len(manifest.files)} files, {sum(file.size_bytes for file in manifest.files):,} bytes")
    return 0


def _restore(options: argparse.Namespace) -> int:
    from filoray.command.tsdb.snapshot import Manifest, restore_snapshot

    with _progress("restore", len(Manifest.load(options.snapshot).files)) as (progress, task):
        manifest = restore_snapshot(options.snapshot, options.directory, lambda path: progress.advance(task))
    _tell(f"{options.directory}: {len(manifest.files)} files restored")
    if nodes := manifest.nodes:
        _tell(f"launch it with {', '.join(nodes)}, which have the copies; the others are made anew from them")
    return 0


# ---- copies of shards


def _adopt_copies(options: argparse.Namespace) -> int:
    from filoray.cluster.store.meta_store import MetaStore
    from filoray.command.tsdb.adopt_copies import adopt, plan_adoption
    from filoray.command.tsdb.shard_files import find_shard_files

    nodes = None if options.nodes is None else [name.strip() for name in options.nodes.split(",")]
    size = sum(file.path.stat().st_size for file in find_shard_files(options.directory))
    with closing(MetaStore.open(options.meta_store_url, options.directory)) as store:
        store.hold()
        with _progress("check", size) as (progress, task):
            plan = plan_adoption(options.directory, store, nodes, lambda count: progress.advance(task, count))
        _print_adoption(plan)
        if plan.doubts and not options.accept_loss:
            for doubt in plan.doubts:
                _tell(doubt)
            _tell("nothing was written; --accept-loss goes on with the copies above, and with what they lack")
            return 1
        adopt(options.directory, store, plan)
    _tell(f"{options.directory}: launch the cluster; the copies above lead, the others are made anew from them")
    return 0


def _print_adoption(plan: Adoption) -> None:
    for dataset in plan.datasets:
        print(f"{dataset.config.name}: copies of {', '.join(dataset.nodes)}")
        for shard in dataset.shards:
            leads = f"{shard.leader.node} leads" if shard.leader is not None else "no copy"
            places = [f"{file.node} (epoch {epoch}, next offset {at})" for file, (epoch, at) in shard.places.items()]
            print(f"  shard {shard.shard}: {leads}; sound: {', '.join(places) or 'none'}")


# ---- the terminal


@contextmanager
def _progress(what: str, total: int) -> Iterator[tuple[Progress, TaskID]]:
    """A bar on standard error, so that standard output stays clean; it goes when the work is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress, progress.add_task(what, total=total)


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
