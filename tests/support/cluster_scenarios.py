"""Cluster scenarios as text; each finds a data set of four shards, all Active, on three nodes."""

from __future__ import annotations

DATASET = """
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
    "a coordinator that did not run for a while blames nobody": """
        hang coordinator
        wait 6s
        resume coordinator
        wait 1s
        expect all Active within 5ms
        expect node 0 up within 5ms
        expect node 1 up within 5ms
        expect node 2 up within 5ms
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
