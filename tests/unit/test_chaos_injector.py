"""Random faults: the seed decides, every kind comes, and none that the stage cannot play."""

from __future__ import annotations

import pytest

from filoray.cluster.chaos.actions import Hang, Kill, Part, Resume
from filoray.cluster.chaos.injector import KINDS, FaultInjector
from filoray.cluster.chaos.worlds import Need, Stage, World, word_of

LACKING = dict.fromkeys(Need, "not here")
STAGES = [
    Stage(World.REAL, {}),
    Stage(World.REAL, LACKING),
    Stage(World.SIMULATED, {}),
    Stage(World.SIMULATED, {}, True),
]


def drawn(seed: int, stage: Stage, count: int = 60, *, has_copies: bool = True) -> list[object]:
    injector = FaultInjector(seed, 3, stage, has_copies=has_copies)
    return [injector.draw(10_000) for _ in range(count)]


def test_the_seed_decides() -> None:
    assert drawn(7, STAGES[0]) == drawn(7, STAGES[0])
    assert drawn(7, STAGES[0]) != drawn(8, STAGES[0])


@pytest.mark.parametrize("stage", STAGES)
def test_each_kind_that_can_be_played_comes_before_any_comes_again(stage: Stage) -> None:
    faults = drawn(3, stage)
    kinds = [" ".join(word for word in fault.text.split() if not word[0].isdigit()) for fault in faults]
    count = len(set(kinds))
    assert 0 < count < len(KINDS) + 1
    assert len(set(kinds[:count])) == len(set(kinds[count : 2 * count])) == count
    assert [fault.text for fault in faults if stage.refusal(word_of(fault.deed))] == []


def test_what_lasts_is_remedied_before_the_next_fault() -> None:
    for fault in drawn(5, STAGES[2]):
        if isinstance(fault.deed, Hang):
            assert fault.remedy == Resume(fault.deed.target)
            assert 0 < fault.remedy_after_ms <= 8000
        if isinstance(fault.deed, Kill):
            assert fault.remedy is None


def test_a_cluster_without_a_ray_of_its_own_keeps_its_raylet() -> None:
    targets = {fault.deed.target.part for fault in drawn(1, STAGES[1]) if isinstance(fault.deed, Kill)}
    assert targets == {Part.NODE, Part.GATEWAY, Part.COORDINATOR, Part.SEED}


def test_a_disk_is_lost_only_where_there_are_copies() -> None:
    for stage in (STAGES[0], STAGES[2]):
        for has_copies in (True, False):
            texts = " ".join(fault.text for fault in drawn(3, stage, has_copies=has_copies))
            assert ("lose disk" in texts) == has_copies
