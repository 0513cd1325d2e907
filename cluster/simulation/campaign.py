"""Many random histories, one seed after the other, on one core or on several.

Results come in the order of their seeds whatever the number of processes, so that a campaign that ends at the first
failure ends at the same one.
"""

from __future__ import annotations

import functools
import multiprocessing
import signal
from collections.abc import Generator, Sequence

from filoray.cluster.simulation.history import HistoryShape
from filoray.cluster.simulation.tally import HistoryResult, play

_CHUNK_MAX = 16
"""Histories that a process is given at once: as many as it plays in half a second or so."""


def play_all(shape: HistoryShape, seeds: Sequence[int], processes: int = 1) -> Generator[HistoryResult]:
    """Closing the iterator ends the processes."""
    if processes == 1:
        yield from (play(seed, shape) for seed in seeds)
        return
    # Spawned, as a fork would copy whatever threads its parent has begun, locks and all.
    chunk = max(1, min(_CHUNK_MAX, len(seeds) // (4 * processes)))
    with multiprocessing.get_context("spawn").Pool(processes, _ignore_interrupts) as pool:
        yield from pool.imap(functools.partial(_play_seed, shape), seeds, chunk)


def _play_seed(shape: HistoryShape, seed: int) -> HistoryResult:
    return play(seed, shape)


def _ignore_interrupts() -> None:
    """Ctrl-C is for the one who waits for the results: it ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
