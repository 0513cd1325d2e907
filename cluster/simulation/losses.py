"""What may be lost of a simulated cluster so that nothing that was acknowledged is lost with it."""

from __future__ import annotations

from collections.abc import Collection

from filoray.cluster.simulation.simulated_actors import Surroundings


def loss_problem(around: Surroundings, names: Collection[str]) -> str:
    """Why the copies of the nodes of those names must not be lost together, or "".

    Of each shard another copy that is in sync must be left, on a node that is to keep it, and still be in sync when
    what its leader proposes, and the coordinator may hear of when that is gone, was taken.
    """
    gone = {*names, *around.drained, *around.scaled_away}
    for stored in [stored for name in names for stored in around.files.copies_on(name)]:
        processes = [node for process, node in around.nodes.items() if process[0] in names]
        leaders = [node.copies.leader(stored[:2]) for node in processes]
        proposed = [nodes for leader in leaders if leader is not None for nodes in leader.core.proposed]
        for nodes in (around.store.durable_in_sync(stored[:3]), *proposed):
            others = [node for node in nodes if node not in gone and (*stored[:3], node) in around.files]
            if stored[3] in nodes and not others:
                return f"no other copy of {stored[:2]} is in sync"
    return ""
