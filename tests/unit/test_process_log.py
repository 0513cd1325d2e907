"""What a log's record may look like, whatever it quotes."""

import logging
import sys

import pytest

from filoray.cluster.process.process_log import RecordFormatter

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
