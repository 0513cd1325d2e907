"""The clock that ``disk-time-to-live`` counts by: it goes forward by the time that really passed, never by a jump.

A core: who calls it reads the clocks. While a shard is open only the monotonic clock tells how much time passes; a
calendar that jumps, either way, is told of and changes nothing. Across a restart nothing but the calendar knows how
long the shard was closed: a gap of up to ``wait_ms`` counts at once; a longer one counts when the calendar has stood by
it for ``wait_ms``, so that a clock that was wrong at start-up can be corrected before anything is dropped; if the shard
is closed before, the gap is *owed*, and counts when it is opened at a time by which it would have. What samples that
arrived meanwhile say of the time bounds it: a clock that is far ahead of all senders is not believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

TOLERANCE_MS = 60_000
"""Differences up to this are no jump: clocks are adjusted by seconds now and then, and threads wait for their turn."""


@dataclass(frozen=True, slots=True)
class ClockReading:
    """``retention_ms``: the retention clock when the calendar said ``wall_ms`` (its latest, if it went back since)."""

    wall_ms: int
    retention_ms: int
    owed_ms: int = 0
    """Of a time when the shard was closed, not counted yet; the calendar says so since ``owed_since_ms``."""
    owed_since_ms: int = 0


@dataclass(frozen=True, slots=True)
class _Gap:
    """How long the shard seems to have been closed (ms), and since when (monotonic) the calendar says so."""

    claimed_ms: int
    since_ms: int


class RetentionClock:
    """``stored``: the last reading that a shard with data keeps; None: it is new."""

    def __init__(self, stored: ClockReading | None, wait_ms: int) -> None:
        self._stored = stored
        self._closed_at_ms = 0
        """By the calendar; before what is owed."""
        self._wait_ms = wait_ms
        self._gap: _Gap | None = None
        self._opened_ms: int | None = None
        self._seen_wall_ms = self._seen_monotonic_ms = 0
        self._reading = stored or ClockReading(0, 0)
        self._notices: list[str] = []

    @property
    def reading(self) -> ClockReading:
        """As of the last ``observe``, to be stored."""
        return self._reading

    def follow(self, reading: ClockReading) -> None:
        """Another's clock said this: if this one is ever asked, it goes on from there, as after a restart."""
        assert self._opened_ms is None, "a clock that goes follows nobody"
        self._stored = self._reading = reading

    def take_notices(self) -> list[str]:
        """Sentences about jumps that nobody took yet."""
        notices, self._notices = self._notices, []
        return notices

    def observe(self, wall_ms: int, monotonic_ms: int, newest_sample_ms: int | None = None) -> int:
        """The retention clock now, ms; it never goes back.

        ``newest_sample_ms``: the newest time of all samples that arrived since the shard was opened, if any did.
        """
        if self._opened_ms is None:
            self._opened_ms = monotonic_ms
            retention_ms = wall_ms if self._stored is None else self._begin(self._stored, wall_ms, monotonic_ms)
            latest_ms = max(wall_ms, self._reading.wall_ms)
        else:
            passed_ms = max(0, monotonic_ms - self._seen_monotonic_ms)
            retention_ms = self._reading.retention_ms + passed_ms
            latest_ms = max(wall_ms, self._reading.wall_ms + passed_ms)
            jump_ms = wall_ms - self._seen_wall_ms - passed_ms
            if abs(jump_ms) > TOLERANCE_MS:
                self._notices.append(
                    f"the clock jumped by {span_text(jump_ms)}, to {time_text(wall_ms)}; "
                    "disk-time-to-live counts on by the time that passed"
                )
            if self._gap is not None:
                retention_ms += self._settle(self._gap, wall_ms, monotonic_ms, newest_sample_ms)
        self._seen_wall_ms, self._seen_monotonic_ms = wall_ms, monotonic_ms
        owed = (0, 0) if self._gap is None else (self._gap.claimed_ms, wall_ms - (monotonic_ms - self._gap.since_ms))
        self._reading = ClockReading(latest_ms, retention_ms, *owed)
        return retention_ms

    def _begin(self, stored: ClockReading, wall_ms: int, monotonic_ms: int) -> int:
        claimed_ms, owed_ms, retention_ms = wall_ms - stored.wall_ms, stored.owed_ms, stored.retention_ms
        waited_ms = wall_ms - stored.owed_since_ms
        if claimed_ms < -TOLERANCE_MS:
            owed_ms = 0  # the calendar does not stand by it
            self._notices.append(
                f"the clock says {time_text(wall_ms)}, {span_text(-claimed_ms)} before the last flush; "
                "disk-time-to-live counts on from that flush"
            )
        elif owed_ms and waited_ms >= self._wait_ms:
            self._notices.append(f"the {span_text(owed_ms)} that the shard was closed for earlier count from now on")
            retention_ms, owed_ms = retention_ms + owed_ms, 0
        self._closed_at_ms = stored.wall_ms - owed_ms
        if claimed_ms + owed_ms <= self._wait_ms:
            return retention_ms + max(0, claimed_ms)
        goes_on_waiting = claimed_ms <= self._wait_ms
        self._gap = _Gap(claimed_ms + owed_ms, monotonic_ms - (waited_ms if goes_on_waiting else 0))
        self._tell_of_gap(self._gap, wall_ms, monotonic_ms)
        return retention_ms

    def _settle(self, gap: _Gap, wall_ms: int, monotonic_ms: int, newest_sample_ms: int | None) -> int:
        """How much of the gap counts from now on, ms; 0 while it is not decided."""
        elapsed_ms = monotonic_ms - (self._opened_ms or 0)
        claimed_ms = wall_ms - self._closed_at_ms - elapsed_ms
        if claimed_ms <= self._wait_ms:
            self._gap = None
            self._notices.append(f"the shard was closed for {span_text(max(0, claimed_ms))}, says the clock now")
            return max(0, claimed_ms)
        if abs(claimed_ms - gap.claimed_ms) > TOLERANCE_MS:
            self._gap = _Gap(claimed_ms, monotonic_ms)
            self._tell_of_gap(self._gap, wall_ms, monotonic_ms)
            return 0
        if monotonic_ms - gap.since_ms < self._wait_ms:
            return 0
        self._gap = None
        counted_ms = claimed_ms
        if newest_sample_ms is not None and newest_sample_ms > self._closed_at_ms:
            counted_ms = max(0, min(claimed_ms, newest_sample_ms + TOLERANCE_MS - self._closed_at_ms - elapsed_ms))
        if claimed_ms - counted_ms > 2 * TOLERANCE_MS and newest_sample_ms is not None:
            self._notices.append(
                f"the clock says that the shard was closed for {span_text(claimed_ms)}, but the newest sample that "
                f"arrived since is of {time_text(newest_sample_ms)}: {span_text(counted_ms)} count"
            )
        else:
            self._notices.append(f"the {span_text(counted_ms)} that the shard was closed for count from now on")
        return counted_ms

    def _tell_of_gap(self, gap: _Gap, wall_ms: int, monotonic_ms: int) -> None:
        left_ms = self._wait_ms - (monotonic_ms - gap.since_ms)
        self._notices.append(
            f"the clock says {time_text(wall_ms)}, {span_text(gap.claimed_ms)} after the last flush; if it still does "
            f"in {span_text(left_ms)} (clock-jump-wait), what disk-time-to-live is over for is dropped"
        )


def span_text(span_ms: int) -> str:
    """A length of time for people, ``25h 0m 3s``."""
    seconds = abs(span_ms) // 1000
    sign = "-" if span_ms < 0 else ""
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    parts = [f"{days}d"] * (days > 0) + [f"{hours}h"] * (seconds >= 3600) + [f"{minutes}m"] * (seconds >= 60)
    return sign + " ".join([*parts, f"{seconds % 60}s"])


def time_text(time_ms: int) -> str:
    """A moment for people, in UTC; what no calendar has is told in ms."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{time_ms} ms"
