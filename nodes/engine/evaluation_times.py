"""At which times the parts of an expression are evaluated, given the times of the whole.

Of expressions whose times are absolute (``plan.time_resolution`` makes them so): gateway and node find the same.
"""

from __future__ import annotations

from filoray.nodes.data.frame import TimeGrid
from filoray.nodes.promql.ast import Expr, MatrixSelector, StepInvariant, Subquery, TimeModifier


def invariant_grid(grid: TimeGrid) -> TimeGrid:
    """Where the inside of a StepInvariant is evaluated: the first step only."""
    return TimeGrid(grid.start_ms, grid.step_ms, 1)


def pinned_grid(time: TimeModifier, grid: TimeGrid) -> TimeGrid:
    """The evaluation times of a selector or subquery: one if it is pinned, otherwise the grid's. Offset not applied."""
    return grid if time.at_ms is None else TimeGrid(time.at_ms, grid.step_ms, 1)


def subquery_grid(subquery: Subquery, grid: TimeGrid) -> TimeGrid:
    """The absolute times at which a subquery's inside is evaluated for all steps of the outer grid.

    Multiples of the subquery's step, the first one behind (start - offset - range), as windows are left-open.
    The count is 0 if no multiple lies in it.
    """
    outer = pinned_grid(subquery.time, grid)
    step_ms = subquery.step_ms
    left_ms = outer.start_ms - subquery.time.offset_ms - subquery.range_ms
    start_ms = (left_ms // step_ms + 1) * step_ms
    end_ms = outer.end_ms - subquery.time.offset_ms
    return TimeGrid(start_ms, step_ms, max((end_ms - start_ms) // step_ms + 1, 0))


def grid_inside(expr: Expr, grid: TimeGrid) -> TimeGrid:
    """Where what is inside an expression is evaluated for all steps of the expression's own grid."""
    match expr:
        case StepInvariant():
            return invariant_grid(grid)
        case Subquery():
            return subquery_grid(expr, grid)
    return grid


def window_span(argument: MatrixSelector, grid: TimeGrid, lookback_ms: int) -> tuple[int, int]:
    """The first and last time of samples that any window of a range vector may hold."""
    selector = argument.selector
    times = pinned_grid(selector.time, grid)
    behind_ms = argument.range_ms + (lookback_ms if selector.anchored or selector.smoothed else 0)
    ahead_ms = lookback_ms if selector.smoothed else 0
    offset_ms = selector.time.offset_ms
    return times.start_ms - offset_ms - behind_ms + 1, times.end_ms - offset_ms + ahead_ms
