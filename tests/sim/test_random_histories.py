"""Random cluster histories: safety at every step, liveness after healing. A failure names its seed."""

from __future__ import annotations

import pytest

from filoray.cluster.control.membership import Membership
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.process.observed_clock import ObservedClock
from filoray.cluster.simulation.simulator import SimulatedCluster, SimulatedNode, run_history
from filoray.cluster.store.meta_store import MetaStore

SEEDS = range(60)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_history_loses_a_shard_or_gives_it_two_owners(seed: int) -> None:
    assert run_history(seed).acknowledged_count > 0


def _run_histories() -> None:
    for seed in range(30):
        run_history(seed)


def test_a_seed_decides_everything() -> None:
    assert run_history(7, 20_000).trace == run_history(7, 20_000).trace


def test_the_checks_notice_epochs_that_are_not_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MetaStore, "put_shard_map", lambda store, shard_map: None)
    with pytest.raises(AssertionError, match="seed"):
        _run_histories()


def test_the_checks_notice_shards_that_are_handed_on_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    lose = ShardManager._member_lost

    def forgetful(manager: ShardManager, *args: object) -> object:
        commands = lose(manager, *args)  # type: ignore[arg-type]
        manager._fenced.clear()
        return commands + manager._assign_all("too early", 0)

    monkeypatch.setattr(ShardManager, "_member_lost", forgetful)
    with pytest.raises(AssertionError, match="still holds it"):
        _run_histories()


def test_the_checks_notice_a_coordinator_that_takes_its_own_absence_for_the_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ObservedClock, "now_ms", lambda clock: clock._source())
    with pytest.raises(AssertionError, match="was lost though it runs"):
        _run_histories()


def test_the_checks_notice_deletions_that_do_not_name_their_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    set_up = ShardManager._set_up

    def in_the_same_place(manager: ShardManager, *args: object) -> object:
        manager._generations.clear()
        return set_up(manager, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(ShardManager, "_set_up", in_the_same_place)
    with pytest.raises(AssertionError, match="was deleted under the owner"):
        _run_histories()


def test_the_checks_notice_shards_that_move_before_their_owner_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = ShardManager._stop

    def forgetful(manager: ShardManager, *args: object) -> object:
        commands = stop(manager, *args)  # type: ignore[arg-type]
        manager._fenced.clear()
        return commands

    monkeypatch.setattr(ShardManager, "_stop", forgetful)
    with pytest.raises(AssertionError, match="still holds it"):
        _run_histories()


def test_the_checks_notice_processes_that_are_given_up_before_their_lease_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Membership, "_lease_end_ms", lambda membership, now_ms: now_ms)
    with pytest.raises(AssertionError, match=r"still holds it|may have newer data"):
        _run_histories()


def test_the_checks_notice_leases_that_begin_when_their_grant_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grant may be on its way, or wait in a process that does not run, for longer than the lease."""
    beat = SimulatedCluster._beat

    def from_arrival(cluster: SimulatedCluster, life: object, process: SimulatedNode, from_ms: int) -> None:
        beat(cluster, life, process, cluster._clock_ms(process))  # type: ignore[arg-type]

    monkeypatch.setattr(SimulatedCluster, "_beat", from_arrival)
    with pytest.raises(AssertionError, match=r"still holds it|may have newer data"):
        _run_histories()
