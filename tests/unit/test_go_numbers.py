"""Numbers in text are read as Go reads them, whatever Python would make of them."""

import math

import pytest
from promql_samples import same

from filoray.nodes.promql.go_numbers import parse_float, parse_int64


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1.0), ("1.", 1.0), (".5", 0.5), ("+5", 5.0), ("-5e-1", -0.5), ("1_000.5", 1000.5), ("0x10p0", 16.0),
        ("0x_1p1", 2.0), ("0X.8P1", 1.0), ("Inf", math.inf), ("-infinity", -math.inf), ("NaN", math.nan),
        ("1e-400", 0.0), ("007", 7.0),
    ],
)  # fmt: skip
def test_floats(text, number):
    assert same(parse_float(text), number, 0)


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "1_", "_1", "1__0", "0x10", "0xp1", "0b1", "0o7", "1e", "e1", ".", "-", "+nan", "1,5", "٣", "１",
     "1e400", "1" * 100_000 + "x", "-1e400", "0x1p2000", "ınf"],
)  # fmt: skip
def test_what_is_no_float(text):
    with pytest.raises(ValueError, match=r"^strconv.ParseFloat: parsing "):
        parse_float(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("5", 5), ("+5", 5), ("-5", -5), ("-0", 0), ("00012", 12), ("9223372036854775807", 2**63 - 1),
     ("-9223372036854775808", -(2**63)), ("0" * 30 + "7", 7)],
)  # fmt: skip
def test_integers(text, number):
    assert parse_int64(text) == number


@pytest.mark.parametrize(
    ("text", "problem"),
    [("9223372036854775808", "value out of range"), ("-9223372036854775809", "value out of range"),
     ("1" * 5_000, "value out of range"),
     *((text, "invalid syntax") for text in ("", "1e3", "0x10", "1_000", " 5", "5 ", "1.0", "+", "-", "٣", "１", "²"))],
)  # fmt: skip
def test_what_is_no_integer(text, problem):
    with pytest.raises(ValueError, match=r"^strconv.Atoi: parsing ") as failure:
        parse_int64(text)
    assert str(failure.value).endswith(problem)
