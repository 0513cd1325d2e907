"""Going over syntax trees of any height without running out of stack.

A chain ``a + b + c + …`` is a tree as high as it is long, and CPython stops at 1,000 frames. So what walks trees is
written as a generator that yields the generators of its subtrees and is sent their results; ``walked`` runs it with
a stack of its own:

    def _leaves(expr):
        if isinstance(expr, Binary):
            return (yield _leaves(expr.left)) + (yield _leaves(expr.right))
        return 1

    walked(_leaves(expr))

What nests (calls, parentheses, signs) is bounded by ``filoray.query.max-depth`` and may recurse, if it makes room
first.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
Walk = Generator["Walk[Any]", Any, T]
"""Of one subtree: yields the walks of subtrees, is sent what each returned, returns its own result."""

CHECKED_EVERY = 16
"""Levels of recursion between two looks at the room that is left."""

_FRAMES_OF_THESE = 320


def walked(walk: Walk[T]) -> T:
    """The result of a walk. What one raises ends all of them."""
    stack: list[Walk[Any]] = [walk]
    result: Any = None
    while True:
        try:
            inner = stack[-1].send(result)
        except StopIteration as done:
            stack.pop()
            result = done.value
            if not stack:
                outermost: T = result
                return outermost
        else:
            stack.append(inner)
            result = None


def all_of(walks: Iterable[Walk[T]]) -> Walk[list[T]]:
    """What each returns, one after the other; a comprehension cannot yield."""
    results: list[T] = []
    for walk in walks:
        results.append((yield walk))  # noqa: PERF401
    return results


def make_room(level: int) -> None:
    """To be called at each level of a recursion: sees to it that the next ones have frames, wherever the caller stands.

    Python's limit guards against recursion without end, not memory: frames of Python code are not on C's stack. It is
    raised, never lowered, so that threads do not get into each other's way.
    """
    if level % CHECKED_EVERY:
        return
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    # Twice the depth: calls by way of C (a generator, a sort's key) count as well and are no frames.
    if sys.getrecursionlimit() < 2 * depth + _FRAMES_OF_THESE:
        sys.setrecursionlimit(2 * depth + 2 * _FRAMES_OF_THESE)
