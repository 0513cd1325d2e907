"""Keys of the data plane's sockets: who may speak to a node, and how both sides know it (CURVE, as libzmq has it).

Every node incarnation makes a pair of its own; its secret half never leaves the process. All gateways of a cluster
share one pair, made once, kept in the MetaStore and handed out by the coordinator: the public half to the nodes, which
answer nobody else, the whole pair to the gateways with each ClusterView. Keys are Z85 text, 40 bytes.
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
