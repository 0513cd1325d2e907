"""Giving freed memory back to the operating system: the C library keeps what queries and writes had in its heap."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time

_INTERVAL_S = 2.0
_WORKED_S_MIN = 0.1


def release_freed_memory() -> None:
    """Empty pages of the C library's heap go back; without glibc nothing happens. Takes about 10 ms."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def release_freed_memory_regularly() -> None:
    """From now on, every two seconds in which this process did more than a little."""
    threading.Thread(target=_release_regularly, name="memory", daemon=True).start()


def _release_regularly() -> None:
    released_at_s = 0.0
    while True:
        threading.Event().wait(_INTERVAL_S)
        worked_s = time.process_time()
        if worked_s >= released_at_s + _WORKED_S_MIN:
            release_freed_memory()
            released_at_s = time.process_time()
