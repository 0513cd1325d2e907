from __future__ import annotations

import itertools

import pytest

from filoray.cluster.control.shard_status import (
    EVENT_TYPES,
    OWNED,
    TRANSITIONS,
    IngestionError,
    InvalidTransition,
    RecoveryInProgress,
    ShardEvent,
    ShardStatus,
    StatusKind,
    mermaid_diagram,
    next_status,
    parse_status,
)


def _event(kind: type[ShardEvent]) -> ShardEvent:
    if kind is RecoveryInProgress:
        return RecoveryInProgress(42)
    return IngestionError("disk full") if kind is IngestionError else kind()


@pytest.mark.parametrize(("kind", "event_type"), list(itertools.product(StatusKind, EVENT_TYPES)))
def test_every_pair_moves_as_the_table_says_or_raises(kind: StatusKind, event_type: type[ShardEvent]) -> None:
    status = ShardStatus(kind)
    after = TRANSITIONS[kind].get(event_type)
    if after is None:
        with pytest.raises(InvalidTransition, match=event_type.__name__):
            next_status(status, _event(event_type))
    else:
        assert next_status(status, _event(event_type)).kind is after


def test_every_status_can_be_reached_and_left() -> None:
    reached = {after for moves in TRANSITIONS.values() for after in moves.values()}
    assert reached | {StatusKind.UNASSIGNED} == set(StatusKind)
    assert all(TRANSITIONS[kind] for kind in StatusKind)


def test_a_lost_owner_leaves_every_owned_status_down() -> None:
    for kind in StatusKind:
        is_lost = any(after is StatusKind.DOWN for after in TRANSITIONS[kind].values())
        assert is_lost == (kind in OWNED), kind


def test_texts_are_filodbs_and_can_be_read_back() -> None:
    recovering = next_status(ShardStatus(StatusKind.RECOVERY, 3), RecoveryInProgress(120))
    assert str(recovering) == "ShardStatusRecovery(100)"
    assert str(ShardStatus(StatusKind.ACTIVE)) == "ShardStatusActive"
    for kind in StatusKind:
        status = ShardStatus(kind, progress_pct=7 if kind is StatusKind.RECOVERY else 0)
        assert parse_status(str(status)) == status


def test_an_error_keeps_its_reason() -> None:
    assert next_status(ShardStatus(StatusKind.ACTIVE), IngestionError("disk full")).reason == "disk full"


def test_the_diagram_has_one_arrow_per_move() -> None:
    lines = mermaid_diagram().splitlines()
    assert "    Recovery --> Active: IngestionStarted" in lines
    assert len(lines) == 2 + sum(map(len, TRANSITIONS.values()))
