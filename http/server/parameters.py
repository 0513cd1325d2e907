"""A request's parameters, read and checked as Prometheus does, with its words for what is wrong.

Values come from the URL's query and from a form in the body, which goes first, or last if it is multipart (Go's
``Request.FormValue``).
The rules and texts are those of ``web/api/v1/api.go``: times are unix seconds or RFC 3339, durations seconds or
``1h30m``. What a query's text means is left to the services; only ``match[]`` selectors are parsed here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from aiohttp import web

from filoray.cluster.errors import BadData
from filoray.http.server.bodies import media_type, read_body
from filoray.http.server.forms import MULTIPART, URLENCODED, Pairs, by_name, parse_multipart, parse_urlencoded
from filoray.nodes.promql.durations import duration_ms_of_seconds, duration_out_of_range, parse_duration_ms
from filoray.nodes.promql.go_numbers import parse_float, parse_int64
from filoray.nodes.promql.quoting import quote

MIN_TIME_MS = -(1 << 61)
MAX_TIME_MS = (1 << 61) - 1
"""The beginning and the end of time: far enough for all data, near enough that sums with durations fit an int64."""

_NO_LIMIT = 1 << 53
_NO_DURATION_MS = -(1 << 63) // 1_000_000  # what Go makes of NaN seconds: less than any duration that is allowed
_RFC3339 = re.compile(
    r"(-?\d{4,9})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)
# Go's edges of time, which Prometheus's own clients print and which no calendar of Python's holds.
_MIN_TIME_TEXT = "-292273086-05-16T16:47:06Z"
_MAX_TIME_TEXT = "292277025-08-18T07:12:54.999999999Z"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRUE = frozenset(("true", "t", "1", "yes"))
_FALSE = frozenset(("false", "f", "0", "no"))


def invalid_parameter(name: str, problem: str) -> BadData:
    """Prometheus's ``invalid parameter "name": problem``."""
    return BadData(f"invalid parameter {quote(name)}: {problem}")


class Parameters:
    """Names to the values given, in order."""

    def __init__(self, values: Mapping[str, Sequence[str]]) -> None:
        self._values = values

    @classmethod
    def of_query(cls, request: web.Request) -> Parameters:
        """From the URL alone, for bodies that are no forms. Raises BadData."""
        return cls(by_name(parse_urlencoded(request.rel_url.raw_query_string)))

    @classmethod
    async def read(cls, request: web.Request, max_bytes: int) -> Parameters:
        """From the URL and the form in a POST's body. Raises BadData, PayloadTooLarge and what else ``bodies`` does."""
        pairs: Pairs = parse_urlencoded(request.rel_url.raw_query_string)
        kind = media_type(request) if request.method == "POST" else ""
        if kind in (URLENCODED, MULTIPART):
            body = await read_body(request, max_bytes, "filoray.query.max-query-size (three times, and 64 KiB) allows")
            if kind == MULTIPART:
                pairs = pairs + parse_multipart(body, request.headers["Content-Type"])
            else:
                pairs = parse_urlencoded(body.decode("utf-8", "replace")) + pairs
        return cls(by_name(pairs))

    def text(self, name: str) -> str:
        """The first value, "" where there is none."""
        values = self._values.get(name)
        return values[0] if values else ""

    def all(self, name: str) -> Sequence[str]:
        return self._values.get(name, ())

    def time_ms(self, name: str) -> int:
        """A time that is needed. Raises BadData."""
        try:
            return parse_time_ms(self.text(name))
        except ValueError as error:
            raise invalid_parameter(name, str(error)) from None

    def time_ms_or(self, name: str, default_ms: int) -> int:
        """A time that may be left out. Raises BadData."""
        text = self.text(name)
        if not text:
            return default_ms
        try:
            return parse_time_ms(text)
        except ValueError as error:
            raise invalid_parameter(name, f"invalid time value for '{name}': {error}") from None

    def duration_ms(self, name: str) -> int:
        """A duration that is needed. Raises BadData."""
        try:
            return parse_duration_parameter_ms(self.text(name))
        except ValueError as error:
            raise invalid_parameter(name, str(error)) from None

    def optional_duration_ms(self, name: str) -> int | None:
        return self.duration_ms(name) if self.text(name) else None

    def limit(self, name: str = "limit") -> int:
        """A count that is not negative; 0 (also where there is none): no limit. Raises BadData."""
        number = self.optional_integer(name)
        if number is not None and number < 0:
            raise invalid_parameter(name, f"{name} must be non-negative")
        # Counts beyond that of any answer are no limit; sums with them would not fit a message's integers.
        return number if number and number < _NO_LIMIT else 0

    def optional_integer(self, name: str) -> int | None:
        text = self.text(name)
        if not text:
            return None
        try:
            return parse_int64(text)
        except ValueError as error:
            raise invalid_parameter(name, str(error)) from None

    def flag(self, name: str) -> bool:
        """A yes or no; no where there is none. Raises BadData."""
        text = self.text(name).lower()
        if text in _TRUE:
            return True
        if text in _FALSE or not text:
            return False
        raise invalid_parameter(name, f"{quote(text)} is not true or false")


def parse_time_ms(text: str) -> int:
    """Milliseconds of unix seconds (fractions and signs too) or RFC 3339, rounded as Prometheus rounds.

    Raises ValueError with Prometheus's text. Times further off than MIN_TIME_MS and MAX_TIME_MS become those.
    """
    seconds = _float_or_none(text)
    if seconds is not None and math.isfinite(seconds):
        return _bounded_time_ms(seconds)
    if text == _MIN_TIME_TEXT:
        return MIN_TIME_MS
    if text == _MAX_TIME_TEXT:
        return MAX_TIME_MS
    match = _RFC3339.fullmatch(text)
    if match is not None:
        year, month, day, hour, minute, second, fraction, sign, zone_hour, zone_minute = match.groups()
        try:
            moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
            if sign is None:
                zone_minutes = 0
            elif int(zone_hour) < 24 and int(zone_minute) < 60:
                zone_minutes = int(sign + "1") * (int(zone_hour) * 60 + int(zone_minute))
            else:
                raise ValueError
            since = moment - _EPOCH
            milliseconds = int((fraction or "0").ljust(3, "0")[:3])
            return (since.days * 86_400 + since.seconds - zone_minutes * 60) * 1000 + milliseconds
        except (ValueError, OverflowError):
            pass
    raise ValueError(f"cannot parse {quote(text)} to a valid timestamp")


def _float_or_none(text: str) -> float | None:
    try:
        return parse_float(text)
    except ValueError:
        return None


def _bounded_time_ms(seconds: float) -> int:
    if abs(seconds) >= MAX_TIME_MS / 1000:
        return MAX_TIME_MS if seconds > 0 else MIN_TIME_MS
    whole = int(seconds)
    fraction = seconds - whole
    # Halves away from zero, as Go's math.Round.
    fraction_ms = int(abs(fraction) * 1000 + 0.5)
    return whole * 1000 + (fraction_ms if fraction >= 0 else -fraction_ms)


def parse_duration_parameter_ms(text: str) -> int:
    """Milliseconds of seconds as a number, or of ``1h30m``. Raises ValueError with Prometheus's text."""
    seconds = _float_or_none(text)
    if seconds is not None:
        if math.isnan(seconds):
            return _NO_DURATION_MS
        if duration_out_of_range(seconds):
            raise ValueError(f"cannot parse {quote(text)} to a valid duration. It overflows int64")
        return duration_ms_of_seconds(seconds)
    try:
        return parse_duration_ms(text)
    except ValueError:
        raise ValueError(f"cannot parse {quote(text)} to a valid duration") from None
