"""Makes the gateways' actors: the launcher the first ones, the coordinator those that must be elsewhere.

The class is imported by its path, where an actor is made, as the control plane does not know the gateways' code.
"""

from __future__ import annotations

import importlib
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from filoray.cluster.actor_names import gateway_name
from filoray.cluster.config.server_config import ServerConfig

_CLASS_PATH = "filoray.http.server.gateway.Gateway"
_CONCURRENCY = 4  # a call that waits for the server to start must not keep views waiting


def make_gateway(config: ServerConfig, index: int, machine: str) -> ActorHandle[Any]:
    """On the machine of that id (Ray's); it begins to serve by itself. Raises ValueError if its name is in use."""
    module, _, class_name = _CLASS_PATH.rpartition(".")
    actor_class: Any = ray.remote(getattr(importlib.import_module(module), class_name))
    options = actor_class.options(
        name=gateway_name(index), namespace=config.namespace, lifetime="detached", num_cpus=0, max_restarts=-1,
        max_concurrency=_CONCURRENCY, scheduling_strategy=only_on(machine),
    )  # fmt: skip
    handle: ActorHandle[Any] = options.remote(index, config)
    return handle


def only_on(machine: str) -> NodeAffinitySchedulingStrategy:
    """Nowhere else, ever: Ray forgets softer wishes."""
    return NodeAffinitySchedulingStrategy(machine, soft=False)
