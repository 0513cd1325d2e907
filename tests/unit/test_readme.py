"""README.md tells of what there is: every endpoint, every option."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from in_process_gateway import Control, Figures, Queries, Writes

from filoray.cluster.config.server_config import default_server_config
from filoray.command.cli import build_parser
from filoray.http.remote.remote_write import RemoteWriteDecoder
from filoray.http.server.application import build_application
from filoray.http.server.gateway_services import GatewayServices

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text()
DATASET_PREFIX, PREFIX = "/promql/{dataset}/api/v1/", "/api/v1/"
PROGRAMS_OPTIONS = {"--data-urlencode", "--data", "--data-binary"}
"""Of curl."""


def served() -> set[tuple[str, str]]:
    """(method, pattern) of every endpoint; GET has HEAD with it, and pages may ask with OPTIONS before."""
    config = default_server_config()
    decoder = RemoteWriteDecoder(config.write)
    queries = Queries()
    application = build_application(GatewayServices(queries, queries, Writes(), Control(), config, decoder, Figures()))
    return {
        (route.method, route.resource.canonical)
        for route in application.router.routes()
        if route.resource is not None and route.method not in ("HEAD", "OPTIONS")
    }


def told() -> Iterator[tuple[str, str]]:
    """Of the table: in a row, what does not begin with a slash is in the folder of the first."""
    table = re.search(r"\| endpoint \| by \| what \|\n\| --- .*\n((?:\|.*\n)+)", TEXT)
    assert table is not None
    for row in table[1].splitlines():
        endpoints, methods = row.split("|")[1:3]
        first, *others = re.findall(r"`([^`]+)`", endpoints)
        if first == f"{PREFIX}…":
            continue  # what is below the prefix with a data set is below this one too
        for method in methods.strip().split(", "):
            yield method, first
            yield from ((method, first.rpartition("/")[0] + "/" + other) for other in others)


def test_every_endpoint_is_told_of_and_no_other() -> None:
    in_table = list(told())
    assert len(in_table) == len(set(in_table)), "an endpoint stands there twice"
    undirected = {(method, path.replace(DATASET_PREFIX, PREFIX)) for method, path in in_table}
    assert {*in_table, *undirected} == served()


def parsers(parser: argparse.ArgumentParser, name: str = "filoray") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, below in action.choices.items():
                yield from parsers(below, f"{name} {command}")


PARSERS = dict(parsers(build_parser()))


def options(name: str) -> set[str]:
    return {text for action in PARSERS[name]._actions for text in action.option_strings if text.startswith("--")}


def test_every_option_of_a_launch_is_told_of() -> None:
    assert [option for option in options("filoray up") - {"--help"} if option not in TEXT] == []


def test_every_option_that_is_told_of_is_there() -> None:
    known = set().union(*map(options, PARSERS)) | PROGRAMS_OPTIONS
    named = set(re.findall(r"(?<![\w.-])--[a-z][a-z-]*[a-z]\b", TEXT))
    assert "--set" in named
    assert sorted(named - known) == []


def test_every_command_that_is_told_of_is_there() -> None:
    named = re.findall(r"\bfiloray (up|down|[a-z-]+)(?= --|`| ')", TEXT)
    assert "status" in named
    assert [command for command in named if f"filoray {command}" not in PARSERS] == []
    tools = re.search(r"\| command \| what \|\n\| --- .*\n((?:\|.*\n)+)", TEXT)
    assert tools is not None
    quoted = [text for row in tools[1].splitlines() for text in re.findall(r"`([^`]+)`", row.split("|")[1])]
    first_words = [text.split()[0] for text in quoted]
    told_tools = {f"filoray tsdb {word}" for word in first_words if not word.startswith("--")}
    assert told_tools == {name for name in PARSERS if name.startswith("filoray tsdb ")}
