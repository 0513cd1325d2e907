"""Keys of the data plane's sockets: who may speak to a node, and how both sides know it (CURVE, as libzmq has it).

Every node incarnation makes a pair of its own; its secret half never leaves the process. All who ask nodes share one
pair, made once, kept in the MetaStore and handed out by the coordinator: gateways get it with each ClusterView, nodes,
which ask the followers of the shards that they lead, when they are launched. Nodes answer nobody else. Keys are Z85
text, 40 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import zmq


@dataclass(frozen=True, slots=True)
class KeyPair:
    """``secret`` is kept out of every log."""

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> KeyPair:
        return cls(*zmq.curve_keypair())
