"""What the code, its documentation and its tests call by name is there: modules, what is in them, and files."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from filoray.cluster.config.dataset import SOURCE_FACTORIES
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.config.setting import declared_settings

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"cluster": "cluster", "nodes": "nodes", "http": "http", "command": "scripts/command", "conf": "conf"}
FOLDERS = ("cluster", "nodes", "http", "scripts", "conf", "tests")
SUFFIXES = ("py", "md", "conf", "sh", "toml", "html", "ts", "css", "yml")

# With a hyphen it is a setting's key, which test_settings.py looks for.
_DOTTED = re.compile(r"\bfiloray(?:\.[A-Za-z_]\w*)++(?!-)")
_QUOTED_DOTTED = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+)`")
_PATH = re.compile(rf"(?<![\w/.{{}}*-])((?:{'|'.join(FOLDERS)})/[\w./-]*\w\.(?:{'|'.join(SUFFIXES)}))\b")
_QUOTED_FILE = re.compile(rf"`((?:[\w-]+/)*[\w-]+\.(?:{'|'.join(SUFFIXES)}))`")

SETTINGS = {f"filoray.{declared.key}" for declared in declared_settings(ServerConfig)}
SETTINGS |= {key.rpartition(".")[0] for key in SETTINGS}
NO_NAMES_OF_OURS = {
    "filoray.example.org",  # a host
    "filoray.tokens",  # of the web configuration
}


def texts(folders: Sequence[str] = FOLDERS) -> Iterator[tuple[str, str]]:
    """Place and text."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix.removeprefix(".") in SUFFIXES and "node_modules" not in path.parts:
                yield str(path.relative_to(ROOT)), path.read_text()
    for name in ("README.md", "ARCHITECTURE.md", "pyproject.toml"):
        yield name, (ROOT / name).read_text()


@functools.cache
def defined_in(path: Path) -> frozenset[str]:
    """Names at the top of a module, and those of its classes' members with the class before them."""
    names: set[str] = set()

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            match node:
                case ast.ClassDef(name=name, body=members):
                    names.add(prefix + name)
                    collect(members, f"{prefix}{name}.")
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    names.add(prefix + name)
                case ast.Assign(targets=targets):
                    names.update(prefix + found.id for target in targets for found in ast.walk(target)
                                 if isinstance(found, ast.Name))  # fmt: skip
                case ast.AnnAssign(target=ast.Name(id=name)):
                    names.add(prefix + name)
                case ast.If(body=inner) | ast.Try(body=inner):
                    collect(inner, prefix)

    collect(ast.parse(path.read_text()).body, "")
    return frozenset(names)


def is_there(dotted: str) -> bool:
    """Whether ``filoray.…`` is a package, a module, or something that a module defines."""
    _, package, *rest = dotted.split(".")
    if package not in PACKAGES:
        return False
    place = ROOT / PACKAGES[package]
    while rest and (place / rest[0]).is_dir():
        place = place / rest.pop(0)
    if not rest:
        return True
    if (module := place / f"{rest[0]}.py").is_file():
        return len(rest) == 1 or ".".join(rest[1:]) in defined_in(module)
    return False


def test_every_dotted_name_is_of_something_that_is_there() -> None:
    known = {*SETTINGS, *SOURCE_FACTORIES, *NO_NAMES_OF_OURS}
    missing = [
        (place, name)
        for place, text in texts([folder for folder in FOLDERS if folder != "tests"])  # which make up wrong ones
        for name in _DOTTED.findall(text)
        if not (is_there(name) or name in known)
    ]
    assert missing == []


def test_every_quoted_name_of_a_package_of_ours_is_of_something_that_is_there() -> None:
    missing = [
        (place, name)
        for place, text in texts()
        for name in _QUOTED_DOTTED.findall(text)
        if not (is_there(f"filoray.{name}") or f"filoray.{name}" in SETTINGS or is_of_the_standard_library(name))
    ]
    assert missing == []


def is_of_the_standard_library(name: str) -> bool:
    return name.split(".")[0] in sys.stdlib_module_names and name.split(".")[1] in ("client", "server", "cookies")


def test_every_path_is_of_a_file_that_is_there() -> None:
    missing = [(place, path) for place, text in texts() for path in _PATH.findall(text) if not (ROOT / path).exists()]
    assert missing == []


def test_every_quoted_file_is_somewhere() -> None:
    files = {str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")}
    files |= {path.name for path in ROOT.iterdir()}
    ends = {"/".join(file.split("/")[-count:]) for file in files for count in range(1, file.count("/") + 2)}
    missing = [(place, name) for place, text in texts() for name in _QUOTED_FILE.findall(text) if name not in ends]
    assert missing == []
