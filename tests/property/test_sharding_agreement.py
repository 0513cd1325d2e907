"""Writers and readers agree on shards: what a query asks includes every series that it matches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.data.part_key import (
    decode_part_key,
    encode_part_key,
    ingestion_shard,
    part_key_hash,
    shard_key_hash,
    shards_for_matchers,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.one_of(st.sampled_from(["", "a", "a_sum", "a_bucket", "b_count"]), TEXT)
LABELS = st.dictionaries(st.one_of(st.sampled_from(["_ws_", "_ns_", "__name__"]), TEXT.filter(bool)), VALUES)


@given(LABELS, st.integers(0, 7), st.integers(0, 9), st.data())
def test_a_query_asks_the_shard_of_every_series_it_matches(
    labels: dict[str, str], shard_bits: int, spread: int, data: st.DataObject
) -> None:
    num_shards = 1 << shard_bits
    named = data.draw(st.lists(st.sampled_from(["_ws_", "_ns_", "__name__", *labels])))
    matchers = [LabelMatcher(name, MatchOp.EQUAL, labels.get(name, "")) for name in named]
    _, low = part_key_hash(encode_part_key(labels))
    shard = ingestion_shard(shard_key_hash(labels), low, num_shards, spread)
    asked = shards_for_matchers(matchers, num_shards, spread)

    assert shard in asked
    fixes_the_key = {"_ws_", "_ns_", "__name__"} <= set(named)
    assert len(asked) == (min(1 << spread, num_shards) if fixes_the_key else num_shards)


@given(LABELS)
def test_a_part_key_gives_its_labels_back_and_their_order_does_not_matter(labels: dict[str, str]) -> None:
    part_key = encode_part_key(labels)
    decoded = decode_part_key(part_key)

    assert decoded == {name: value for name, value in labels.items() if value}
    assert list(decoded) == sorted(decoded, key=str.encode)
    assert encode_part_key(dict(reversed(labels.items()))) == part_key
