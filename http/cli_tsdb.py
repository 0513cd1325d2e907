"""``filoray tsdb``: arguments in, exit code out. The work is done in ``filoray.nodes.tsdb_tools``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the tools to the ``filoray tsdb`` parser; each sets ``run``, which takes the parsed options."""
    tools = parser.add_subparsers(required=True, metavar="TOOL")
    verify = tools.add_parser("verify", help="check every shard file of a data directory")
    _add_directory(verify)
    verify.set_defaults(run=_verify)


def _add_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="a cluster's data directory")
    parser.add_argument("--dataset", metavar="NAME", help="only this data set (default: all)")


def _verify(options: argparse.Namespace) -> int:
    from filoray.nodes.tsdb_tools.shard_files import find_shard_files
    from filoray.nodes.tsdb_tools.verify import verify_shard_file

    damaged_count = 0
    for file in find_shard_files(options.directory, options.dataset):
        report = verify_shard_file(file)
        damaged_count += bool(report.problems)
        print(f"{file.path}: {'damaged' if report.problems else 'sound'}")
        for problem in report.problems:
            print(f"  {problem}")
    return 1 if damaged_count else 0
