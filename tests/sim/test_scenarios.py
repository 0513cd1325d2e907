"""Cluster scenarios as text, in virtual time."""

from __future__ import annotations

import pytest
from cluster_scenarios import DATASET, SCENARIOS

from filoray.cluster.errors import BadData
from filoray.cluster.simulation.cluster import SimulatedCluster
from filoray.cluster.simulation.scenario import ScenarioFailed, parse_scenario, run_scenario

SETUP = f"""
nodes 3
wait 6s
{DATASET}
"""


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("seed", range(3))
def test_scenario(name: str, seed: int) -> None:
    node_count, steps = parse_scenario(SETUP + SCENARIOS[name])
    run_scenario(steps, SimulatedCluster(seed, node_count))


def test_an_expectation_that_fails_says_what_was_seen() -> None:
    node_count, steps = parse_scenario(
        "nodes 1\nwait 9s\ndataset one shards 2 min-nodes 2\nexpect all Active within 1s"
    )
    with pytest.raises(ScenarioFailed, match=r"line 4: expect all Active within 1s: seen .*Unassigned"):
        run_scenario(steps, SimulatedCluster(1, node_count))


@pytest.mark.parametrize(
    "text", ["", "kill node 1", "nodes 3\nkill everything", "nodes 3\nexpect shard 1 Fine within 2s"]
)
def test_a_line_that_is_no_step_is_named(text: str) -> None:
    with pytest.raises(BadData, match="line"):
        parse_scenario(text)
