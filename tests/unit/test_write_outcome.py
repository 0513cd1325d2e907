"""What became of a write: added up, and told over the wire and in an answer's header without loss."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest

from filoray.cluster.errors import BadData
from filoray.http.remote.write_answer import outcome_header, read_outcome_header, refusal_text
from filoray.nodes.data.write_outcome import RefusalReason, UnknownSeries, WriteOutcome
from filoray.nodes.wire.write_reply import Refused, decode_write_reply, encode_write_reply

ALL_REASONS = WriteOutcome(7, {reason: 10**9 + i for i, reason in enumerate(RefusalReason)}, "up{}: too old")


def test_outcomes_add_up_and_the_first_example_stays() -> None:
    outcome = WriteOutcome(1)
    outcome.refuse(RefusalReason.TOO_OLD, 0)
    assert (outcome.refused, outcome.refused_count) == ({}, 0)
    outcome.add(WriteOutcome(2, {RefusalReason.TOO_OLD: 3}, "first"))
    outcome.add(WriteOutcome(4, {RefusalReason.TOO_OLD: 1, RefusalReason.OVER_LIMIT: 2}, "second"))
    assert outcome == WriteOutcome(7, {RefusalReason.TOO_OLD: 4, RefusalReason.OVER_LIMIT: 2}, "first")
    assert refusal_text(outcome) == (
        "6 samples were refused (over a series limit: 2, too old: 4), 7 were stored; for example first"
    )


@pytest.mark.parametrize(
    "example",
    ["", 'up{i="1"} at 1000 (too old: 3), 4 were stored; for example', 'm{a="é\n\r\t€\U0001f600"}', "bytes \udcff"],
)
def test_a_header_tells_counts_and_example(example: str) -> None:
    for outcome in (WriteOutcome(0, {}, example), WriteOutcome(7, ALL_REASONS.refused, example)):
        header = outcome_header(outcome)
        assert header.isascii()
        assert header.isprintable()
        assert read_outcome_header(header) == outcome


def test_a_header_stays_short_and_only_its_example_is_cut() -> None:
    for character in ("x", "\n", "é", "\U0001f600", '"'):
        header = outcome_header(WriteOutcome(7, ALL_REASONS.refused, 40_000 * character))
        assert len(header) < 4_000
        read = read_outcome_header(header)
        assert read is not None
        assert (read.accepted, read.refused) == (7, ALL_REASONS.refused)
        assert read.example.rstrip(".") == len(read.example.rstrip(".")) * character != ""


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", '"x"', "{}", '{"accepted": 1}', '{"accepted": 1, "refused": {"odd": 1}, "example": ""}',
     '{"accepted": 1, "refused": {"too old": []}, "example": ""}', '{"accepted": "1", "refused": {}, "example": ""}'],
)  # fmt: skip
def test_what_is_no_outcome_is_none(text: str) -> None:
    assert read_outcome_header(text) is None


def test_a_nodes_reply_comes_back_as_it_was() -> None:
    series = np.array([0, 5], np.int32)
    replies = [ALL_REASONS, WriteOutcome(3), UnknownSeries(series), Refused("BadData", "no container")]
    body = msgpack.unpackb(msgpack.packb(encode_write_reply(replies)))
    stored, bare, unknown, refused = decode_write_reply(body)
    assert (stored, bare, refused) == (ALL_REASONS, WriteOutcome(3), replies[3])
    assert isinstance(unknown, UnknownSeries)
    assert unknown.series.tolist() == [0, 5]


@pytest.mark.parametrize("entry", [[0, 1, {"odd": 1}, ""], [0, 1, {"too old": 1.5}, ""], [0, 1, {1: 1}, ""], [3], 7])
def test_a_reply_that_is_none_is_bad_data(entry: object) -> None:
    with pytest.raises(BadData, match=r"a shard's reply to a write is .* one of the three kinds there are"):
        decode_write_reply([entry])
