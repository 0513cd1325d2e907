"""Plays simulated histories for whoever sits at a terminal, and says what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from filoray.cluster.errors import FilorayError
from filoray.cluster.simulation.campaign import play_all
from filoray.cluster.simulation.great_loss import GreatLoss, LossSize, Phase
from filoray.cluster.simulation.history import HistoryShape
from filoray.cluster.simulation.report.simulation_report import Campaign, loss_report_of, report_of
from filoray.cluster.simulation.shrinking import ShortestFailure, shrink
from filoray.cluster.simulation.story import tell
from filoray.cluster.simulation.tally import Tally
from filoray.command.simulate_words import (
    campaign_command,
    in_time,
    loss_command,
    phase_line,
    replay_command,
    tally_lines,
)

INTERRUPTED = 130
_LINE_EVERY_S = 5.0
_SHRINKING = "looking for the shortest history that fails so"


def random_histories(
    shape: HistoryShape, seeds: Sequence[int], processes: int, report: Path | None, *, ends_at_failure: bool
) -> int:
    """Returns the exit code. ``report``: the file that is to have what came out."""
    console = Console(highlight=False, soft_wrap=True)
    tally, begun_s, is_interrupted = Tally(), time.monotonic(), False
    results = play_all(shape, seeds, processes)
    try:
        with _progress(console, len(seeds)) as advance:
            for result in results:
                tally.add(result)
                advance()
                if result.failure is not None and ends_at_failure:
                    break
    except KeyboardInterrupt:
        is_interrupted = True
    finally:
        results.close()
    elapsed_s = time.monotonic() - begun_s
    for line in tally_lines(tally, elapsed_s):
        console.print(line, markup=False)
    if is_interrupted:
        console.print(f"interrupted after {tally.histories} of {len(seeds)} histories", markup=False)
    shortest = _shortest_story(console, shape, tally) if tally.failures else None
    if report is not None and tally.histories:
        again = replay_command(shortest.failed.seed, shortest.shape) if shortest is not None else ""
        _write(report, report_of(Campaign(campaign_command(shape, seeds), shape, tally, elapsed_s, shortest, again)))
        console.print(f"the report is in {report}", markup=False)
    return 1 if tally.failures else INTERRUPTED if is_interrupted else 0


def great_loss(seed: int, size: LossSize, report: Path | None) -> int:
    """Returns the exit code."""
    console = Console(highlight=False, soft_wrap=True)
    command = loss_command(seed, size)
    begun_s, begun_cpu_s = time.monotonic(), time.process_time()
    loss = GreatLoss(seed, size)
    phases: list[tuple[Phase, float]] = []
    is_interrupted = False
    try:
        for phase in loss.play():
            phases.append((phase, time.process_time() - begun_cpu_s - sum(cpu_s for _, cpu_s in phases)))
            console.print(phase_line(*phases[-1]), markup=False)
    except KeyboardInterrupt:
        is_interrupted = True
    cpu_s = time.process_time() - begun_cpu_s
    tally, elapsed_s = Tally(), time.monotonic() - begun_s
    tally.add(loss.result())
    console.print(f"{cpu_s:.1f} s of one core, {in_time(elapsed_s)} in all", markup=False)
    for line in tally_lines(tally, elapsed_s):
        console.print(line, markup=False)
    for failure in tally.failures.values():
        console.print(f"\nbroken: {failure.rule}\n  {failure.problem}\n\nagain: {command}", markup=False)
    if report is not None:
        _write(report, loss_report_of(command, tally, [(phase.what, phase.lasted_ms, cpu) for phase, cpu in phases]))
        console.print(f"the report is in {report}", markup=False)
    return 1 if tally.failures else INTERRUPTED if is_interrupted else 0


def _write(path: Path, text: str) -> None:
    """Raises FilorayError."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FilorayError(f"the report cannot be written to {path}: {error}") from None


def _shortest_story(console: Console, shape: HistoryShape, tally: Tally) -> ShortestFailure | None:
    """Of the first that failed."""
    seed, failure = next(iter(tally.failures.items()))
    console.print(f"\nseed {seed} fails: {failure.rule}\n  {failure.problem}", markup=False)
    begun_s = time.monotonic()
    try:
        with console.status("looking for the shortest history that fails so") as status:
            shortest = shrink(
                seed,
                shape,
                lambda runs: status.update(f"looking for the shortest history that fails so: {runs} played"),
            )
    except KeyboardInterrupt:
        console.print(f"again: {replay_command(seed, shape)}", markup=False)
        return None
    if shortest is None:
        console.print("it does not fail when it is played again: something but the seed decides", markup=False)
        return None
    kept = len(shortest.failed.faults)  # the last one chosen may come after it, as faults go on till then
    console.print(
        f"\nIts shortest story, with {kept} of the faults (after {shortest.runs} histories and "
        f"{in_time(time.monotonic() - begun_s)}):",
        markup=False,
    )
    for line in tell(shortest.failed):
        console.print(line, markup=False)
    console.print(f"broken: {shortest.failed.rule}\n  {shortest.failed.problem}", markup=False)
    console.print(f"\nagain: {replay_command(seed, shortest.shape)}", markup=False)
    return shortest


@contextmanager
def _progress(console: Console, count: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, else a line now and then."""
    if not console.is_terminal:
        yield _Lines(console, count).advance
        return
    columns = (TextColumn("histories"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=count)
        yield lambda: progress.advance(task)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.1f}/s")


class _Lines:
    def __init__(self, console: Console, count: int) -> None:
        self._console = console
        self._count = count
        self._done = 0
        self._begun_s = self._said_s = time.monotonic()

    def advance(self) -> None:
        self._done += 1
        now_s = time.monotonic()
        if now_s - self._said_s >= _LINE_EVERY_S and self._done < self._count:
            self._said_s = now_s
            per_s = self._done / (now_s - self._begun_s)
            left = in_time((self._count - self._done) / per_s)
            text = f"{self._done:,} of {self._count:,} histories, {per_s:.1f}/s, {left} left"
            self._console.print(text, markup=False)
