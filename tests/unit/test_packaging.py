"""The package mapping: nothing shadows the standard library, and the wheel has every module and data file."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {"cluster": "cluster", "nodes": "nodes", "http": "http", "scripts/command": "command"}
TOP_LEVEL = ("cluster", "nodes", "http", "scripts", "conf", "tests")


def test_the_standard_librarys_http_is_imported_from_the_repository_root():
    code = "import http, http.client; print(http.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "lib/python3" in done.stdout
    assert str(ROOT / "http") not in done.stdout


def test_no_top_level_folder_has_an_init_file():
    assert [folder for folder in TOP_LEVEL if (ROOT / folder / "__init__.py").exists()] == []


def test_every_package_is_listed():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        ".".join(("filoray", package, *path.parent.relative_to(ROOT / room).parts))
        for room, package in ROOMS.items()
        for path in (ROOT / room).rglob("*.py")
    }
    assert found <= listed


def test_the_wheel_has_every_module_and_data_file(tmp_path):
    # From a copy: a build leaves its own folders beside its sources.
    source = tmp_path / "source"
    for room in (*ROOMS, "conf"):
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    files = {
        f"filoray/{package / path.relative_to(source / room)}"
        for room, package in {**{room: Path(package) for room, package in ROOMS.items()}, "conf": Path("conf")}.items()
        for path in (source / room).rglob("*")
        if path.suffix in {".py", ".html", ".css", ".conf", ".txt", ".typed"}
    }
    assert files
    assert files <= packed
    assert any(name.endswith("filoray-defaults.conf") for name in packed)
