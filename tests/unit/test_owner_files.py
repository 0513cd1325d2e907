"""A file that is written whole: all of it, or what was there before, and nothing else left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from filoray.cluster.process.owner_files import write_whole


def test_what_is_written_replaces_what_was_there_and_is_the_owners(tmp_path: Path) -> None:
    file = tmp_path / "it.json"
    for data in (b"first", b"", b"third"):
        write_whole(file, data)
        assert file.read_bytes() == data
        assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_what_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    file = tmp_path / "it.json"
    write_whole(file, b"first")

    def fails(*arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, step, fails)
    with pytest.raises(OSError, match="no space left"):
        write_whole(file, b"second")
    assert file.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [file]
