"""A query of many regular expressions leaves a shard's lock to others, can be stopped, and finds what it should."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shards import ALL_TIME, container, shard_spec

from filoray.cluster.errors import QueryCanceled
from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.memstore import label_matching, lock_turns, part_key_index
from filoray.nodes.memstore.shard import Shard

SERIES = 6_000


def regex(pattern: str, op: MatchOp = MatchOp.REGEX) -> LabelMatcher:
    return LabelMatcher("i", op, pattern)


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Shard]:
    shard = Shard.open(shard_spec(tmp_path))
    shard.append([container([({"__name__": "m", "i": str(i)}, [(1, 1.0)]) for i in range(SERIES)])])
    yield shard
    shard.close()


MATCHER_SETS = {
    "some": [regex(".*[05]")],
    "all": [regex(".*[0-9]")],
    "but some": [regex(".*[05]", MatchOp.NOT_REGEX)],
    "also those without": [regex("(.*[05])?")],
    "only those with": [regex("(.*[05])?", MatchOp.NOT_REGEX)],
    "many literals": [regex("|".join(map(str, range(0, SERIES, 7))))],
    "several": [regex(".*[0-9]"), regex(".*[05]", MatchOp.NOT_REGEX), LabelMatcher("__name__", MatchOp.EQUAL, "m")],
    "prefixes": [regex("1.*"), regex("1[0-9]+3")],
}


@pytest.mark.parametrize("name", MATCHER_SETS)
def test_what_is_found_in_pieces_is_what_is_found_at_once(
    shard: Shard, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    matchers = MATCHER_SETS[name]
    expected = shard.label_table([matchers], *ALL_TIME).label_sets()
    assert expected
    shard._memory.index._regexes.clear()
    monkeypatch.setattr(lock_turns, "TURN_S", 0.0)
    monkeypatch.setattr(lock_turns, "_PAUSE_S", 0.0)
    monkeypatch.setattr(part_key_index, "_PIECE_VALUES", 100)
    monkeypatch.setattr(part_key_index, "_PIECE_SETS", 10)
    monkeypatch.setattr(label_matching, "_CACHED_CODES_MAX", 10)  # what is remembered is forgotten at once
    for _ in range(2):
        assert shard.label_table([matchers], *ALL_TIME).label_sets() == expected
    assert shard.select(matchers, *ALL_TIME).labels.label_sets() == expected


@pytest.mark.parametrize("name", MATCHER_SETS)
def test_series_that_come_meanwhile_are_found_only_if_they_match(
    shard: Shard, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each breath new series come: with values that the matchers have been tried on, and with new ones."""
    matchers = MATCHER_SETS[name]
    expected = shard.label_table([matchers], *ALL_TIME).label_sets()
    shard._memory.index._regexes.clear()
    monkeypatch.setattr(lock_turns, "TURN_S", 0.0)
    fresh = iter(range(1_000_000))

    def add(seconds: float) -> None:
        number = next(fresh)
        labels = [{"__name__": "m", "i": str(i), "n": str(number)} for i in (5, 13, SERIES + number)]
        shard.append([container([(one, [(1, 1.0)]) for one in labels])])
        shard.label_names([[LabelMatcher("n", MatchOp.EQUAL, "x")]], *ALL_TIME)  # another query indexes them

    with monkeypatch.context() as patch:
        patch.setattr(lock_turns.time, "sleep", add)
        patch.setattr(lock_turns.LockTurns, "breathe", only_outermost(lock_turns.LockTurns.breathe))
        found = shard.label_table([matchers], *ALL_TIME).label_sets()
    assert next(fresh) > 0, "it breathed"
    assert [one for one in found if "n" not in one] == expected
    for one in found:
        assert matches(matchers, one), one


def only_outermost(breathe):
    """The query that the test makes during a breath takes none itself."""
    deep = threading.local()

    def guarded(self: lock_turns.LockTurns) -> None:
        if getattr(deep, "inside", False):
            return
        deep.inside = True
        try:
            breathe(self)
        finally:
            deep.inside = False

    return guarded


def matches(matchers: list[LabelMatcher], labels: dict[str, str]) -> bool:
    for matcher in matchers:
        value = labels.get(matcher.name, "")
        accepted = {
            MatchOp.EQUAL: lambda m, v: v == m.value,
            MatchOp.REGEX: lambda m, v: label_matching.value_test(m.value)(v),
            MatchOp.NOT_REGEX: lambda m, v: not label_matching.value_test(m.value)(v),
        }[matcher.op](matcher, value)
        if not accepted:
            return False
    return True


def test_series_that_are_numbered_anew_meanwhile_are_looked_up_again(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_turns, "TURN_S", 0.0)
    kept = iter([True])

    def renumber(seconds: float) -> None:
        if next(kept, False):
            index = shard._memory.index
            index.truncate(index.count, index.labels.pair_count)

    monkeypatch.setattr(lock_turns.time, "sleep", renumber)
    found = shard.label_table([[regex(".*[05]")]], *ALL_TIME)
    assert next(kept, None) is None, "it happened"
    assert found.count == SERIES // 5


def test_a_query_of_always_matching_expressions_keeps_no_write_waiting_and_can_be_stopped(shard: Shard) -> None:
    """Each expression is another one, so that nothing is remembered: minutes of work, if nobody stopped it."""
    matchers = [regex(f"(.*[0-9]|no{i})+") for i in range(3_000)]
    token, stopped, began = CancelToken(600_000), threading.Event(), threading.Event()

    def query() -> None:
        began.set()
        try:
            shard.select(matchers, *ALL_TIME, token)
        except QueryCanceled:
            stopped.set()

    thread = threading.Thread(target=query, daemon=True)
    thread.start()
    assert began.wait(30)
    deadline_s = time.monotonic() + 60
    for i in range(20):
        shard.append([container([({"__name__": "new", "n": str(i)}, [(1, 1.0)])])])
        assert time.monotonic() < deadline_s, "writes wait for the query"
    assert thread.is_alive(), "the query is over too soon to tell"
    for ask in (
        lambda cancel: shard.label_names([matchers], *ALL_TIME, cancel=cancel),
        lambda cancel: shard.label_values("i", [matchers], *ALL_TIME, cancel=cancel),
        lambda cancel: shard.label_table([matchers], *ALL_TIME, cancel=cancel),
    ):
        canceled = CancelToken(600_000)
        canceled.cancel()
        with pytest.raises(QueryCanceled):
            ask(canceled)
    token.cancel()
    thread.join(60)
    assert stopped.is_set()
