"""Cluster scenarios as text, in virtual time."""

from __future__ import annotations

import pytest

from filoray.cluster.errors import BadData
from filoray.cluster.scenario import ScenarioFailed, parse_scenario, run_scenario
from filoray.cluster.simulator import SimulatedCluster

SETUP = """
nodes 3
wait 6s
dataset timeseries shards 4 min-nodes 2
expect all Active within 2s
"""

SCENARIOS = {
    "a killed node's shards move to nodes with room, and it returns": """
        kill node 0
        expect shard 0 Down within 1s
        expect all Active within 2s
        expect node 0 up within 10s
        """,
    "without room shards wait, visibly, for the node to return": """
        kill node 0
        kill node 1
        expect all Active within 20s
        expect node 0 up within 10s
        """,
    "a hung node is given up": """
        hang node 1
        expect shard 1 Down within 4s
        expect all Active within 3s
        expect node 1 up within 10s
        """,
    "a short hang does no harm": """
        hang node 1
        wait 500ms
        resume node 1
        wait 3s
        expect all Active within 5ms
        """,
    "a coordinator that returns disturbs nothing": """
        kill coordinator
        wait 1s
        expect all Active within 5ms
        expect node 0 up within 5s
        expect all Active within 5ms
        """,
    "a node that dies while there is no coordinator": """
        kill coordinator
        kill node 2
        expect all Active within 10s
        expect node 2 up within 10s
        """,
    "an operator moves a shard": """
        stop shard 3
        expect shard 3 Stopped within 1s
        kill node 0
        wait 5s
        expect shard 3 Stopped within 5ms
        start shard 3 on node 2
        expect all Active within 10s
        """,
    "a dataset comes anew after it was deleted": """
        delete dataset timeseries
        wait 1s
        dataset timeseries shards 8 min-nodes 1
        expect shard 7 Active within 2s
        """,
}


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
