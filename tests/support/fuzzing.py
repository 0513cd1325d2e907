"""How long tests throw dice: some rounds, the same each time, or as many as there is time for.

``FILORAY_FUZZ_SECONDS`` makes each test go on for that long, from a random seed that it prints.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

SECONDS = float(os.environ.get("FILORAY_FUZZ_SECONDS", "0"))


def new_seed() -> int:
    """Printed, so that a failed test shows it."""
    seed = random.SystemRandom().randrange(1 << 32) if SECONDS else 1
    print(f"seed {seed}")
    return seed


def rounds(count: int) -> Iterator[random.Random]:
    """Dice, made from the seed, for each of ``count`` rounds; for more if there is time."""
    dice = random.Random(new_seed())
    end_s = time.monotonic() + SECONDS
    while count > 0 or time.monotonic() < end_s:
        yield random.Random(dice.getrandbits(64))
        count -= 1
