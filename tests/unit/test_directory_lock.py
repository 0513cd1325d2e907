from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from filoray.cluster.process.directory_lock import DirectoryInUse, DirectoryLock

HOLD = """
import pathlib, sys
from filoray.cluster.process.directory_lock import DirectoryLock
lock = DirectoryLock(pathlib.Path(sys.argv[1]), "coordinator")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_directory_has_one_holder_for_each_purpose(tmp_path: Path) -> None:
    with DirectoryLock(tmp_path / "data", "launch"):
        with pytest.raises(DirectoryInUse, match=f"another launch is at work in {tmp_path / 'data'}"):
            DirectoryLock(tmp_path / "data", "launch")
        DirectoryLock(tmp_path / "data", "coordinator").release()
    DirectoryLock(tmp_path / "data", "launch").release()


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(DirectoryInUse):
        DirectoryLock(tmp_path, "coordinator")
    holder.kill()
    holder.wait()
    DirectoryLock(tmp_path, "coordinator").release()
