"""The scenarios of ``conf/scenarios`` in virtual time; and that what they expect can fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from scenario_files import FILES, play_simulated, plays_in, short_form

from filoray.cluster.chaos.worlds import World
from filoray.cluster.simulation.shard_file import ShardFile
from filoray.cluster.simulation.simulated_node import SimulatedNode

SIMULATED = [path for path in FILES if plays_in(World.SIMULATED, path)]
LOAD = """
    nodes 3
    dataset timeseries shards 4 min-nodes 2
    expect all Active within 10s
    write 100 samples/s with 2 writers
    query continuously with 2 readers
"""


@pytest.mark.parametrize("path", SIMULATED, ids=lambda path: path.stem)
@pytest.mark.parametrize("seed", range(2))
def test_scenario(path: Path, seed: int) -> None:
    failure, record = play_simulated(short_form(path, "20s"), seed)
    assert failure is None, f"{failure}\n" + "\n".join(record.timeline.excerpt())
    verdicts = record.verdicts()
    assert verdicts.acknowledged > 50
    assert verdicts.answers > 10


def test_a_seed_decides_everything() -> None:
    text = LOAD + "every 2s for 20s: random fault"
    first, second, other = (play_simulated(text, seed)[1].timeline for seed in (5, 5, 6))
    assert first == second
    assert first.marks != other.marks


def test_an_expectation_that_fails_says_what_was_seen() -> None:
    failure, _ = play_simulated("nodes 1\ndataset one shards 2 min-nodes 2\nexpect all Active within 1s", 1)
    assert str(failure).startswith("line 3: expect all Active within 1s: members are 0; one has ")
    assert "Unassigned 0 1" in str(failure) or "Unassigned 1" in str(failure)


def test_a_short_lived_status_is_not_missed() -> None:
    failure, _ = play_simulated(LOAD + "wait 1s\nkill node 0\nwait 4s\nexpect shard 0 Down within 5ms", 1)
    assert failure is None


def test_what_was_before_the_last_deed_does_not_count() -> None:
    failure, _ = play_simulated(
        LOAD + "wait 1s\nkill node 0\nwait 8s\nstop querying\nexpect shard 0 Down within 10ms", 1
    )
    assert failure is not None
    assert "Active" in failure.seen


def acknowledged_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    take_write = SimulatedNode.take_write

    def too_early(node: SimulatedNode, key, epoch, refuse, sample=None) -> None:
        if sample is not None and node.serving.get(key) is not None:
            sample.taken()
        take_write(node, key, epoch, refuse, sample)

    patch.setattr(SimulatedNode, "take_write", too_early)
    patch.setattr("filoray.cluster.simulation.simulated_node.COMMIT_MS", 500)


def answers_without_what_was_written_last(patch: pytest.MonkeyPatch) -> None:
    found = ShardFile.found
    patch.setattr(ShardFile, "found", lambda file, series, samples, *window: found(file, series, samples - 5, *window))


def answers_with_what_another_wrote(patch: pytest.MonkeyPatch) -> None:
    found = ShardFile.found
    patch.setattr(
        ShardFile, "found", lambda *args: [sample._replace(value=sample.value + 1) for sample in found(*args)]
    )


@pytest.mark.parametrize(
    ("bug", "expectation", "said"),
    [
        (
            acknowledged_before_the_commit,
            "expect no acknowledged sample lost",
            r"acknowledged samples are lost: writer-",
        ),
        (answers_without_what_was_written_last, "expect no short answer", r"lacks writer-"),
        (answers_with_what_another_wrote, "expect no short answer", r"has with another value writer-"),
    ],
)
def test_a_planted_bug_is_found(bug, expectation: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    text = (
        LOAD + f"wait 2s\nkill node 0\nkill node 1\nexpect all Active within 20s\nstop writing\nwait 2s\n{expectation}"
    )
    failure, _ = play_simulated(text, 3)
    assert failure is not None
    assert failure.step.text == expectation
    assert said in failure.seen
