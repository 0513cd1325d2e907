"""The ``filoray`` command: its parts and their arguments.

Arguments in, exit code out (0 done, 1 it failed and said why, 2 the arguments are wrong). What a command
does lives in a module of its own, imported only when asked for: ``filoray query`` needs no Ray.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from filoray.cluster.errors import FilorayError
from filoray.cluster.units import parse_duration_ms
from filoray.command import cli_access, cli_chaos, cli_nodes
from filoray.command.process_environment import without_proxies

DEFAULT_DATA_DIR = "data"
_INTERVAL_MS_MIN = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = build_parser().parse_args(arguments)
    os.environ.update(without_proxies(os.environ, ()))
    try:
        return int(options.run(options) or 0)
    except FilorayError as error:
        print(f"filoray: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("filoray: interrupted", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="filoray", description="FiloDB in Python on Ray.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_up(commands.add_parser("up", help="start a cluster and return when it is ready"))
    _add_down(commands.add_parser("down", help="stop the cluster of a data directory"))
    _add_status(commands.add_parser("status", help="show members, data sets and shards"))
    _add_top(commands.add_parser("top", help="look on at nodes, shards, rates and lag as they change"))
    _add_query(commands.add_parser("query", help="ask a PromQL query"))
    _add_write_demo(commands.add_parser("write-demo", help="write generated metrics"))
    hashing = commands.add_parser("password-hash", help="hash a password for basic_auth_users")
    hashing.set_defaults(run=lambda _: cli_access.password_hash())
    token = commands.add_parser("new-token", help="make a bearer token, and its hash for filoray.tokens")
    token.set_defaults(run=lambda _: cli_access.new_token())
    _add_simulate(commands.add_parser("simulate", help="play random histories of simulated clusters"))
    cli_chaos.add_arguments(commands.add_parser("chaos", help="break a cluster by a scenario, and check it"))
    cli_nodes.add_commands(commands)
    _add_scale(commands.add_parser("scale", help="have more or fewer nodes while the cluster runs"))
    _add_tsdb(commands.add_parser("tsdb", help="look into, check, export and import stored data"))
    return parser


def _add_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nodes", type=_positive, metavar="N", help="how many nodes (default: 3)")
    parser.add_argument("--http-port", type=_port, metavar="PORT", help="first gateway's port; the next follow (8080)")
    parser.add_argument(
        "--node-port", type=_port, metavar="PORT", help="first node's data port (2552, or free ones near)"
    )
    _add_data_dir(parser)
    parser.add_argument("--config", type=Path, metavar="FILE", help="HOCON file over conf/filoray-defaults.conf")
    parser.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of conf/filoray-defaults.conf, such as query.timeout=30s, over what --config says; may come again",
    )
    parser.add_argument("--address", metavar="RAY", help="join this Ray cluster instead of starting one")
    parser.add_argument("--demo", action="store_true", help="set up the demo data set and feed it generated metrics")
    parser.set_defaults(run=_up)


def _add_down(parser: argparse.ArgumentParser) -> None:
    _add_data_dir(parser)
    parser.set_defaults(run=_down)


def _add_scale(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("nodes", type=_positive, metavar="N", help="how many nodes there are to be")
    _add_data_dir(parser)
    parser.set_defaults(run=_scale)


def _add_status(parser: argparse.ArgumentParser) -> None:
    cli_access.add_client_options(parser)
    _add_data_dir(parser)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=_status)


def _add_top(parser: argparse.ArgumentParser) -> None:
    cli_access.add_client_options(parser)
    parser.add_argument(
        "--interval", type=_interval_s, default=1.0, metavar="DURATION", help="between two looks, such as 500ms (1s)"
    )
    parser.add_argument("--once", action="store_true", help="print one view; so it is where the output is no terminal")
    parser.set_defaults(run=_top)


def _add_query(parser: argparse.ArgumentParser) -> None:
    cli_access.add_client_options(parser)
    parser.add_argument("promql")
    parser.add_argument("--dataset", metavar="NAME", help="default: the gateway's own choice")
    parser.add_argument("--start", metavar="TIME", help="unix seconds or RFC 3339; makes it a range query")
    parser.add_argument("--end", metavar="TIME", help="of the range (default: now)")
    parser.add_argument("--step", default="15s", metavar="DURATION", help="of the range (15s)")
    parser.add_argument("--time", metavar="TIME", help="of an instant query (default: now)")
    parser.set_defaults(run=_query)


def _add_write_demo(parser: argparse.ArgumentParser) -> None:
    cli_access.add_client_options(parser)
    parser.add_argument("--dataset", default="timeseries", metavar="NAME")
    parser.add_argument("--instances", type=_positive, default=20, metavar="N", help="generated targets (20)")
    parser.add_argument("--minutes", type=_positive, default=60, metavar="N", help="how far back the data start (60)")
    parser.add_argument("--follow", action="store_true", help="go on with a new sample every 15 s until stopped")
    parser.set_defaults(run=_write_demo)


def _add_tsdb(parser: argparse.ArgumentParser) -> None:
    from filoray.command import cli_tsdb

    cli_tsdb.add_arguments(parser)


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    from filoray.command import cli_simulate

    cli_simulate.add_arguments(parser)


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help=f"where everything is kept (./{DEFAULT_DATA_DIR})")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")
    return int(text)


def _interval_s(text: str) -> float:
    try:
        interval_ms = parse_duration_ms(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if interval_ms < _INTERVAL_MS_MIN:
        raise argparse.ArgumentTypeError(f"{text!r} is below {_INTERVAL_MS_MIN} ms")
    return interval_ms / 1000


def _setting(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    key = key.strip().removeprefix("filoray.")
    if not sign or not all(key.split(".")):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE, such as http.port=9090")
    return key, value.strip()


def _up(options: argparse.Namespace) -> int:
    from filoray.command import launcher

    return launcher.up(
        launcher.LaunchOptions(
            node_count=options.nodes,
            http_port=options.http_port,
            node_port=options.node_port,
            data_dir=options.data_dir,
            config_path=options.config,
            ray_address=options.address,
            demo=options.demo,
            settings=dict(options.set),
        )
    )


def _down(options: argparse.Namespace) -> int:
    from filoray.command import launcher

    return launcher.down(options.data_dir or Path(DEFAULT_DATA_DIR))


def _scale(options: argparse.Namespace) -> int:
    from filoray.command import scale

    return scale.scale(options.data_dir or Path(DEFAULT_DATA_DIR), options.nodes)


def _status(options: argparse.Namespace) -> int:
    from filoray.command import cluster_status

    access = cli_access.client_access_of(options)
    return cluster_status.status(access, options.data_dir or Path(DEFAULT_DATA_DIR), as_json=options.json)


def _top(options: argparse.Namespace) -> int:
    from filoray.command import top

    return top.top(cli_access.client_access_of(options), options.interval, once=options.once)


def _query(options: argparse.Namespace) -> int:
    from filoray.command import cli_client

    return cli_client.query(
        cli_access.client_access_of(options),
        options.promql,
        options.dataset,
        options.time,
        options.start,
        options.end,
        options.step,
    )


def _write_demo(options: argparse.Namespace) -> int:
    from filoray.command import demo

    access = cli_access.client_access_of(options)
    return demo.write_demo(access, options.dataset, options.instances, options.minutes, follow=options.follow)


if __name__ == "__main__":
    sys.exit(main())
