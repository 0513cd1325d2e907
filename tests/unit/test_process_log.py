"""What a log's record may look like, whatever it quotes."""

import logging
import sys

import pytest

from filoray.cluster.process.process_log import LogFile, RecordFormatter

FORMATTER = RecordFormatter("%(levelname)s %(name)s %(message)s")


def record(message, *args, exc_info=None):
    return FORMATTER.format(logging.LogRecord("filoray.http", logging.INFO, "x.py", 1, message, args, exc_info))


@pytest.mark.parametrize(
    ("quoted", "written"),
    [
        ("up", "up"),
        ("ü 日本", "ü 日本"),
        ("a\n2026-01-01 INFO filoray forged", "a\\n2026-01-01 INFO filoray forged"),
        ("a\r\nb\tc\0", "a\\r\\nb\\tc\\x00"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\u2028b\u0085c\u202ed", "a\\u2028b\\x85c\\u202ed"),
        ("\udc80", "\\udc80"),
    ],
)
def test_what_is_quoted_stays_in_its_line(quoted, written):
    assert record("warning=%s", quoted) == f"INFO filoray.http warning={written}"


def test_a_long_record_keeps_its_beginning_and_its_end():
    line = record("%s", "x" * 1_000_000 + "end")
    assert len(line) < 9_000
    assert line.startswith("INFO filoray.http xxx")
    assert line.endswith("xend")
    assert " characters … " in line


def test_a_traceback_is_indented_whatever_its_error_says():
    try:
        raise ValueError("a\n2026-01-01 INFO filoray forged\x1b[2J" + "x" * 1_000_000)
    except ValueError:
        text = record("failed", exc_info=sys.exc_info())
    first, *others = text.split("\n")
    assert first == "INFO filoray.http failed"
    assert len(others) > 3
    assert all(line.startswith("  | ") for line in others)
    assert "  | 2026-01-01 INFO filoray forged\\x1b[2J" in text
    assert len(text) < 40_000


def test_a_line_that_has_a_cause_ends_with_it():
    line = logging.LogRecord("filoray.cluster", logging.INFO, "", 0, "node launches node=%s", ("node-1#2",), None)
    line.cause = "3.17"
    formatted = RecordFormatter("%(levelname)s %(message)s").format(line)
    assert formatted == "INFO node launches node=node-1#2 cause=3.17"


@pytest.mark.parametrize("created", [1.0, 1.25, 1_700_000_000.9996, 1_700_000_001.0, 1_700_000_001.5])
def test_a_record_is_dated_as_the_standard_library_dates_it(created):
    dated = RecordFormatter("%(asctime)s")
    line = logging.LogRecord("filoray", logging.INFO, "", 0, "", (), None)
    for line.created in (created - 1, created, created):
        line.msecs = line.created % 1 * 1000
        assert dated.format(line) == logging.Formatter("%(asctime)s").format(line)


def test_a_full_file_makes_room_and_each_record_is_written_once(tmp_path):
    handler = LogFile(tmp_path / "node-0.log", maxBytes=1000, backupCount=2, encoding="utf-8")
    formatted = []
    handler.format = lambda record: formatted.append(record) or record.getMessage()
    for number in range(100):
        handler.handle(logging.LogRecord("filoray", logging.INFO, "", 0, "%d %s", (number, "ü" * 20), None))
    handler.close()
    files = [tmp_path / f"node-0.log{suffix}" for suffix in (".2", ".1", "")]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(1000 <= file.stat().st_size < 1000 + 60 for file in files[:2])
    numbers = [int(line.split()[0]) for file in files for line in file.read_text().splitlines()]
    assert numbers == list(range(numbers[0], 100)), "the oldest go first, and no other is lost or doubled"
    assert len(formatted) == 100
