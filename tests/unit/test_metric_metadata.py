"""What a shard keeps of metrics' types, helps and units."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from filoray.cluster.errors import Unavailable
from filoray.nodes.data.metric_metadata import HELP_CHARACTERS_MAX, MetricMetadata
from filoray.nodes.host import metric_metadata_file
from filoray.nodes.host.metric_metadata_file import MetricMetadataFile


def entry(number: int, text: str = "help") -> MetricMetadata:
    return MetricMetadata(f"m{number:03}", "counter", text, "seconds")


def names(file: MetricMetadataFile) -> list[str]:
    return [known.metric for known in file.get("", 0)]


def test_the_newest_word_counts_and_outlives_its_process(tmp_path: Path) -> None:
    file = MetricMetadataFile(tmp_path / "shard-0.metrics")
    assert file.get("m001", 0) == []
    file.put([entry(1), entry(2), entry(1, "better")])
    file.put([entry(2, "other")])
    for one in (file, MetricMetadataFile(tmp_path / "shard-0.metrics")):
        assert one.get("", 0) == [entry(1, "better"), entry(2, "other")]
        assert one.get("", 1) == [entry(1, "better")]
        assert one.get("m002", 0) == [entry(2, "other")]


def test_names_without_end_push_the_oldest_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_metadata_file, "METRICS_MAX", 10)
    file = MetricMetadataFile(tmp_path / "shard-0.metrics")
    for number in range(40):
        file.put([entry(number), entry(0, f"told again {number}")])
    assert names(file) == ["m000", *(f"m{number:03}" for number in range(31, 40))]
    assert names(MetricMetadataFile(tmp_path / "shard-0.metrics")) == names(file)


def test_a_help_text_without_end_is_cut(tmp_path: Path) -> None:
    file = MetricMetadataFile(tmp_path / "shard-0.metrics")
    for _ in range(2):
        file.put([entry(1, "x" * 1_000_000)])
    assert len(file.get("m001", 0)[0].help) == HELP_CHARACTERS_MAX


@pytest.mark.parametrize("damage", [b"no database at all " * 50, b""], ids=["garbage", "empty"])
def test_a_damaged_file_is_set_aside_and_refuses_nothing(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "shard-0.metrics"
    file = MetricMetadataFile(path)
    file.put([entry(1)])
    path.write_bytes(damage)
    again = MetricMetadataFile(path)
    again.put([entry(2)])
    assert names(again) == ["m002"]
    file.put([entry(3)])  # has read it before the damage, and knows what was there
    path.write_bytes(b"damaged once more, under its feet" * 50)
    file.put([entry(4)])
    assert names(MetricMetadataFile(path)) == ["m001", "m003", "m004"]
    assert (tmp_path / "shard-0.metrics.damaged").exists()


def test_a_row_that_is_no_text_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "shard-0.metrics"
    MetricMetadataFile(path).put([entry(1)])
    with sqlite3.connect(path) as database:
        database.execute("UPDATE metrics SET type = 7.5, help = x'ff'")
    again = MetricMetadataFile(path)
    assert again.get("", 0) == []
    again.put([entry(2)])
    assert names(MetricMetadataFile(path)) == ["m002"]


def test_a_place_that_cannot_be_written_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot write"):
        MetricMetadataFile(tmp_path / "nowhere" / "shard-0.metrics").put([entry(1)])


def test_what_is_stored_already_and_is_no_metadata_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "shard-0.metrics"
    MetricMetadataFile(path).put([entry(1), entry(2)])
    bad_rows = [
        (b"\xff\xfe", "gauge", "", ""),
        ("\x00" * 5000, "", "", ""),
        ("null", None, "", ""),
        (b"b", b"\xff", 5, ""),
    ]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?)", bad_rows)
        connection.execute("INSERT INTO metrics VALUES (CAST(X'FF' AS TEXT), 'gauge', '', '')")
        connection.execute("INSERT INTO metrics VALUES (7, 'gauge', 5, '')")
    file = MetricMetadataFile(path)
    assert file.get("", 0) == [MetricMetadata("7", "gauge", "5", ""), entry(1), entry(2)]
    assert "5 rows are not metric metadata" in caplog.text
    file.put([entry(3)])
    assert names(MetricMetadataFile(path)) == ["7", "m001", "m002", "m003"]


def test_names_longer_than_any_are_not_kept(tmp_path: Path) -> None:
    file = MetricMetadataFile(tmp_path / "shard-0.metrics")
    file.put([MetricMetadata("x" * 1_000_000, "gauge", "", ""), entry(1)])
    assert names(file) == ["m001"]
