"""Plays one scenario file from beginning to end, and tells of it: in the terminal, and in a report."""

from __future__ import annotations

import contextlib
import random
import shlex
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from filoray.cluster.chaos.driver import ScenarioDriver
from filoray.cluster.chaos.injector import FaultInjector
from filoray.cluster.chaos.language import Scenario, parse_scenario
from filoray.cluster.chaos.playing import Player, Record
from filoray.cluster.chaos.timeline import Mark
from filoray.cluster.chaos.worlds import Need, Stage, Word, World, draws_faults, refusals, words_needed
from filoray.cluster.errors import BadData, FilorayError
from filoray.cluster.simulation.scenario_driver import SimulatedScenarioDriver
from filoray.command.chaos.cluster_access import ClusterAccess, running_cluster
from filoray.command.chaos.findings import Played, print_findings
from filoray.command.chaos.own_cluster import own_cluster
from filoray.command.chaos.real_driver import RealScenarioDriver
from filoray.command.chaos.report import report_page
from filoray.command.chaos.small_disk import SmallDisk, mount_problem
from filoray.command.client_access import ClientAccess
from filoray.command.cluster_start import undo_when_interrupted
from filoray.command.launch_state import LaunchState

console = Console(highlight=False, soft_wrap=True)

_SEEDS = 1_000_000
_OWN_DISK_ONLY = "a disk is filled for a cluster that is started for the scenario only, not for one that runs (--url)"
_JOINED_RAY = "the cluster is on a Ray that was there before, whose raylet is not its own"


@dataclass(frozen=True, slots=True)
class ChaosOptions:
    """``access``: to a cluster that runs already, on ``data_dir``. ``seed`` None: a new one."""

    file: Path
    is_simulated: bool = False
    seed: int | None = None
    report: Path | None = None
    data_dir: Path | None = None
    access: ClientAccess | None = None


def run(options: ChaosOptions) -> int:
    """0: all that was expected held; 1: not. Raises BadData, before anything is started, for what cannot be played."""
    scenario = _read(options.file)
    stage = _stage(scenario, options)
    if problems := refusals(scenario, stage):
        raise BadData(f"{options.file}: " + "\n".join(problems))
    seed = random.SystemRandom().randrange(_SEEDS) if options.seed is None else options.seed
    injector = FaultInjector(seed, scenario.node_count, stage, has_copies=scenario.has_copies)
    record = Record()
    console.print(f"{options.file} by {stage.world.value}, seed {seed}")
    undo_when_interrupted()
    words = words_needed(scenario) | (injector.words if draws_faults(scenario) else set())
    with _driver(scenario, seed, record, options, words) as driver:
        failure = Player(scenario, driver, record, injector, _print_mark).play()
        if isinstance(driver, RealScenarioDriver) and options.access is not None:
            driver.tidy_up()
    played = Played(
        options.file.name, stage.world, seed, _replay(options, seed), failure, record.timeline, record.verdicts()
    )
    print_findings(console, played)
    if options.report is not None:
        _write(options.report, report_page(played))
    return 1 if failure is not None else 0


def _read(file: Path) -> Scenario:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"{file} cannot be read: {error}") from None
    try:
        return parse_scenario(text)
    except BadData as error:
        raise BadData(f"{file}: {error.message}") from None


def _stage(scenario: Scenario, options: ChaosOptions) -> Stage:
    if options.is_simulated:
        if options.access is not None:
            raise BadData("--simulate and --url: a scenario is played in one world")
        return Stage(World.SIMULATED, {}, scenario.has_own_machines)
    lacking = {}
    if options.access is not None:
        lacking[Need.SMALL_DISK] = _OWN_DISK_ONLY
        if options.data_dir is not None and (state := LaunchState.read(options.data_dir)) and state.ray is None:
            lacking[Need.OWN_RAY] = _JOINED_RAY
    elif problem := mount_problem():
        lacking[Need.SMALL_DISK] = f"no small file system can be mounted on this machine: {problem}"
    return Stage(World.REAL, lacking, scenario.has_own_machines)


@contextlib.contextmanager
def _driver(
    scenario: Scenario, seed: int, record: Record, options: ChaosOptions, words: Set[Word]
) -> Iterator[ScenarioDriver]:
    if options.is_simulated:
        yield SimulatedScenarioDriver(scenario, seed, record)
        return
    disk = SmallDisk() if Word.FULL_DISK in words else None
    with (
        _cluster(scenario, options, disk) as cluster,
        RealScenarioDriver(cluster, scenario.node_count, record, disk) as driver,
    ):
        yield driver


@contextlib.contextmanager
def _cluster(scenario: Scenario, options: ChaosOptions, disk: SmallDisk | None) -> Iterator[ClusterAccess]:
    if options.access is not None and options.data_dir is not None:
        yield running_cluster(options.access, options.data_dir.resolve(), scenario.node_count)
        return
    console.print(f"starting a cluster of {scenario.node_count} nodes")
    with own_cluster(scenario.node_count, options.data_dir, disk) as cluster:
        yield cluster


def _replay(options: ChaosOptions, seed: int) -> str:
    """The command that plays the same faults again."""
    words = ["filoray", "chaos", "run", str(options.file), "--seed", str(seed)]
    words += ["--simulate"] if options.is_simulated else []
    if options.access is not None:
        words += ["--url", options.access.url, "--data-dir", str(options.data_dir)]
    return shlex.join(words)


def _print_mark(mark: Mark) -> None:
    console.print(str(mark), style="red" if mark.is_failure else "yellow" if mark.remark else None)


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, "utf-8")
    except OSError as error:
        raise FilorayError(f"the report cannot be written: {error}") from None
    console.print(f"report: {path}")
