"""The simulator finds each of the planted bugs.

.venv/bin/python tests/sim/test_seeded_bugs.py [SEEDS]     says in how many of so many seeds each is found, and how
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "support"))  # where pytest looks by itself

from planted_bugs import BUGS, SEEDS, Patch

from filoray.cluster.simulation.history import run_history


def findings(seeds: int) -> Iterator[tuple[int, str]]:
    """(seed, how) of the histories in which something is found."""
    for seed in range(seeds):
        try:
            run_history(seed)
        except AssertionError as error:
            yield seed, str(error).partition("\n")[0]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_the_simulator_finds(bug: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    found = list(findings(SEEDS))
    print(f"{bug.__name__} is found in {len(found)} of {SEEDS} seeds, first in {found[0] if found else None}")
    assert len(found) >= BUGS[bug]


if __name__ == "__main__":
    for planted in BUGS:
        with pytest.MonkeyPatch.context() as patch:
            planted(patch)
            count = int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS
            seen = list(findings(count))
        kinds = Counter(re.sub(r"seed \d+: |\d+", "", how)[:60] for _, how in seen)
        first = seen[0][0] if seen else "-"
        print(f"{len(seen):4} of {count}  first {first:>3}  {planted.__name__}: {kinds.most_common(2)}")
