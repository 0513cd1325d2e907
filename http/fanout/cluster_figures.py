"""The figures of a whole cluster at one moment, as ``GET /admin/figures`` tells them, and read back from its JSON.

Nothing is computed here: counters come as they were read, each with the time of its process (``process.uptime_ms``), so
that whoever has two answers has rates. What ought to be there and does not answer is named with the reason, never left
out. Fields keep their names in JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, TypeVar

from filoray.cluster.errors import BadData
from filoray.cluster.process.process_figures import ProcessFigures
from filoray.nodes.data.node_figures import CopyFigures, FollowerFigures, NodeFigures, RequestFigures, ShardFigures

T = TypeVar("T")


class Presence(StrEnum):
    UP = "up"
    AWAY = "away"
    """There is nobody, or nobody who can be reached."""
    SILENT = "silent"
    """Somebody is there, and gave no answer within the deadline: hung, stopped, or very busy."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a process answered. ``problem``: "" of one that is up.

    ``problem_ms``: for how long it has been so, as far as the gateway that was asked knows; 0 of one that is up.
    """

    presence: Presence
    problem: str = ""
    problem_ms: int = 0


@dataclass(frozen=True, slots=True)
class GatewayFigures:
    """What a gateway says of itself. Counts of queries that were answered, well or with an error, since it started."""

    url: str
    process: ProcessFigures
    queries_answered: int
    queries_running: int
    queries_waiting: int


@dataclass(frozen=True, slots=True)
class GatewayReading:
    """``figures``: None of one that gave no answer."""

    gateway: str
    standing: Standing
    figures: GatewayFigures | None = None


@dataclass(frozen=True, slots=True)
class NodeReading:
    """``address`` and ``incarnation`` are the view's: "" and 0 of a node that is no member now.

    ``is_drained``: it is to have no shards.
    """

    node: str
    standing: Standing
    address: str = ""
    incarnation: int = 0
    is_drained: bool = False
    figures: NodeFigures | None = None


@dataclass(frozen=True, slots=True)
class ShardReading:
    """What the gateway's view says: ``node`` is the owner, None while there is none. Figures are with their node.

    ``reason``: why, of one in Error.
    """

    shard: int
    status: str
    reason: str
    node: str | None
    epoch: int


@dataclass(frozen=True, slots=True)
class DatasetReading:
    """``num_replicas``: how many copies of each shard there are to be."""

    dataset: str
    num_replicas: int
    shards: tuple[ShardReading, ...]


@dataclass(frozen=True, slots=True)
class ClusterFigures:
    """``cluster``: its name. ``gateway``: who was asked, at ``time_ms`` of its calendar."""

    cluster: str
    gateway: str
    time_ms: int
    coordinator: Standing
    gateways: tuple[GatewayReading, ...]
    nodes: tuple[NodeReading, ...]
    datasets: tuple[DatasetReading, ...]


def read_cluster_figures(plain: object) -> ClusterFigures:
    """From decoded JSON. Fields that are not known here are left out. Raises BadData for what has no such form."""
    try:
        return _cluster_figures(plain)
    except (KeyError, TypeError, ValueError) as error:
        raise BadData(f"these are no figures that this version reads: {type(error).__name__}: {error}") from None


def _cluster_figures(plain: Any) -> ClusterFigures:
    return ClusterFigures(
        str(plain["cluster"]),
        str(plain["gateway"]),
        int(plain["time_ms"]),
        _standing(plain["coordinator"]),
        tuple([_gateway(one) for one in plain["gateways"]]),
        tuple([_node(one) for one in plain["nodes"]]),
        tuple([
            _record(DatasetReading, one, shards=tuple([_record(ShardReading, shard) for shard in one["shards"]]))
            for one in plain["datasets"]
        ]),
    )  # fmt: skip


def _standing(plain: Any) -> Standing:
    return Standing(Presence(plain["presence"]), str(plain["problem"]), int(plain["problem_ms"]))


def _gateway(plain: Any) -> GatewayReading:
    figures = plain["figures"]
    if figures is not None:
        figures = _record(GatewayFigures, figures, process=_record(ProcessFigures, figures["process"]))
    return GatewayReading(str(plain["gateway"]), _standing(plain["standing"]), figures)


def _node(plain: Any) -> NodeReading:
    figures = plain["figures"]
    if figures is not None:
        figures = _record(
            NodeFigures,
            figures,
            process=_record(ProcessFigures, figures["process"]),
            requests=_record(RequestFigures, figures["requests"]),
            shards=tuple([_shard(shard) for shard in figures["shards"]]),
            copies=tuple([_record(CopyFigures, copy) for copy in figures["copies"]]),
        )
    standing = _standing(plain["standing"])
    return _record(NodeReading, plain, standing=standing, figures=figures)


def _shard(plain: Any) -> ShardFigures:
    followers = tuple([_record(FollowerFigures, follower) for follower in plain["followers"]])
    return _record(ShardFigures, plain, followers=followers)


def _record(kind: type[T], plain: Mapping[str, Any], **read: object) -> T:
    """``read``: fields that are records themselves."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: read[name] if name in read else plain[name] for name in names})
