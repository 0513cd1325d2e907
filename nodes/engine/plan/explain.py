"""An ExecPlan as text, in the notation of FiloDB's exec plans.

``E~`` lines are plans that run somewhere, ``T~`` lines transform what the line below gives; dashes tell the depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from filoray.nodes.data.frame import TimeGrid
from filoray.nodes.data.matching import METRIC_NAME, LabelMatcher, MatchOp
from filoray.nodes.engine.evaluate.tree_facts import TreeFacts
from filoray.nodes.engine.evaluation_times import grid_inside, window_span
from filoray.nodes.engine.fragments import Fragment
from filoray.nodes.engine.functions.function_spec import AtGateway, Mapper
from filoray.nodes.engine.functions.function_specs import spec_of
from filoray.nodes.engine.plan.planner import ExecPlan
from filoray.nodes.promql.ast import (
    Aggregate,
    Binary,
    Call,
    Cardinality,
    Expr,
    FragmentRef,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StepInvariant,
    StringLiteral,
    Subquery,
    Unary,
    VectorSelector,
)
from filoray.nodes.promql.deep_trees import Walk, walked
from filoray.nodes.promql.printer import to_text
from filoray.nodes.promql.tree_walk import children, subtrees, unwrap_parens

_OPERATORS = {
    "+": "ADD",
    "-": "SUB",
    "*": "MUL",
    "/": "DIV",
    "%": "MOD",
    "^": "POW",
    "==": "EQL",
    "!=": "NEQ",
    ">": "GTR",
    "<": "LSS",
    ">=": "GTE",
    "<=": "LTE",
    "and": "LAND",
    "or": "LOR",
    "unless": "LUnless",
}
_FILTERS = {
    MatchOp.EQUAL: "Equals",
    MatchOp.NOT_EQUAL: "NotEquals",
    MatchOp.REGEX: "EqualsRegex",
    MatchOp.NOT_REGEX: "NotEqualsRegex",
}
_MAPPERS_OF_ONE_FUNCTION = (Mapper.ABSENT, Mapper.VECTOR)
_DASHES_MAX = 250  # each term of a chain is deeper; beyond this the text would grow with the chain's square


def explain(plan: ExecPlan, node_shards: Mapping[str, Sequence[int]], dataset: str = "timeseries") -> list[str]:
    """One line for each step. ``node_shards``: the shards that are asked, by the address of the node that owns them."""
    explainer = _Explainer(plan.fragments, node_shards, dataset)
    walked(explainer.root(plan.root, plan.params.grid, 0))
    return explainer.lines


class _Explainer:
    def __init__(self, fragments: Sequence[Fragment], node_shards: Mapping[str, Sequence[int]], dataset: str) -> None:
        self.fragments = fragments
        # Reversed: of equal ones the first counts.
        self.of_windows = {one.expr: one for one in reversed(fragments) if isinstance(one.expr, MatrixSelector)}
        self.node_shards = node_shards
        self.dataset = dataset
        self.lines: list[str] = []
        self.facts = TreeFacts(delayed_names=True)

    def add(self, depth: int, text: str) -> None:
        self.lines.append("-" * min(depth, _DASHES_MAX) + text)

    # ---- the gateway's part

    def root(self, expr: Expr, grid: TimeGrid, depth: int) -> Walk[None]:
        match expr:
            case Paren():
                yield self.root(expr.expr, grid, depth)
            case StepInvariant():
                self.add(
                    depth, f"T~RepeatTransformer(startMs={grid.start_ms}, stepMs={grid.step_ms}, endMs={grid.end_ms})"
                )
                yield self.root(expr.expr, grid_inside(expr, grid), depth + 1)
            case FragmentRef():
                yield self._gathered(self.fragments[expr.index], depth, "E~LocalPartitionDistConcatExec()")
            case MatrixSelector():
                yield self._gathered(self.of_windows[expr], depth, "E~LocalPartitionDistConcatExec()")
            case Aggregate():
                yield self._aggregate(expr, grid, depth)
            case Binary() if expr.matching is not None:
                kind = "SetOperatorExec" if expr.matching.cardinality is Cardinality.MANY_TO_MANY else "BinaryJoinExec"
                labels = _list(expr.matching.labels)
                on, ignoring = (labels, "List()") if expr.matching.on else ("List()", labels)
                self.add(depth, f"E~{kind}(binaryOp={_operator(expr)}, on={on}, ignoring={ignoring})")
                yield self.root(expr.left, grid, depth + 1)
                yield self.root(expr.right, grid, depth + 1)
            case _ if self.facts.is_pure(expr):
                self._pure(expr, grid, depth)
            case _:
                yield self._transformed(expr, grid, depth)

    def _aggregate(self, expr: Aggregate, grid: TimeGrid, depth: int) -> Walk[None]:
        op, params = _camel(expr.op), _list([] if expr.param is None else [_text(expr.param)])
        self.add(depth, f"T~AggregatePresenter(aggrOp={op}, aggrParams={params})")
        reducer = f"E~LocalPartitionReduceAggregateExec(aggrOp={op}, aggrParams={params})"
        inner = unwrap_parens(expr.expr)
        if isinstance(inner, FragmentRef) and self.fragments[inner.index].map_phase is not None:
            yield self._gathered(self.fragments[inner.index], depth + 1, reducer)
            return
        self.add(depth + 1, reducer)
        self.add(depth + 2, _map_reduce(expr))
        yield self.root(expr.expr, grid, depth + 3)

    def _pure(self, expr: Expr, grid: TimeGrid, depth: int) -> None:
        ranges = f"RangeParams({grid.start_ms // 1000},{grid.step_ms // 1000},{grid.end_ms // 1000})"
        if isinstance(expr, NumberLiteral):
            self.add(depth, f"E~ScalarFixedDoubleExec(params = {ranges}, value = {expr.value})")
        elif isinstance(expr, Call) and not expr.args:
            self.add(depth, f"E~TimeScalarGeneratorExec(params = {ranges}, function = {_camel(expr.function)})")
        else:
            self.add(depth, f"E~ScalarBinaryOperationExec(params = {ranges}, expression = {_text(expr)})")

    # ---- the nodes' part

    def _gathered(self, fragment: Fragment, depth: int, gatherer: str) -> Walk[None]:
        self.add(depth, gatherer)
        for address, shards in sorted(self.node_shards.items()):
            for shard in shards:
                below = depth + 1
                if fragment.map_phase is not None:
                    self.add(below, _map_reduce(fragment.map_phase))
                    below += 1
                yield self._on_shard(
                    fragment.expr, fragment.grid, below, f"shard={shard}", address, fragment.options.lookback_ms
                )

    def _on_shard(
        self, expr: Expr, grid: TimeGrid, depth: int, shard: str, address: str, lookback_ms: int
    ) -> Walk[None]:
        inner = unwrap_parens(expr)
        if isinstance(inner, StepInvariant):
            grid, inner = grid_inside(inner, grid), unwrap_parens(inner.expr)
        if isinstance(inner, VectorSelector):
            self.add(depth, _periodic(grid, None, None, inner.time.offset_ms))
            window = MatrixSelector(inner, lookback_ms)
            self._partitions(window, grid, depth + 1, shard, address, lookback_ms)
        elif isinstance(inner, MatrixSelector):
            self._partitions(inner, grid, depth, shard, address, lookback_ms)
        elif isinstance(inner, Subquery):
            yield self._on_shard(inner.expr, grid_inside(inner, grid), depth, shard, address, lookback_ms)
        else:
            below = self._transformer(inner, grid, depth)
            for child in children(inner):
                if not self.facts.is_pure(child):
                    yield self._on_shard(child, grid, below, shard, address, lookback_ms)

    def _partitions(
        self, argument: MatrixSelector, grid: TimeGrid, depth: int, shard: str, address: str, lookback_ms: int
    ) -> None:
        start_ms, end_ms = window_span(argument, grid, lookback_ms)
        filters = ",".join(_filter(matcher) for matcher in argument.selector.matchers)
        self.add(
            depth,
            f"E~MultiSchemaPartitionsExec(dataset={self.dataset}, {shard}, "
            f"chunkMethod=TimeRangeChunkScan({start_ms},{end_ms}), filters=List({filters}), colName=None, "
            f"schema=None) on {address}",
        )

    def _transformed(self, expr: Expr, grid: TimeGrid, depth: int) -> Walk[None]:
        below = self._transformer(expr, grid, depth)
        for child in children(expr):
            if not self.facts.is_pure(child) and not _is_label_argument(expr, child):
                yield self.root(child, grid_inside(expr, grid), below)

    def _transformer(self, expr: Expr, grid: TimeGrid, depth: int) -> int:
        """A line for what ``expr`` does to its child; returns the child's depth."""
        match expr:
            case Call():
                text = _call(expr, grid)
            case Binary():
                side = "true" if self.facts.is_pure(expr.left) else "false"
                text = f"T~ScalarOperationMapper(operator={_operator(expr)}, scalarOnLhs={side})"
            case Unary():
                text = "T~ScalarOperationMapper(operator=SUB, scalarOnLhs=true)"
            case Aggregate():
                text = _map_reduce(expr)
            case _:
                return depth
        self.add(depth, text)
        return depth + 1


def _is_label_argument(expr: Expr, child: Expr) -> bool:
    """Arguments that are kept for their matchers only and never evaluated (see the planner)."""
    if not isinstance(expr, Call) or spec_of(expr).at_gateway is AtGateway.ARGUMENTS:
        return False
    return len(expr.args) > 1 and child is expr.args[-1]


def _call(expr: Call, grid: TimeGrid) -> str:
    mapper = spec_of(expr).mapper
    if mapper is Mapper.PERIODIC_SAMPLES:
        argument = next(arg for arg in map(unwrap_parens, expr.args) if isinstance(arg, MatrixSelector | Subquery))
        time = argument.time if isinstance(argument, Subquery) else argument.selector.time
        return _periodic(grid, argument.range_ms, expr.function, time.offset_ms)
    function = "" if mapper in _MAPPERS_OF_ONE_FUNCTION else f"function={_camel(expr.function)}"
    return f"T~{mapper.value}({function})"


def _periodic(grid: TimeGrid, window_ms: int | None, function: str | None, offset_ms: int) -> str:
    window = "None" if window_ms is None else f"Some({window_ms})"
    function_id = "None" if function is None else f"Some({_camel(function)})"
    offset = f"Some({offset_ms})" if offset_ms else "None"
    return (
        f"T~PeriodicSamplesMapper(start={grid.start_ms}, step={grid.step_ms}, end={grid.end_ms}, window={window}, "
        f"functionId={function_id}, rawSource=true, offsetMs={offset})"
    )


def _map_reduce(expr: Aggregate) -> str:
    labels = _list(expr.grouping)
    without, by = (labels, "List()") if expr.without else ("List()", labels)
    params = _list([] if expr.param is None else [_text(expr.param)])
    return f"T~AggregateMapReduce(aggrOp={_camel(expr.op)}, aggrParams={params}, without={without}, by={by})"


def _filter(matcher: LabelMatcher) -> str:
    name = "_metric_" if matcher.name == METRIC_NAME else matcher.name
    return f"ColumnFilter({name},{_FILTERS[matcher.op]}({matcher.value}))"


def _operator(expr: Binary) -> str:
    name = _OPERATORS.get(expr.op, expr.op)
    return f"{name}_BOOL" if expr.return_bool else name


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _list(items: Sequence[str]) -> str:
    return f"List({', '.join(items)})"


def _text(expr: Expr) -> str:
    if isinstance(expr, StringLiteral):
        return expr.value
    return "<computed>" if _has_planned(expr) else to_text(expr)


def _has_planned(expr: Expr) -> bool:
    """Whether the planner's own nodes are inside, which PromQL text cannot show."""
    return any(isinstance(one, FragmentRef | StepInvariant) for one in subtrees(expr))
