"""The scenarios of ``conf/scenarios``, and playing one in the simulator."""

from __future__ import annotations

import re
from pathlib import Path

from filoray.cluster.chaos.injector import FaultInjector
from filoray.cluster.chaos.language import Scenario, parse_scenario
from filoray.cluster.chaos.playing import Failure, Player, Record
from filoray.cluster.chaos.worlds import Stage, World, refusals
from filoray.cluster.simulation.scenario_driver import SimulatedScenarioDriver

FILES = sorted((Path(__file__).resolve().parents[2] / "conf" / "scenarios").glob("*.txt"))
_LONG = re.compile(r"for 10m:")


def short_form(path: Path, duration: str) -> str:
    """The text, in which what goes on for ten minutes goes on for ``duration``."""
    return _LONG.sub(f"for {duration}:", path.read_text())


def simulated_stage(scenario: Scenario) -> Stage:
    return Stage(World.SIMULATED, {}, scenario.has_own_machines)


def plays_in(world: World, path: Path) -> bool:
    """Where nothing is lacking."""
    scenario = parse_scenario(path.read_text())
    return not refusals(scenario, Stage(world, {}, scenario.has_own_machines))


def play_simulated(text: str, seed: int) -> tuple[Failure | None, Record]:
    scenario, record = parse_scenario(text), Record()
    stage = simulated_stage(scenario)
    assert refusals(scenario, stage) == []
    driver = SimulatedScenarioDriver(scenario, seed, record)
    injector = FaultInjector(seed, scenario.node_count, stage, has_copies=scenario.has_copies)
    return Player(scenario, driver, record, injector).play(), record
