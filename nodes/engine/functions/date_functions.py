"""Functions of dates: a part of each sample's value, taken as seconds since 1970 in UTC, or of the evaluation time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from filoray.nodes.data.frame import TimeGrid, scalar_frame
from filoray.nodes.engine.functions.evaluation import Evaluation, Handler, Value
from filoray.nodes.engine.functions.instant_functions import Values, renamed
from filoray.nodes.promql.ast import Call

Dates = NDArray[np.datetime64]
Parts = NDArray[np.int64]


def date_part(part: Callable[[Dates], Parts], *, of_lowest: float) -> Handler:
    """``of_lowest``: NaN, infinities and what is beyond int64 become the lowest int64 in Go (on amd64), a time whose
    part this is."""

    def handler(evaluation: Evaluation, call: Call, grid: TimeGrid) -> Value:
        if not call.args:
            return scalar_frame(part(_dates(grid.times_ms() / 1000)).astype(np.float64))
        frame = evaluation.vector(call.args[0], grid)
        parts = part(_dates(frame.values)).astype(np.float64)
        return renamed(frame, np.where(_fits_int64(frame.values), parts, of_lowest))

    return handler


def days_in_month(dates: Dates) -> Parts:
    months = dates.astype("datetime64[M]")
    days = (months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")
    return np.asarray(days, np.int64)


def day_of_month(dates: Dates) -> Parts:
    return _since(dates, "D", "M") + 1


def day_of_week(dates: Dates) -> Parts:
    """1970-01-01 was a Thursday; Sunday is 0."""
    return (dates.astype("datetime64[D]").astype(np.int64) + 4) % 7


def day_of_year(dates: Dates) -> Parts:
    return _since(dates, "D", "Y") + 1


def hour(dates: Dates) -> Parts:
    return _since(dates, "h", "D")


def minute(dates: Dates) -> Parts:
    return _since(dates, "m", "h")


def month(dates: Dates) -> Parts:
    return _since(dates, "M", "Y") + 1


def year(dates: Dates) -> Parts:
    return dates.astype("datetime64[Y]").astype(np.int64) + 1970


def _dates(values: Values) -> Dates:
    seconds = np.where(_fits_int64(values), values, 0.0)
    return np.trunc(seconds).astype(np.int64).astype("datetime64[s]")


def _fits_int64(values: Values) -> NDArray[np.bool_]:
    return np.abs(values) < 2.0**63


def _since(dates: Dates, unit: str, start_unit: str) -> Parts:
    """Whole units since the start of the larger unit."""
    return np.asarray(dates.astype(f"datetime64[{unit}]") - dates.astype(f"datetime64[{start_unit}]"), np.int64)
