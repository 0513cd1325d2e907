"""The command line's part that moves shards and replaces nodes: ``drain``, ``undrain``, ``move``, ``restart``."""

from __future__ import annotations

import argparse

from filoray.command import cli_access


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    drain = commands.add_parser("drain", help="move all shards off a node, and give it none")
    _add_node(drain)
    drain.set_defaults(run=_drain)
    undrain = commands.add_parser("undrain", help="let a drained node have shards again")
    _add_node(undrain)
    undrain.set_defaults(run=_undrain)
    move = commands.add_parser("move", help="move a shard to another node")
    move.add_argument("dataset")
    move.add_argument("shard", type=int)
    _add_node(move)
    move.set_defaults(run=_move)
    restart = commands.add_parser("restart", help="replace every node's process, one after the other")
    restart.add_argument(
        "--rolling", action="store_true", required=True, help="each node is drained, replaced and refilled in turn"
    )
    cli_access.add_client_options(restart)
    restart.set_defaults(run=_restart)


def _add_node(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", help="its name, such as node-1")
    cli_access.add_client_options(parser)


def _drain(options: argparse.Namespace) -> int:
    from filoray.command import node_orders

    return node_orders.drain(cli_access.client_access_of(options), options.node)


def _undrain(options: argparse.Namespace) -> int:
    from filoray.command import node_orders

    return node_orders.undrain(cli_access.client_access_of(options), options.node)


def _move(options: argparse.Namespace) -> int:
    from filoray.command import node_orders

    return node_orders.move(cli_access.client_access_of(options), options.dataset, options.shard, options.node)


def _restart(options: argparse.Namespace) -> int:
    from filoray.command import node_orders

    return node_orders.restart(cli_access.client_access_of(options))
