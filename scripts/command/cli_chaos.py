"""``filoray chaos run``: its arguments, and what makes it end with exit code 2 instead of 1."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from filoray.cluster.errors import BadData
from filoray.command import cli_access

_DATA_DIR = Path("data")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="play a scenario",
        description="Play a scenario against a cluster that is started for it and ended after it, against one that "
        "runs (--url), or in the simulator (--simulate). Exit code 0: all that it expects held; 1: it did not; 2: it "
        "cannot be played.",
    )
    run.add_argument("file", type=Path, metavar="FILE", help="the scenario, such as conf/scenarios/killed-node.txt")
    run.add_argument("--simulate", action="store_true", help="in virtual time, by the simulator")
    run.add_argument("--seed", type=int, metavar="S", help="of what is drawn (default: a new one, which is printed)")
    run.add_argument("--report", type=Path, metavar="FILE", help="write a page of what happened (HTML)")
    run.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where the cluster's data are, and stay unless a disk is to be full (default: a temporary directory; "
        "with --url: ./data)",
    )
    cli_access.add_client_options(run)
    run.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from filoray.command.chaos import run

    try:
        return run.run(
            run.ChaosOptions(
                file=options.file,
                is_simulated=options.simulate,
                seed=options.seed,
                report=options.report,
                data_dir=options.data_dir if options.url is None else options.data_dir or _DATA_DIR,
                access=cli_access.client_access_of(options) if options.url is not None else None,
            )
        )
    except BadData as error:
        print(f"filoray: {error.message}", file=sys.stderr)
        return 2
