"""The one codec of part keys: every label set comes back, alone and among many, and damage is never another label."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filoray.cluster.errors import BadData
from filoray.nodes.data.part_key import (
    JoinedPartKeys,
    decode_label,
    decode_part_key,
    encode_label,
    encode_part_key,
    hash_part_keys,
    part_key_hash,
    split_part_keys,
)

TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.integers(65_530, 65_535).map(lambda size: "x" * size),
    st.sampled_from(["\0", "a\0b", "é" * 200, "\U0010ffff", "\ufffd", "?"]),
)
LABELS = st.dictionaries(TEXT, TEXT, max_size=5)
KEYS = st.lists(LABELS.map(encode_part_key), max_size=6)


@given(LABELS)
def test_a_label_set_comes_back(labels: dict[str, str]) -> None:
    decoded = decode_part_key(encode_part_key(labels))
    assert decoded == {name: value for name, value in labels.items() if value}


@given(KEYS)
def test_many_keys_split_into_their_labels_as_one_does(keys: list[bytes]) -> None:
    labels, counts = split_part_keys(keys)
    assert counts.tolist() == [len(decode_part_key(key)) for key in keys]
    texts = iter([decode_label(label) for label in labels])
    assert [dict(next(texts) for _ in range(count)) for count in counts] == [decode_part_key(key) for key in keys]
    assert b"".join(labels) == b"".join(keys)
    assert [encode_label(*decode_label(label)) for label in labels] == labels


@given(KEYS, st.data())
def test_joined_keys_come_apart_again(keys: list[bytes], data: st.DataObject) -> None:
    joined = JoinedPartKeys.of(keys)
    assert joined.to_list() == keys
    assert joined.lengths.tolist() == [len(key) for key in keys]
    mask = np.array([data.draw(st.booleans()) for _ in keys], np.bool_)
    assert joined.kept(mask).to_list() == [key for key, kept in zip(keys, mask, strict=True) if kept]
    if keys:
        first = data.draw(st.integers(0, len(keys) - 1))
        end = data.draw(st.integers(first + 1, len(keys)))
        assert joined.part(first, end).to_list() == keys[first:end]


@given(KEYS)
def test_hashes_of_many_are_those_of_each(keys: list[bytes]) -> None:
    high, low = hash_part_keys(keys)
    assert list(zip(high.tolist(), low.tolist(), strict=True)) == [part_key_hash(key) for key in keys]


@given(LABELS, TEXT, st.integers(0xD800, 0xDFFF), st.booleans())
def test_text_that_utf8_cannot_write_is_refused_and_never_replaced(
    labels: dict[str, str], text: str, surrogate: int, is_name: bool
) -> None:
    damaged = text[:20] + chr(surrogate)
    with pytest.raises(BadData, match="not valid Unicode"):
        encode_part_key({**labels, **({damaged: "x"} if is_name else {"x": damaged})})


@given(LABELS.filter(any), st.data())
def test_a_damaged_key_is_bad_data_or_a_key_of_other_labels(labels: dict[str, str], data: st.DataObject) -> None:
    """Whatever decodes is what the bytes say: one key and many read it alike."""
    key = bytearray(encode_part_key(labels))
    if key:
        key[data.draw(st.integers(0, len(key) - 1))] ^= data.draw(st.integers(1, 255))
    cut = bytes(key[: data.draw(st.integers(0, len(key)))])
    try:
        decoded = list(decode_part_key(cut).items())
    except BadData:
        decoded = None
    try:
        found = [decode_label(label) for label in split_part_keys([cut])[0]]
    except (BadData, UnicodeDecodeError):
        found = None
    assert (None if found is None else dict(found)) == (None if decoded is None else dict(decoded))
