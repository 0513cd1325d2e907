"""The bytes of memory that requests hold together, and who has to go when they are too many.

Two budgets, both cores of one event loop without HTTP. ``ByteBudget``: bodies that arrive and are decoded; a body that
does not become complete is given up for one that does. ``UnsentBudget``: answers that are evaluated and not yet taken;
a client that does not take its own is cut off for one that will. One request alone may always hold what it needs.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from filoray.cluster.errors import TooManyRequests, Unavailable
from filoray.http.server.admission import ClientShare


class ByteBudget:
    """Bytes of request bodies and of what is decoded from them."""

    def __init__(self, max_bytes: int, config_key: str, share: ClientShare | None = None) -> None:
        self._max_bytes = max_bytes
        self._max_bytes_of_one = (share or ClientShare()).of_bytes(max_bytes)
        self._config_key = config_key
        self._shares: dict[Share, None] = {}  # in the order in which they began
        self._bytes_of: Counter[str] = Counter()  # by client
        self._held_bytes = 0

    @contextmanager
    def share(self, client: str = "") -> Iterator[Share]:
        """One request's part, empty at first, given back at the end of the block."""
        share = Share(self, client)
        self._shares[share] = None
        try:
            yield share
        finally:
            if share in self._shares:
                self._give_back(share)

    def take(self, share: Share, size_bytes: int) -> None:
        if share.refusal is not None:
            raise share.refusal
        while (others := self._in_the_way(share, size_bytes)) is not None:
            victim = _first_of_the_largest(other for other in others if other.cut_off is not None)
            if victim is None or victim is share:
                raise TooManyRequests(
                    f"{self._held_bytes - share.size_bytes} bytes of other requests are on their way, and "
                    f"{share.size_bytes + size_bytes} more exceed {self._config_key} = {self._max_bytes} or the part "
                    "of it that filoray.http.max-client-percent leaves to one client; try again later"
                )
            self._give_back(victim)
            victim.refuse(
                Unavailable(
                    f"the body was not complete when its place was needed for others, {self._config_key} = "
                    f"{self._max_bytes} bytes being in use; try again later"
                )
            )
        self._count(share, size_bytes)
        share.size_bytes += size_bytes

    def _in_the_way(self, share: Share, size_bytes: int) -> list[Share] | None:
        """The shares one of which must go so that ``size_bytes`` more fit; None if they do."""
        own_bytes = self._bytes_of[share.client]
        if own_bytes > share.size_bytes and own_bytes + size_bytes > self._max_bytes_of_one:
            return [other for other in self._shares if other.client == share.client]
        if self._held_bytes > share.size_bytes and self._held_bytes + size_bytes > self._max_bytes:
            return list(self._shares)
        return None

    def shrink(self, share: Share, size_bytes: int) -> None:
        if share in self._shares:
            self._count(share, -size_bytes)
            share.size_bytes -= size_bytes

    def _give_back(self, share: Share) -> None:
        del self._shares[share]
        self._count(share, -share.size_bytes)

    def _count(self, share: Share, size_bytes: int) -> None:
        self._held_bytes += size_bytes
        self._bytes_of[share.client] += size_bytes
        if not self._bytes_of[share.client]:
            del self._bytes_of[share.client]


class Share:
    """What one request holds of a budget. While ``cut_off`` is set its body arrives, and may be given up."""

    def __init__(self, budget: ByteBudget, client: str) -> None:
        self._budget = budget
        self.client = client
        self.size_bytes = 0
        self.cut_off: Callable[[], None] | None = None
        self.refusal: Unavailable | None = None

    def grow(self, size_bytes: int) -> None:
        """Raises TooManyRequests if that many more do not fit, Unavailable if the share was given to others."""
        self._budget.take(self, size_bytes)

    @contextmanager
    def holding(self, size_bytes: int) -> Iterator[None]:
        """That many more until the end of the block. Raises as ``grow``."""
        self.grow(size_bytes)
        try:
            yield
        finally:
            self._budget.shrink(self, size_bytes)

    def refuse(self, refusal: Unavailable) -> None:
        self.refusal = refusal
        if self.cut_off is not None:
            self.cut_off()


class UnsentBudget:
    """Bytes of answers. A client that took nothing for ``patience_ms`` is cut off when others need its place."""

    def __init__(
        self,
        max_bytes: int,
        config_key: str,
        patience_ms: int,
        share: ClientShare | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_bytes_of_one = (share or ClientShare()).of_bytes(max_bytes)
        self._config_key = config_key
        self._patience_s = patience_ms / 1000
        self._now_s = now_s
        self._answers: dict[UnsentAnswer, None] = {}
        self._held_bytes = 0
        self._given_back = asyncio.Event()

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    @contextmanager
    def answer(self, client: str = "") -> Iterator[UnsentAnswer]:
        """One request's part, empty at first, given back at the end of the block."""
        answer = UnsentAnswer(self, client, self._now_s)
        self._answers[answer] = None
        try:
            yield answer
        finally:
            if answer in self._answers:
                self._give_back(answer)

    async def take(self, answer: UnsentAnswer, size_bytes: int, timeout_ms: int) -> None:
        deadline_s = self._now_s() + timeout_ms / 1000
        while (others := self._in_the_way(answer, size_bytes)) is not None:
            now_s = self._now_s()
            waits = sorted(
                ((now_s - other.waits_since_s, other) for other in others if other.waits_since_s is not None),
                key=lambda wait: -wait[0],
            )
            slow = _first_of_the_largest(other for waited_s, other in waits if waited_s >= self._patience_s)
            if slow is not None:
                self._give_back(slow)
                slow.cut_off()
                continue
            if now_s >= deadline_s:
                raise Unavailable(
                    f"{self._held_bytes} bytes of answers wait for their clients to take them, and {size_bytes} more "
                    f"exceed {self._config_key} = {self._max_bytes} or the part of it that "
                    "filoray.http.max-client-percent leaves to one client; try again later"
                )
            self._given_back.clear()
            with suppress(TimeoutError):
                longest_s = waits[0][0] if waits else 0.0
                async with asyncio.timeout(min(self._patience_s - longest_s, deadline_s - now_s)):
                    await self._given_back.wait()
        self._held_bytes += size_bytes
        answer.size_bytes += size_bytes

    def _in_the_way(self, answer: UnsentAnswer, size_bytes: int) -> list[UnsentAnswer] | None:
        own = [other for other in self._answers if other.client == answer.client and other.size_bytes]
        own_bytes = sum(other.size_bytes for other in own)
        if own_bytes and own_bytes + size_bytes > self._max_bytes_of_one:
            return own
        if self._held_bytes and self._held_bytes + size_bytes > self._max_bytes:
            return [other for other in self._answers if other.size_bytes]
        return None

    def _give_back(self, answer: UnsentAnswer) -> None:
        del self._answers[answer]
        self._held_bytes -= answer.size_bytes
        self._given_back.set()


class UnsentAnswer:
    """What one answer holds. ``waits_since_s``: since when its client has taken nothing; None while it takes."""

    def __init__(self, budget: UnsentBudget, client: str, now_s: Callable[[], float]) -> None:
        self._budget = budget
        self._now_s = now_s
        self.client = client
        self.size_bytes = 0
        self.waits_since_s: float | None = None
        self.cut_off: Callable[[], None] = lambda: None

    async def take(self, size_bytes: int, timeout_ms: int) -> None:
        """Hold that many bytes; waits for others to give theirs back. Raises Unavailable after ``timeout_ms``."""
        await self._budget.take(self, size_bytes, timeout_ms)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around each piece that the client is given."""
        self.waits_since_s = self._now_s()
        try:
            yield
        finally:
            self.waits_since_s = None


_Holder = TypeVar("_Holder", Share, UnsentAnswer)


def _first_of_the_largest(holders: Iterable[_Holder]) -> _Holder | None:
    """The first, in the order given, of those whose client holds most."""
    candidates = list(holders)
    bytes_of: dict[str, int] = {}
    for holder in candidates:
        bytes_of[holder.client] = bytes_of.get(holder.client, 0) + holder.size_bytes
    return max(candidates, key=lambda holder: bytes_of[holder.client], default=None)
