"""From a checked expression to an ExecPlan: what runs on the nodes and what the gateway does with the answers.

The maximal subtrees that each node can evaluate over its own series become Fragments: selectors, range
and per-series functions, operations with scalars, subqueries over these, and the map phase of aggregations.
All that looks at several series at once (joins, absent, sorting, histogram_quantile, label_replace with
its check for duplicates) stays at the gateway, unless all its series are known to live on one node. So does what
follows the removal of several metrics' names, as series of different nodes may be equal from there on. What a
subtree is in this respect, ``evaluate/tree_facts.py`` finds out, from what ``functions/function_specs.py`` says of each
function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from filoray.cluster.errors import ExecutionError
from filoray.nodes.data.frame import TimeGrid
from filoray.nodes.data.matching import METRIC_NAME, LabelMatcher, MatchOp
from filoray.nodes.engine.evaluate.aggregation_specs import aggregation_of
from filoray.nodes.engine.evaluate.tree_facts import Matchers, TreeFacts, selectors_of
from filoray.nodes.engine.evaluation_times import grid_inside
from filoray.nodes.engine.fragments import Fragment
from filoray.nodes.engine.functions.function_spec import AtGateway
from filoray.nodes.engine.functions.function_specs import FUNCTION_SPECS, spec_of
from filoray.nodes.engine.plan.info_reference import info_time
from filoray.nodes.engine.plan.time_resolution import resolve_times
from filoray.nodes.engine.query_params import QueryParams
from filoray.nodes.promql.ast import (
    Aggregate,
    Call,
    Expr,
    FragmentRef,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StepInvariant,
    Subquery,
    ValueType,
    VectorSelector,
)
from filoray.nodes.promql.deep_trees import Walk, walked
from filoray.nodes.promql.duration_resolution import durations_resolved
from filoray.nodes.promql.tree_walk import map_children, subtrees
from filoray.nodes.promql.types import value_type

Colocated = Callable[[Sequence[Matchers]], bool]

_EXTENDED = {
    spec.name: spec.range_function.extended
    for spec in sorted(FUNCTION_SPECS.values(), key=lambda spec: spec.name)
    if spec.range_function is not None and spec.range_function.extended is not None
}
ANCHORED_FUNCTIONS = tuple(_EXTENDED)
SMOOTHED_FUNCTIONS = tuple(name for name, extended in _EXTENDED.items() if extended.can_smooth)
"""The range functions that know what to do with samples from beyond the window."""

INFO_METRIC = "target_info"
INFO_METRIC_NAMES = ".+_info"
_NO_INPUT = NumberLiteral(0.0)


@dataclass(frozen=True, slots=True)
class ExecPlan:
    """``root`` is evaluated at the gateway over ``params.grid``; its FragmentRefs are indices into ``fragments``."""

    root: Expr
    fragments: tuple[Fragment, ...]
    params: QueryParams
    result_type: ValueType


def never_colocated(selectors: Sequence[Matchers]) -> bool:
    return False


def plan(expr: Expr, params: QueryParams, colocated: Colocated = never_colocated, *, query: str = "") -> ExecPlan:
    """Split a parsed and checked expression.

    ``colocated(selectors)`` is True when every series that these selectors could match lives on one node. It is
    asked about all selectors of the query: if so, the query is pushed whole and must be asked of that node only.
    ``query``: the text, for the place in an error's message. Raises PromqlError for a duration expression that gives
    no duration, ExecutionError for a function that cannot have an ``anchored`` or ``smoothed`` range.
    """
    duration_free = durations_resolved(expr, params.step_ms, params.end_ms - params.start_ms, query)
    resolved = resolve_times(duration_free, params)
    if any(isinstance(one, Call) and _is_info(one) for one in subtrees(resolved)):
        resolved = walked(_with_info_selectors(resolved))
    _check_extended_ranges(resolved)
    selectors = selectors_of(resolved)
    splitter = _Splitter(params, whole=bool(selectors) and colocated(selectors))
    root = walked(splitter.split(resolved, params.grid))
    return ExecPlan(root, tuple(splitter.fragments), params, value_type(expr))


def _check_extended_ranges(expr: Expr) -> None:
    for call in subtrees(expr):
        if not isinstance(call, Call):
            continue
        for arg in call.args:
            if isinstance(arg, MatrixSelector):
                if arg.selector.anchored:
                    _check_extension(call.function, "anchored", ANCHORED_FUNCTIONS)
                if arg.selector.smoothed:
                    _check_extension(call.function, "smoothed", SMOOTHED_FUNCTIONS)


def _check_extension(function: str, modifier: str, functions: tuple[str, ...]) -> None:
    if function not in functions:
        raise ExecutionError(f"{modifier} modifier can only be used with: {', '.join(functions)} - not with {function}")


class _Splitter:
    """``whole``: all series of the query live on one node, so that nothing need be taken apart."""

    def __init__(self, params: QueryParams, *, whole: bool) -> None:
        self.params = params
        self.whole = whole
        self.facts = TreeFacts(delayed_names=params.options.delayed_names)
        self.fragments: list[Fragment] = []

    def split(self, expr: Expr, grid: TimeGrid) -> Walk[Expr]:
        """The expression with its pushable parts replaced by references."""
        if self.facts.is_pure(expr) or grid.count <= 0:
            return expr
        split: Expr
        match expr:
            case StepInvariant() | Paren() | Subquery():
                split = yield self._split_inside(expr, grid)
                return split
            case MatrixSelector():
                # Stays where it is: the gateway reads the fragment's raw samples as if they were its own.
                self._fragment(expr, grid, None)
                return expr
        if self.facts.is_pushable(expr) or (self.whole and self.facts.type_of(expr) is ValueType.VECTOR):
            return self._fragment(expr, grid, None)
        match expr:
            case Aggregate():
                split = yield self._split_aggregate(expr, grid)
            case Call():
                split = yield self._split_call(expr, grid)
            case _:
                split = yield self._split_inside(expr, grid)
        return split

    def _split_inside(self, expr: Expr, grid: TimeGrid) -> Walk[Expr]:
        return map_children(expr, lambda child: self.split(child, grid_inside(expr, grid)))

    def _split_call(self, expr: Call, grid: TimeGrid) -> Walk[Expr]:
        match spec_of(expr).at_gateway:
            case AtGateway.PRESENCE:
                # All that matters is whether there is anything; the labels come from the argument as written.
                anything = Aggregate("group", expr.args[0], position=expr.position)
                return replace(expr, args=((yield self.split(anything, grid)), expr.args[0]))
            case AtGateway.PRESENCE_IN_WINDOWS:
                # Not present_over_time: names that it removes could make series equal, which is an error elsewhere.
                present = Call("last_over_time", expr.args, expr.position)
                anything = Aggregate("group", present, position=expr.position)
                return replace(expr, args=((yield self.split(anything, grid)), expr.args[0]))
            case AtGateway.INFO_SERIES:
                base, times, selector = expr.args
                base = yield self.split(base, grid)
                # Info metrics are told apart by name, so that names stay on the times of their samples.
                return replace(expr, args=(base, self._fragment(times, grid, None, delayed_names=True), selector))
        split: Expr = yield self._split_inside(expr, grid)
        return split

    def _split_aggregate(self, expr: Aggregate, grid: TimeGrid) -> Walk[Expr]:
        param = None if expr.param is None else (yield self.split(expr.param, grid))
        needs_parameter = aggregation_of(expr).parameter_at_node
        parameter_travels = param is None or self.facts.is_pure(param) or not needs_parameter
        if parameter_travels and self.facts.is_pushable(expr.expr) and not self.facts.may_collide(expr.expr):
            # The fragment has the input by itself.
            map_phase = replace(expr, expr=_NO_INPUT, param=expr.param if needs_parameter else None)
            return replace(expr, param=param, expr=self._fragment(expr.expr, grid, map_phase))
        return replace(expr, param=param, expr=(yield self.split(expr.expr, grid)))

    def _fragment(
        self, expr: Expr, grid: TimeGrid, map_phase: Aggregate | None, *, delayed_names: bool = False
    ) -> FragmentRef:
        options = replace(self.params.options, delayed_names=True) if delayed_names else self.params.options
        fragment = Fragment(expr, grid, options, map_phase, selectors_of(expr))
        self.fragments.append(fragment)
        return FragmentRef(len(self.fragments) - 1, value_type(expr), expr.position)


def _with_info_selectors(expr: Expr) -> Walk[Expr]:
    """``info(v, {m})`` becomes ``info(v, timestamp(target_info{m}), target_info{m})``.

    The function needs the info series' sample times, to choose among those that overlap, not their values; the
    third argument is never evaluated: its matchers say which labels are wanted.
    """
    expr = yield map_children(expr, _with_info_selectors)
    if not isinstance(expr, Call) or not _is_info(expr):
        return expr
    base, given = expr.args if len(expr.args) > 1 else (expr.args[0], VectorSelector("", (), position=expr.position))
    assert isinstance(given, VectorSelector)
    selector = replace(_named_info_selector(given), time=info_time(base))
    return replace(expr, args=(base, Call("timestamp", (selector,), given.position), selector))


def _is_info(call: Call) -> bool:
    return spec_of(call).at_gateway is AtGateway.INFO_SERIES


def _named_info_selector(selector: VectorSelector) -> VectorSelector:
    """With a name to look for: ``target_info`` if none is given, all ``..._info`` if it is only said which are not."""
    ops = [matcher.op for matcher in selector.matchers if matcher.name == METRIC_NAME]
    if not ops:
        matchers = (*selector.matchers, LabelMatcher(METRIC_NAME, MatchOp.EQUAL, INFO_METRIC))
        return replace(selector, name=INFO_METRIC, matchers=matchers)
    if all(op in (MatchOp.NOT_EQUAL, MatchOp.NOT_REGEX) for op in ops):
        return replace(
            selector, matchers=(*selector.matchers, LabelMatcher(METRIC_NAME, MatchOp.REGEX, INFO_METRIC_NAMES))
        )
    return selector
