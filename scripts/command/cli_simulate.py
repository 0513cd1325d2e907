"""``filoray simulate``: what its arguments are; ``filoray.command.simulate`` does the work."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from filoray.cluster.config.dataset import MAX_SHARDS, NUM_REPLICAS_MAX
from filoray.cluster.simulation.faults import TROUBLES

_HISTORIES = 100
_SHARDS = 4
_MINUTES = 1.0
_NODES_MAX = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Plays random histories of whole clusters in one process and virtual time: the cores that run in a real "
        "cluster, over simulated processes, messages and stores, of which everything goes wrong that can. A seed "
        "decides everything. Exit code: 0 all went well, 1 a history failed, 130 interrupted."
    )
    parser.add_argument("--nodes", type=_number_to(_NODES_MAX), metavar="N", help="nodes of each cluster (1 to 5)")
    parser.add_argument(
        "--shards", type=_power_of_two, default=_SHARDS, metavar="S", help=f"of a data set, a power of two ({_SHARDS})"
    )
    parser.add_argument(
        "--replicas",
        type=_number_to(NUM_REPLICAS_MAX),
        default=1,
        metavar="N",
        help="copies of each shard, as far as there are nodes for them (1)",
    )
    parser.add_argument(
        "--database",
        action="store_true",
        help="shards in a database that all nodes reach, and a second coordinator that may lead: copies are in memory",
    )
    parser.add_argument(
        "--faults", type=_count, metavar="F", help="how many in each history (as many as --minutes has)"
    )
    parser.add_argument(
        "--minutes", type=_minutes, metavar="M", help="for how long faults come, in the cluster's time (1, or --faults)"
    )
    parser.add_argument("--seed", type=_count, default=0, metavar="SEED", help="of the first history (0)")
    parser.add_argument(
        "--histories", type=_number_to(10**9), metavar="H", help=f"how many, each with the next seed ({_HISTORIES})"
    )
    parser.add_argument("--processes", type=_number_to(1024), default=1, metavar="P", help="that play them (1)")
    parser.add_argument("--keep-going", action="store_true", help="do not end at the first history that fails")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write what came out as one HTML file")
    parser.add_argument(
        "--only-faults", type=_numbers, metavar="NUMBERS", help="of those drawn, let only these happen, such as 3,7"
    )
    parser.add_argument(
        "--without",
        type=_troubles,
        default=frozenset(),
        metavar="TROUBLES",
        help=f"whatever is drawn, none of these: all, or some of {', '.join(map(_hyphened, TROUBLES))}",
    )
    parser.add_argument(
        "--lose",
        type=_number_to(_NODES_MAX),
        metavar="K",
        help="instead: one cluster of --nodes and --shards, however large, of which K nodes are killed, half of them "
        "at once and the others one after another",
    )
    parser.set_defaults(run=lambda options: _run(parser, options))


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    from filoray.cluster.simulation.great_loss import LossSize
    from filoray.cluster.simulation.history import HistoryShape
    from filoray.command import simulate

    if options.lose is not None:
        if options.nodes is None or options.nodes <= options.lose:
            parser.error("--lose needs --nodes, and more of them than are lost")
        if (options.faults, options.minutes, options.histories, options.only_faults) != (None,) * 4 or options.without:
            parser.error(
                "--lose has its own faults: only --nodes, --shards, --replicas, --database, --seed and --report go "
                "with it"
            )
        size = LossSize(options.nodes, options.shards, options.lose, options.replicas, options.database)
        return simulate.great_loss(options.seed, size, options.report)
    minutes = options.minutes
    if minutes is None and options.faults is None:
        minutes = _MINUTES
    shape = HistoryShape(
        duration_ms=None if minutes is None else round(minutes * 60_000),
        node_count=options.nodes,
        num_shards=options.shards,
        faults_max=options.faults,
        chosen_faults=options.only_faults,
        without=options.without,
        num_replicas=options.replicas,
        has_standby=options.database,
    )
    seeds = range(options.seed, options.seed + (options.histories or _HISTORIES))
    return simulate.random_histories(
        shape, seeds, options.processes, options.report, ends_at_failure=not options.keep_going
    )


def _number_to(largest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not 0 < int(text) <= largest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {largest}")
        return int(text)

    return number


def _power_of_two(text: str) -> int:
    number = _number_to(MAX_SHARDS)(text)
    if number & (number - 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a power of two")
    return number


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above 0")
    return minutes


def _numbers(text: str) -> frozenset[int]:
    return frozenset(_count(number) for number in text.split(",") if number)


def _troubles(text: str) -> frozenset[str]:
    if text == "all":
        return frozenset(TROUBLES)
    names = frozenset(name.replace("-", "_") for name in text.split(",") if name)
    for name in sorted(names - set(TROUBLES)):
        raise argparse.ArgumentTypeError(f"{_hyphened(name)!r} is none of {', '.join(map(_hyphened, TROUBLES))}")
    return names


def _hyphened(name: str) -> str:
    return name.replace("_", "-")
