"""The index alone: growth, forgetting, and what a failed commit leaves."""

import numpy as np
import pytest

from filoray.cluster.errors import BadData
from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.data.part_key import encode_part_key, hash_part_keys, part_key_hash
from filoray.nodes.memstore.label_matching import literals_of, prefix_of
from filoray.nodes.memstore.part_key_index import PartKeyIndex


def add(index, label_sets):
    keys = [encode_part_key(labels) for labels in label_sets]
    pair_ids, counts = index.split(keys)
    high, low = hash_part_keys(keys)
    first = index.count
    return index.add(pair_ids, counts, high, low, np.arange(first, first + len(keys)) + 1000)


def numbered(first, end):
    return [{"__name__": "m", "i": str(i), "even": "yes" if i % 2 == 0 else ""} for i in range(first, end)]


def equal(name, value):
    return [LabelMatcher(name, MatchOp.EQUAL, value)]


def test_hashes_are_those_that_writers_send():
    keys = [encode_part_key(labels) for labels in numbered(0, 5)]
    high, low = hash_part_keys(keys)
    assert list(zip(high.tolist(), low.tolist(), strict=True)) == [part_key_hash(key) for key in keys]


@pytest.mark.parametrize("count", [1, 127, 128, 129, 255, 256, 257, 5000])
def test_every_series_is_found_and_no_other(count):
    index = PartKeyIndex()
    assert add(index, numbered(0, count)).tolist() == list(range(count))
    high, low = hash_part_keys([encode_part_key(labels) for labels in numbered(0, count + 10)])
    partitions, missing = index.find(high, low)
    assert (partitions.tolist(), missing) == ([*range(count), *[-1] * 10], 10)
    assert index.label_set(count - 1)["i"] == str(count - 1)
    assert index.part_key(0) == encode_part_key(numbered(0, 1)[0])


def test_series_of_a_failed_commit_leave_no_trace_even_if_a_query_came_between():
    index = PartKeyIndex()
    add(index, numbered(0, 10))
    pairs, names = index.labels.pair_count, list(index.labels.names)
    add(index, [{**labels, "fresh": labels["i"]} for labels in numbered(10, 20)])
    assert len(index.select(equal("__name__", "m"))) == 20
    assert len(index.select([LabelMatcher("i", MatchOp.REGEX, "[0-9]+")])) == 20
    assert index.values_of("i", index.select(())) == sorted(str(i) for i in range(20))
    index.truncate(10, pairs)
    assert (index.labels.pair_count, index.labels.names) == (pairs, names)
    assert index.values_of("i", index.select(())) == sorted(str(i) for i in range(10))
    assert len(index.select(equal("__name__", "m"))) == 10
    add(index, [{"__name__": "other", "i": str(i)} for i in range(10)])
    assert index.select(equal("__name__", "m")).tolist() == list(range(10))
    assert index.select(equal("i", "15")).tolist() == []
    assert index.select(equal("i", "3")).tolist() == [3, 13]
    add(index, [{"__name__": "m", "i": "other text in the same place"}])
    assert index.select([LabelMatcher("i", MatchOp.REGEX, "[0-9]+")]).tolist() == list(range(20))
    assert index.select([LabelMatcher("i", MatchOp.REGEX, "o.*")]).tolist() == [20]


def test_forgotten_series_are_gone_and_the_others_close_up():
    index = PartKeyIndex()
    add(index, numbered(0, 1000))
    index.select([])
    kept = np.arange(1000) % 10 == 3
    index.keep(kept)
    assert (index.count, index.series_ids.data[:2].tolist()) == (100, [1003, 1013])
    assert index.select(equal("i", "13")).tolist() == [1]
    assert len(index.select(equal("even", "yes"))) == 0
    assert index.label_table(np.array([1], np.int32)).label_sets() == [{"__name__": "m", "i": "13"}]
    assert "even" not in index.labels.names
    assert add(index, numbered(2000, 2001)).tolist() == [100]


def test_a_column_holds_the_values_of_its_series_only_when_they_are_few():
    index = PartKeyIndex()
    add(index, numbered(0, 1000))
    table = index.label_table(np.array([5, 7], np.int32))
    assert table.columns["i"].values == ("5", "7")
    assert table.label_sets() == [{"__name__": "m", "i": "5"}, {"__name__": "m", "i": "7"}]


@pytest.mark.parametrize("key", [b"\1\0a\1\0", b"\5\0a", b"\1\0a\1\0bx"])
def test_what_is_no_part_key_is_bad_data(key):
    with pytest.raises(BadData, match="not a part key"):
        PartKeyIndex().split([encode_part_key({"a": "b"}), key])


def test_a_label_that_is_not_utf8_is_bad_data():
    with pytest.raises(BadData, match="UTF-8"):
        PartKeyIndex().split([b"\1\0a\1\0\xff"])


@pytest.mark.parametrize(
    ("pattern", "literals", "prefix"),
    [
        ("a|b|a", ["a", "b"], None),
        ("a", ["a"], None),
        ("", [""], None),
        (r"a\.b|c", ["a.b", "c"], None),
        ("a.*", None, ("a", 0)),
        ("a.+", None, ("a", 1)),
        (".*", None, ("", 0)),
        (r"a\.*", None, None),
        ("a|b.*", None, None),
        ("(a|b)", None, None),
        (r"a\d", None, None),
    ],
)
def test_patterns_that_need_no_regex_engine(pattern, literals, prefix):
    assert (literals_of(pattern), prefix_of(pattern)) == (literals, prefix)


@pytest.mark.parametrize("text", ["\udcff", "x" * 65_536, "?\ud800"], ids=["no UTF-8", "too long", "a surrogate"])
def test_a_text_that_no_part_key_holds_is_no_other_text(text: str) -> None:
    index = PartKeyIndex()
    add(index, [{"__name__": "m", "i": "?"}, {"__name__": "m", "i": "??"}, {"__name__": "m", "?": "i"}])
    for op, expected in ((MatchOp.EQUAL, []), (MatchOp.NOT_EQUAL, [0, 1, 2])):
        assert index.select([LabelMatcher("i", op, text)]).tolist() == expected
        assert index.select([LabelMatcher(text, op, "i")]).tolist() == expected
