"""Part keys and the shard rule, in the small."""

from __future__ import annotations

import struct

import pytest
import xxhash

from filoray.cluster.errors import BadData
from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.data.part_key import (
    decode_part_key,
    encode_part_key,
    ingestion_shard,
    part_key_hash,
    shard_key_hash,
    shards_for_matchers,
)


def equal(**labels: str) -> list[LabelMatcher]:
    return [LabelMatcher(name, MatchOp.EQUAL, value) for name, value in labels.items()]


def shard_of(labels: dict[str, str], num_shards: int, spread: int) -> int:
    _, low = part_key_hash(encode_part_key(labels))
    return ingestion_shard(shard_key_hash(labels), low, num_shards, spread)


def test_a_part_key_holds_its_labels_sorted_without_empty_ones() -> None:
    part_key = encode_part_key({"job": "api", "__name__": "up", "gone": ""})

    assert part_key == b"\x08\x00__name__\x02\x00up\x03\x00job\x03\x00api"
    assert decode_part_key(part_key) == {"__name__": "up", "job": "api"}


def test_names_sort_by_their_utf8_bytes() -> None:
    names = ["\U0001f600", "\uffee", "z", "é"]

    assert list(decode_part_key(encode_part_key(dict.fromkeys(names, "1")))) == sorted(names, key=str.encode)


def test_the_part_key_hash_is_xxh3_128_in_halves() -> None:
    high, low = part_key_hash(b"some key")

    assert struct.pack(">QQ", high, low) == xxhash.xxh3_128_digest(b"some key")


@pytest.mark.parametrize(
    "labels",
    [{"a": "x" * 65_536}, {"n" * 65_536: "x"}, {"a": "\ud800"}],
    ids=["value over a u16", "name over a u16", "lone surrogate"],
)
def test_what_a_part_key_cannot_hold_is_bad_data(labels: dict[str, str]) -> None:
    with pytest.raises(BadData):
        encode_part_key(labels)


@pytest.mark.parametrize(
    "part_key",
    [b"\x01", b"\x02\x00a", b"\x01\x00a", b"\x01\x00\xff\x01\x00b", b"\x01\x00a\x05\x00b"],
    ids=["half a length", "cut name", "no value", "not UTF-8", "cut value"],
)
def test_damaged_part_keys_are_bad_data(part_key: bytes) -> None:
    with pytest.raises(BadData):
        decode_part_key(part_key)


def test_upper_bits_come_from_the_shard_key_and_lower_ones_from_the_part_key() -> None:
    assert ingestion_shard(0b1010_1100, 0b0101_0011, num_shards=32, spread=2) == 0b01111
    assert ingestion_shard(0b1010_1100, 0b0101_0011, num_shards=32, spread=0) == 0b01100
    assert ingestion_shard(0b1010_1100, 0b0101_0011, num_shards=32, spread=5) == 0b10011


def test_a_spread_over_the_shard_count_means_all_shards() -> None:
    assert ingestion_shard(7, 2, num_shards=4, spread=9) == 2
    assert shards_for_matchers(equal(_ws_="a", _ns_="b", __name__="c"), 4, 9) == (0, 1, 2, 3)


@pytest.mark.parametrize("num_shards", [0, 3, -4])
def test_a_shard_count_that_is_no_power_of_two_is_a_programmer_error(num_shards: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        ingestion_shard(1, 1, num_shards, 0)


def test_series_of_a_classic_histogram_share_their_shards() -> None:
    names = ["latency_bucket", "latency_sum", "latency_count", "latency"]

    assert len({shard_key_hash({"_ws_": "w", "__name__": name}) for name in names}) == 1
    assert shard_key_hash({"__name__": "latency_total"}) != shard_key_hash({"__name__": "latency"})


def test_only_one_suffix_is_taken_off() -> None:
    assert shard_key_hash({"__name__": "a_count_sum"}) == shard_key_hash({"__name__": "a_count_bucket"})
    assert shard_key_hash({"__name__": "a_count_sum"}) != shard_key_hash({"__name__": "a"})


def test_shard_keys_do_not_run_into_each_other() -> None:
    assert shard_key_hash({"_ws_": "ab", "_ns_": "c"}) != shard_key_hash({"_ws_": "a", "_ns_": "bc"})


def test_a_query_that_fixes_the_shard_key_asks_just_the_shards_that_may_hold_an_answer() -> None:
    shards = shards_for_matchers(equal(_ws_="demo", _ns_="app", __name__="up"), 32, 2)
    holding = {
        shard_of({"_ws_": "demo", "_ns_": "app", "__name__": "up", "pod": str(pod)}, 32, 2) for pod in range(200)
    }

    assert len(shards) == 4
    assert holding == set(shards)


@pytest.mark.parametrize(
    "matchers",
    [
        [],
        equal(__name__="up"),
        equal(_ws_="demo", __name__="up"),
        [*equal(_ws_="demo", _ns_="app"), LabelMatcher("__name__", MatchOp.REGEX, "up")],
        [*equal(_ws_="demo", _ns_="app"), LabelMatcher("__name__", MatchOp.NOT_EQUAL, "up")],
    ],
)
def test_a_query_that_leaves_the_shard_key_open_asks_all_shards(matchers: list[LabelMatcher]) -> None:
    assert shards_for_matchers(matchers, 8, 1) == tuple(range(8))


def test_a_matcher_for_the_empty_value_fixes_a_label_to_absence() -> None:
    shards = shards_for_matchers(equal(_ws_="", _ns_="", __name__="up"), 16, 1)

    assert len(shards) == 2
    assert {shard_of({"__name__": "up", "pod": str(pod)}, 16, 1) for pod in range(100)} == set(shards)


def test_series_spread_evenly_over_the_shards() -> None:
    counts = [0] * 16
    for metric in range(400):
        for pod in range(10):
            counts[shard_of({"__name__": f"metric_{metric}", "pod": str(pod)}, 16, 1)] += 1

    assert min(counts) > 100
    assert max(counts) < 450
