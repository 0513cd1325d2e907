"""Ends a launch that Ray keeps waiting inside itself: Ray's client waits for a Ray that is silent as long as it is.

Its own Ray is looked at from outside as the supervisor does; one that ends or stands still ends the launch within
seconds. So does what changes a cluster that runs.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.process.process_identity import times_scheduled
from filoray.command.cluster_start import START_S, Undo
from filoray.command.launch_state import LaunchState
from filoray.command.supervision import HangWatch

_CHECK_S = 1.0
_ENDED_LOOKS = 3
"""So often an ended process is looked for: a start that fails has its own word on why, and ends Ray before it."""


@contextmanager
def watched_start(config: ServerConfig, state: LaunchState, undo: Undo) -> Iterator[None]:
    """While the block runs; if it must be ended, the undo steps run and the process ends with exit code 1.

    Once there is nothing to undo, the launch is done.
    """
    done = threading.Event()
    thread = threading.Thread(target=_watch, args=[config, state, undo, done], daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


@contextmanager
def ended_with_ray(state: LaunchState) -> Iterator[None]:
    """The process ends with exit code 1 if the cluster's own Ray, of which it is a client, does meanwhile.

    For a minute it would not notice, and would keep the supervisor from bringing Ray back.
    """
    done = threading.Event()
    find_ended = _ended_finder(state)
    find_ended()  # it must have been seen to be missed

    def watch() -> None:
        while not done.wait(_CHECK_S):
            if ended := find_ended():
                problem = f"Ray's {ended} has ended; try again when its supervisor has it back"
                print(f"filoray: {problem}", file=sys.stderr, flush=True)
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _watch(config: ServerConfig, state: LaunchState, undo: Undo, done: threading.Event) -> None:
    began_s = time.monotonic()
    limit_s = config.seed.timeout_ms / 1000 + START_S
    find_still = _still_finder(state, config.supervisor.hang_timeout_ms)
    find_ended = _ended_finder(state)
    problem = ""
    has_begun = False
    while not problem:
        if done.wait(_CHECK_S) or (has_begun and not undo):
            return
        has_begun = has_begun or bool(undo)
        if still := find_still():
            problem = f"Ray's {still} stands still"
        elif (ended := find_ended()) and not undo.has_begun:
            problem = f"Ray's {ended} has ended"
        elif time.monotonic() - began_s > limit_s:
            problem = f"the cluster is not there after {limit_s:.0f} s, and Ray does not answer (see ray.log)"
    print(f"filoray: {problem}; ending the launch", file=sys.stderr, flush=True)
    ray = sys.modules.get("ray")
    for step in reversed(undo):
        if ray is None or step != ray.shutdown:  # which would wait as well
            step()
    os._exit(1)


def _ended_finder(state: LaunchState) -> Callable[[], str]:
    """Names essential processes of the launch's own Ray that were seen and have gone."""
    seen: set[str] = set()
    looks = 0

    def find() -> str:
        nonlocal looks
        running = state.ray.essential().keys() if state.ray is not None else set()
        seen.update(running)
        looks = looks + 1 if seen - running else 0
        return " and ".join(sorted(seen - running)) if looks >= _ENDED_LOOKS else ""

    return find


def _still_finder(state: LaunchState, timeout_ms: int) -> Callable[[], str]:
    """Names an essential process of the launch's own Ray that has stood still for long, if there is one."""
    watch: HangWatch[str] = HangWatch(timeout_ms, round(_CHECK_S * 1000))

    def find() -> str:
        essential = state.ray.essential() if state.ray is not None else {}
        counts = {name: times_scheduled(process.pid) for name, process in essential.items()}
        known = {name: count for name, count in counts.items() if count is not None}
        return " and ".join(watch.observe(known, time.monotonic_ns() // 1_000_000))

    return find
