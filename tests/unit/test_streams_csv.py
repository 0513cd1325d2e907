"""CSV streams: columns to labels, rows to shards, bad lines to the report."""

from __future__ import annotations

import math
import os
import re
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from filoray.cluster.config.dataset import DatasetConfig, parse_dataset_config
from filoray.cluster.config.dataset_limits import NO_FILES, DatasetLimits
from filoray.cluster.errors import ConfigError
from filoray.nodes.data.part_key import decode_part_key, ingestion_shard, part_key_hash, shard_key_hash
from filoray.nodes.data.record_container import RecordContainer
from filoray.nodes.streams.csv_stream import CsvStream, read_csv_source
from filoray.nodes.streams.sources import WritePath, check_source, open_stream, write_path
from filoray.nodes.streams.stream import StreamBatch, StreamFailed

Sample = tuple[dict[str, str], int, float]


def csv_config(path: Path, num_shards: int = 1, **settings: object) -> DatasetConfig:
    body = {
        "dataset": "d",
        "num-shards": num_shards,
        "min-num-nodes": 1,
        "sourcefactory": "filodb.coordinator.sources.CsvStreamFactory",
        "sourceconfig": {"file": str(path), **settings},
    }
    return parse_dataset_config(orjson.dumps(body).decode(), "d")


def files_below(directory: Path) -> DatasetLimits:
    return replace(NO_FILES, csv_directory=directory)


def stream_of(config: DatasetConfig, shard: int = 0, offset: int | None = None) -> CsvStream:
    stream = open_stream(config, shard, offset, files_below(Path(str(config.source_config["file"])).parent))
    assert isinstance(stream, CsvStream)
    return stream


def drain(stream: CsvStream) -> list[StreamBatch]:
    batches: list[StreamBatch] = []
    while not stream.ended:
        batches += stream.poll(1000)
    stream.close()
    return batches


def samples_of(batches: list[StreamBatch]) -> list[Sample]:
    samples: list[Sample] = []
    for batch in batches:
        container = RecordContainer.decode(batch.container)
        keys = container.part_keys()
        owners = [i for i, count in enumerate(container.counts.tolist()) for _ in range(count)]
        rows = zip(owners, container.timestamps.tolist(), container.values.tolist(), strict=True)
        samples += [(decode_part_key(keys[owner]), time_ms, value) for owner, time_ms, value in rows]
    return samples


def test_columns_become_labels_time_and_value(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text('metric,timestamp,value,job,zone\nup,1000,1,"a,b",\nup,2000,NaN,x,z\nup,-3,+Inf,x,z\n')
    samples = samples_of(drain(stream_of(csv_config(path))))
    assert samples[0] == ({"__name__": "up", "job": "a,b"}, 1000, 1.0)
    assert samples[1][:2] == ({"__name__": "up", "job": "x", "zone": "z"}, 2000)
    assert math.isnan(samples[1][2])
    assert samples[2][1:] == (-3, math.inf)


@pytest.mark.parametrize(
    ("text", "settings", "time_ms"),
    [
        ("1500", {}, 1500),
        ("1.5", {"timestamp-unit": "s"}, 1500),
        ("1970-01-01T00:00:02.5Z", {}, 2500),
        ("1970-01-01T01:00:02+01:00", {"timestamp-unit": "s"}, 2000),
    ],
)
def test_times_are_numbers_or_rfc_3339(tmp_path: Path, text: str, settings: dict[str, str], time_ms: int) -> None:
    path = tmp_path / "m.csv"
    path.write_text(f"metric,time,count\nm,{text},4\n")
    assert samples_of(drain(stream_of(csv_config(path, **settings)))) == [({"__name__": "m"}, time_ms, 4.0)]


def test_a_file_without_header_takes_its_names_from_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("m;5;7;eu\n")
    config = csv_config(
        path,
        **{
            "header": False,
            "column-names": ["_metric_", "at", "reading", "zone"],
            "separator-char": ";",
            "timestamp-column": "at",
            "value-column": "reading",
        },
    )
    assert samples_of(drain(stream_of(config))) == [({"__name__": "m", "zone": "eu"}, 5, 7.0)]


def test_every_row_is_read_by_the_one_shard_that_owns_it(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    rows = [f"m{i % 13},{i},{i},h{i % 5}" for i in range(500)]
    path.write_text("metric,timestamp,value,host\n" + "\n".join(rows) + "\n")
    config = csv_config(path, num_shards=4)
    by_shard = [samples_of(drain(stream_of(config, shard))) for shard in range(4)]
    assert sorted(int(value) for samples in by_shard for _, _, value in samples) == list(range(500))
    for shard, samples in enumerate(by_shard):
        for labels, _, _ in samples:
            key = b"".join(
                len(text).to_bytes(2, "little") + text.encode() for pair in sorted(labels.items()) for text in pair
            )
            assert ingestion_shard(shard_key_hash(labels), part_key_hash(key)[1], 4, config.spread) == shard


def test_bad_lines_are_skipped_and_reported_with_their_numbers_by_one_shard(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(
        "metric,timestamp,value\n"  # 1
        "m,1,1\n"  # 2
        "m,1\n"  # 3
        "m,soon,1\n"  # 4
        "m,1,many\n"  # 5
        ",1,1\n"  # 6
        "\n"  # 7: nothing
        "m,2,2\n"  # 8
        "m,1e300,2\n"  # 9
        'm,"3"x,2\n'  # 10
        "m,2020-01-01T00:00:00,2\n"  # 11
        "m,4,4\n"  # 12
    )
    streams = [stream_of(csv_config(path, num_shards=2), shard) for shard in range(2)]
    samples = samples_of([batch for stream in streams for batch in drain(stream)])
    assert sorted(value for _, _, value in samples) == [1.0, 2.0, 4.0]
    assert [problem.place.rpartition(" ")[2] for problem in streams[0].problems.examples] == [
        "3", "4", "5", "6", "9", "10", "11",
    ]  # fmt: skip
    assert streams[1].problems.count == 0
    assert "2 fields where there are 3 columns" in str(streams[0].problems.examples[0])


def test_a_stream_resumes_behind_any_of_its_offsets(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("metric,timestamp,value\n" + "".join(f'"m\n{i % 3}",{i},{i}\n' for i in range(50)))
    config = csv_config(path, **{"batch-size": 7})
    batches = drain(stream_of(config))
    assert len(batches) == 8
    for i, batch in enumerate(batches):
        rest = drain(stream_of(config, offset=batch.offset))
        assert samples_of(rest) == samples_of(batches[i + 1 :])


def test_the_end_offset_is_the_last_line(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("metric,timestamp,value\nm,1,1\nm,2,2")
    stream = stream_of(csv_config(path))
    assert stream.end_offset() == 3
    drain(stream)
    assert stream.position == 3


def test_a_file_that_is_missing_or_shorter_than_the_checkpoint_fails(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    with pytest.raises(StreamFailed, match=r"m\.csv: No such file"):
        stream_of(csv_config(path))
    path.write_text("metric,timestamp,value\nm,1,1\n")
    with pytest.raises(StreamFailed, match="it has 2 lines, but 9 were read before"):
        stream_of(csv_config(path), offset=9)


@pytest.mark.parametrize(
    ("first_line", "settings", "said"),
    [
        ("toor,secret,hash", {}, "none of timestamp, time, ts is among its 3 columns; set sourceconfig.timest"),
        ("toor,ts,hash", {}, "none of value, count is among its 3 columns; set sourceconfig.value-column"),
        ("toor,ts,hash", {"timestamp-column": "at"}, "sourceconfig.timestamp-column 'at' is not among its 3 columns"),
        ("toor,toor,ts,value", {}, "a column comes twice among its 4"),
        ("toor" * 300_000, {}, "line 1 is longer than 1048576"),
        ("", {}, "it is empty; a header was expected"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_fails_and_the_error_tells_nothing_of_what_is_in_it(
    tmp_path: Path, first_line: str, settings: dict[str, object], said: str
) -> None:
    path = tmp_path / "m.csv"
    path.write_text(first_line)
    with pytest.raises(StreamFailed) as caught:
        stream_of(csv_config(path, **settings))
    assert said in caught.value.message
    assert not {"toor", "secret", "hash"} & set(re.findall(r"\w+", caught.value.message))


def test_no_file_is_read_where_no_directory_is_configured() -> None:
    with pytest.raises(ConfigError, match=r"sourceconfig\.file is refused: .* filoray\.datasets\.csv-directory"):
        check_source(csv_config(Path("/etc/passwd")))
    with pytest.raises(ConfigError, match=r"filoray\.datasets\.csv-directory, which is not set"):
        open_stream(csv_config(Path("/etc/passwd")), 0, None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/etc/passwd", "not below filoray.datasets.csv-directory"),
        ("../outside.csv", "not below filoray.datasets.csv-directory"),
        ("inner/../../outside.csv", "not below filoray.datasets.csv-directory"),
        ("{directory}/../outside.csv", "not below filoray.datasets.csv-directory"),
        ("{directory}2/outside.csv", "not below filoray.datasets.csv-directory"),
        (".", "not below filoray.datasets.csv-directory"),
        ("", "not below filoray.datasets.csv-directory"),
        ("a\0b", "not below filoray.datasets.csv-directory"),
        ("link.csv", "leads out of filoray.datasets.csv-directory"),
        ("linked/outside.csv", "leads out of filoray.datasets.csv-directory"),
        ("pipe", "not a regular file"),
        ("inner", "not a regular file"),
        ("gone.csv", "No such file"),
        ("ring", "Symbolic links|symbolic links|No such file"),
        ("x" * 5000, "File name too long"),
    ],
)
def test_only_regular_files_below_the_directory_are_opened(tmp_path: Path, name: str, said: str) -> None:
    directory, outside = tmp_path / "csv", tmp_path / "outside.csv"
    (directory / "inner").mkdir(parents=True)
    (tmp_path / "csv2").mkdir()
    for path in (outside, tmp_path / "csv2" / "outside.csv"):
        path.write_text("metric,ts,value\nm,1,1\n")
    (directory / "link.csv").symlink_to(outside)
    (directory / "linked").symlink_to(tmp_path)
    (directory / "ring").symlink_to("ring")
    os.mkfifo(directory / "pipe")
    config = csv_config(Path(name.format(directory=directory)))
    with pytest.raises((ConfigError, StreamFailed), match=said):
        open_stream(config, 0, None, files_below(directory))


@pytest.mark.parametrize("name", ["a.csv", "{directory}/a.csv", "inner/../a.csv", "alias.csv", "other/a.csv"])
def test_a_path_may_be_relative_to_the_directory_and_links_may_lead_about_inside_it(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "csv"
    (directory / "inner").mkdir(parents=True)
    (directory / "a.csv").write_text("metric,ts,value\nm,1,1\n")
    (directory / "alias.csv").symlink_to(directory / "a.csv")
    (directory / "other").symlink_to(".")
    stream = open_stream(csv_config(Path(name.format(directory=directory))), 0, None, files_below(directory))
    assert isinstance(stream, CsvStream)
    assert len(samples_of(drain(stream))) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"header": False}, "column-names is missing"),
        ({"header": "maybe"}, "use true or false"),
        ({"batch-size": 0}, "batch-size is 0"),
        ({"separator-char": "||"}, "use one character"),
        ({"separator-char": '"'}, "neither a quote"),
        ({"separator-char": "\n"}, "nor a line's end"),
        ({"timestamp-unit": "weeks"}, "use ms or s"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_csv_source(csv_config(Path("m.csv"), **settings), files_below(Path("/csv")))


def test_remote_write_to_a_csv_dataset_is_refused() -> None:
    assert write_path(csv_config(Path("m.csv"))) is WritePath.REFUSED
