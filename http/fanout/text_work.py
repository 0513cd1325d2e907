"""Work on a query's text that may take seconds for the longest (parsing, planning, printing), off the event loop.

In a few threads of its own: those in which write bodies are decoded stay free for them. Each piece of work is bounded
by ``filoray.query.max-query-size`` and ``max-terms``, and their number by the gates before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

INLINE_TEXT_CHARACTERS_MAX = 4 * 1024
"""Shorter texts are worked on where they are, in some milliseconds: a thread's hand-over would cost more."""

_threads = ThreadPoolExecutor(2, "query-text")


async def run_text_work(act: Callable[[], T]) -> T:
    """What ``act`` returns or raises."""
    return await asyncio.get_running_loop().run_in_executor(_threads, act)
