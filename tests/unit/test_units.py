from __future__ import annotations

import pytest

from filoray.cluster.units import PlainValue, parse_duration_ms, parse_size_bytes


@pytest.mark.parametrize(
    ("value", "expected_ms"),
    [
        ("1h", 3_600_000), ("24 hours", 86_400_000), ("2 minutes", 120_000), ("500ms", 500), ("15s", 15_000),
        (250, 250), ("250", 250), ("1.5s", 1500), ("7 days", 604_800_000), ("1w", 604_800_000), (" 30 s ", 30_000),
        ("1m", 60_000), ("2000 micros", 2), (0, 0),
    ],
)  # fmt: skip
def test_durations(value: PlainValue, expected_ms: int) -> None:
    assert parse_duration_ms(value) == expected_ms


@pytest.mark.parametrize(
    ("value", "expected_bytes"),
    [
        ("512MB", 512_000_000), ("50 MB", 50_000_000), ("1G", 1 << 30), ("1GiB", 1 << 30), ("64MiB", 64 << 20),
        ("15000", 15_000), (15_000, 15_000), ("512k", 512 << 10), ("1kB", 1000), ("1 KiB", 1024),
        ("2 megabytes", 2_000_000),
        ("0.5 GB", 500_000_000), ("10B", 10), ("1m", 1 << 20),
    ],
)  # fmt: skip
def test_sizes(value: PlainValue, expected_bytes: int) -> None:
    assert parse_size_bytes(value) == expected_bytes


POWERS = {"K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6, "Z": 7, "Y": 8}
LONG = {"K": "kilo kibi", "M": "mega mebi", "G": "giga gibi", "T": "tera tebi", "P": "peta pebi", "E": "exa exbi",
        "Z": "zetta zebi", "Y": "yotta yobi"}  # fmt: skip


def typesafe_sizes() -> dict[str, int]:
    """Every unit of HOCON's "Size in bytes format"."""
    units = dict.fromkeys(("B", "b", "byte", "bytes"), 1)
    for letter, power in POWERS.items():
        decimal, binary = LONG[letter].split()
        units |= dict.fromkeys(
            (f"{'k' if letter == 'K' else letter}B", f"{decimal}byte", f"{decimal}bytes"), 1000**power
        )
        units |= dict.fromkeys(
            (letter, letter.lower(), f"{letter}i", f"{letter}iB", f"{binary}byte", f"{binary}bytes"), 1024**power
        )
    return units


@pytest.mark.parametrize("unit", typesafe_sizes())
@pytest.mark.parametrize("space", ["", " "])
def test_every_unit_of_size(unit: str, space: str) -> None:
    expected = 16 * typesafe_sizes()[unit]
    if expected > 2**63 - 1:
        with pytest.raises(ValueError, match="is too large"):
            parse_size_bytes(f"16{space}{unit}")
        expected //= 16
    if expected <= 2**63 - 1:
        assert parse_size_bytes(f"{expected // typesafe_sizes()[unit]}{space}{unit}") == expected


@pytest.mark.parametrize(
    ("units", "nanoseconds"),
    [
        ("ns nano nanos nanosecond nanoseconds", 1),
        ("us micro micros microsecond microseconds", 1_000),
        ("ms milli millis millisecond milliseconds", 1_000_000),
        ("s second seconds", 1_000_000_000),
        ("m minute minutes", 60_000_000_000),
        ("h hour hours", 3_600_000_000_000),
        ("d day days", 86_400_000_000_000),
        ("w week weeks", 7 * 86_400_000_000_000),
    ],
)
def test_every_unit_of_time(units: str, nanoseconds: int) -> None:
    for unit in units.split():
        assert parse_duration_ms(f"3000000{unit}") == 3 * nanoseconds
        assert parse_duration_ms(f"3000000 {unit}") == 3 * nanoseconds


@pytest.mark.parametrize("unit", ["MIB", "kb", "mb", "Mb", "KBytes", "bit", "XB", "mib", "kilo", "Kilobytes"])
def test_other_spellings_of_sizes_are_unknown(unit: str) -> None:
    with pytest.raises(ValueError, match="has the unknown unit"):
        parse_size_bytes(f"1{unit}")


@pytest.mark.parametrize("value", ["", "h", "1 fortnight", "-1s", "1h30m", True, None, [], "1e999s", "१h"])
def test_what_is_no_duration_is_named(value: PlainValue) -> None:
    with pytest.raises(ValueError, match=r"duration|unit|negative|large"):
        parse_duration_ms(value)


@pytest.mark.parametrize("value", ["", "MB", "1 potato", "-1MB", False, None, {}, "1e30GB"])
def test_what_is_no_size_is_named(value: PlainValue) -> None:
    with pytest.raises(ValueError, match=r"size|unit|negative|large"):
        parse_size_bytes(value)
