"""What is pushed to the nodes, what stays at the gateway, and how a plan reads in FiloDB's notation."""

import pytest
from dict_source import DictSource
from promql_samples import load, shown

from filoray.nodes.data.cancel_token import CancelToken
from filoray.nodes.data.frame import Frame, TimeGrid
from filoray.nodes.engine.evaluate.fragment_run import run_fragments
from filoray.nodes.engine.fragments import AggregatePartial
from filoray.nodes.engine.plan.explain import explain
from filoray.nodes.engine.plan.finishing import finish
from filoray.nodes.engine.plan.planner import plan
from filoray.nodes.engine.query_params import NO_LIMITS, QueryParams
from filoray.nodes.promql.ast import FragmentRef
from filoray.nodes.promql.options import EXPERIMENTAL
from filoray.nodes.promql.parser import parse
from filoray.nodes.promql.printer import to_text
from filoray.nodes.wire import fragment_codec as wire

MINUTES = QueryParams.range(0, 600_000, 60_000)


def planned(query, params=MINUTES, **options):
    return plan(parse(query, EXPERIMENTAL), params, **options)


@pytest.mark.parametrize(
    ("query", "pushed"),
    [
        ("x", ["x"]),
        ("rate(x[5m])", ["rate(x[5m])"]),
        ("sum by (job) (rate(x[5m]) * 2 > 1)", ["sum <- rate(x[5m]) * 2 > 1"]),
        ("topk(3, x)", ["topk <- x"]),
        ("topk(scalar(k), x)", ["k", "x"]),
        ("quantile(scalar(k), x)", ["k", "quantile <- x"]),
        ("x / y", ["x", "y"]),
        ("x / x", ["x", "x"]),
        ("sum(x) / sum(y)", ["sum <- x", "sum <- y"]),
        ("max_over_time(rate(x[1m])[5m:1m])", ["max_over_time(rate(x[1m])[5m:1m])"]),
        ("max_over_time(sum(x)[5m:1m])", ["sum <- x"]),
        ("absent(x)", ["group <- x"]),
        ("absent_over_time(x[5m])", ["group <- last_over_time(x[5m])"]),
        ("label_replace(rate(x[5m]), 'a', '$1', 'b', '(.*)')", ["rate(x[5m])"]),
        ("histogram_quantile(0.9, sum by (le) (rate(x[5m])))", ["sum <- rate(x[5m])"]),
        ("quantile_over_time(scalar(k), x[5m])", ["k", "x[5m]"]),
        ("time() + 1", []),
        ("vector(1)", []),
        ("info(x)", ["x", "timestamp(target_info)"]),
    ],
)
def test_the_largest_parts_that_nodes_can_answer_are_pushed(query, pushed):
    texts = []
    for fragment in planned(query).fragments:
        prefix = f"{fragment.map_phase.op} <- " if fragment.map_phase else ""
        texts.append(prefix + to_text(fragment.expr))
    assert texts == pushed


def test_a_query_whose_series_live_together_is_pushed_whole():
    asked = []

    def colocated(selectors):
        asked.append(selectors)
        return True

    whole = planned("histogram_quantile(0.9, sum by (le) (rate(x[5m]))) / y", colocated=colocated)
    assert isinstance(whole.root, FragmentRef)
    assert len(whole.fragments) == 1
    assert asked == [whole.fragments[0].selectors]


def test_pinned_parts_are_evaluated_once():
    sized = planned("x @ 120 + y")
    assert [fragment.grid.count for fragment in sized.fragments] == [1, 11]


def test_subqueries_are_evaluated_at_multiples_of_their_step():
    inner = planned("max_over_time(sum(x)[5m:40s])", QueryParams.range(100_000, 160_000, 60_000)).fragments[0]
    assert inner.grid == TimeGrid(-160_000, 40_000, 9)
    empty = planned("max_over_time(sum(x)[1m:5m])", QueryParams.instant(720_000))
    assert empty.fragments == ()


def test_fragments_and_answers_survive_the_wire():
    source = load(60, 'x{job="a"} 1 _ 3\nx{job="b"} NaN 2 _\nx 5')
    for query in ("x", "sum by (job) (x)", "avg(x)", "max by (job) (x)", "x[5m]", "x > 100", "count_values('v', x)"):
        execution = planned(query, QueryParams.instant(120_000))
        fragments = wire.decode_fragments(wire.encode_fragments(execution.fragments))
        assert fragments == list(execution.fragments)
        sent = run_fragments(fragments, source, NO_LIMITS, CancelToken())
        parts = wire.encode_answers(sent)
        received = wire.decode_answers([memoryview(bytes(part)) for part in parts])
        direct = finish(execution, [sent], NO_LIMITS, CancelToken())
        assert shown(finish(execution, [received], NO_LIMITS, CancelToken())) == shown(direct), query


def test_only_values_that_occur_travel():
    source = load(60, "\n".join(f'x{{job="{job}"}} {job}' for job in range(300)))
    parts = wire.encode_answers(
        run_fragments(planned("x > 297", QueryParams.instant(0)).fragments, source, NO_LIMITS, CancelToken())
    )
    result = wire.decode_answers(parts).results[0]
    assert isinstance(result, Frame)
    assert result.labels.columns["job"].values == ("298", "299")


def test_aggregations_send_groups_not_series():
    source = load(60, "\n".join(f'x{{job="a", i="{i}"}} 1' for i in range(50)))
    fragments = planned("sum by (job) (x)", QueryParams.instant(0)).fragments
    result = run_fragments(fragments, source, NO_LIMITS, CancelToken()).results[0]
    assert isinstance(result, AggregatePartial)
    assert result.labels.label_sets() == [{"job": "a"}]


def test_no_nodes_is_an_empty_result():
    for query in ("x", "sum(x)", "topk(1, x)", "x + y", "count_values('v', x)", "quantile(0.5, x)"):
        assert shown(finish(planned(query), [], NO_LIMITS, CancelToken())) == []


def test_explain_reads_like_filodb():
    lines = explain(planned('sum by (job) (rate(x{a="b"}[5m]))'), {"akka://filo-server@h:1": (0, 3)}, "ds")
    periodic = (
        "T~PeriodicSamplesMapper(start=0, step=60000, end=600000, window=Some(300000), functionId=Some(Rate), "
        "rawSource=true, offsetMs=None)"
    )
    scan = "chunkMethod=TimeRangeChunkScan(-299999,600000)"
    assert lines == [
        "T~AggregatePresenter(aggrOp=Sum, aggrParams=List())",
        "-E~LocalPartitionReduceAggregateExec(aggrOp=Sum, aggrParams=List())",
        *(
            line
            for shard in (0, 3)
            for line in (
                "--T~AggregateMapReduce(aggrOp=Sum, aggrParams=List(), without=List(), by=List(job))",
                f"---{periodic}",
                f"----E~MultiSchemaPartitionsExec(dataset=ds, shard={shard}, {scan}, "
                "filters=List(ColumnFilter(a,Equals(b)),ColumnFilter(_metric_,Equals(x))), colName=None, schema=None) "
                "on akka://filo-server@h:1",
            )
        ),
    ]


def test_every_kind_of_plan_can_be_explained():
    for query in ("a / on (x) b", "a or b", "info(a)", "topk(scalar(k), a)", "a @ 5 + 1", "-sum(a)", "vector(time())",
                  "max_over_time(sum(a)[5m:1m])", "quantile_over_time(scalar(k), a[5m])", "sort(a)"):  # fmt: skip
        lines = explain(planned(query), {"node": (0,)})
        assert all(line.lstrip("-")[:2] in ("E~", "T~") for line in lines), query


def test_an_empty_source_answers_every_fragment():
    execution = planned("sum(x) + on () y")
    answers = run_fragments(execution.fragments, DictSource(), NO_LIMITS, CancelToken())
    assert shown(finish(execution, [answers, answers], NO_LIMITS, CancelToken())) == []
