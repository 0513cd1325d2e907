"""Texts that take long to work on keep no event loop from anything else, and take no longer than they must."""

import threading
from collections import Counter

import pytest

from filoray.http.api import routes_query
from filoray.http.fanout import query_service
from filoray.http.fanout.text_work import INLINE_TEXT_CHARACTERS_MAX
from filoray.nodes.promql import pretty_printer, printer
from filoray.nodes.promql.parser import parse
from filoray.nodes.promql.pretty_printer import pretty

SHORT = "up + up"
LONG = f"sum by ({', '.join(f'l{i}' for i in range(INLINE_TEXT_CHARACTERS_MAX))}) (up)"


@pytest.fixture
async def api(gateways):
    return await gateways.start("timeseries")


def noting_threads(monkeypatch, module, name):
    """Names of the threads that the module's function ran in."""
    threads, given = [], getattr(module, name)

    def noted(*args, **options):
        threads.append(threading.current_thread().name.rpartition("_")[0] or "loop")
        return given(*args, **options)

    monkeypatch.setattr(module, name, noted)
    return threads


@pytest.mark.parametrize("path", ["format_query", "parse_query"])
async def test_long_texts_are_worked_on_beside_the_event_loop(api, monkeypatch, path):
    threads = noting_threads(monkeypatch, routes_query, "parse")
    for text in (SHORT, LONG):
        status, body = await api.post(f"/api/v1/{path}", data={"query": text})
        assert (status, body["status"]) == (200, "success")
    assert threads == ["loop", "query-text"]
    status, body = await api.post(f"/api/v1/{path}", data={"query": LONG + "+"})
    assert status == 400
    assert body["error"].startswith('invalid parameter "query": 1:')


@pytest.mark.parametrize("text", [SHORT, LONG])
async def test_long_queries_are_parsed_and_planned_beside_the_event_loop(monkeypatch, text):
    from in_process_gateway import NODES, dataset

    from filoray.cluster.cluster_view import ClusterView
    from filoray.cluster.config.server_config import default_server_config
    from filoray.http.fanout.requests import QueryRequest
    from filoray.http.fanout.view_holder import ViewHolder

    views = ViewHolder(ClusterView(1, NODES, {"timeseries": dataset("timeseries")}), lambda info: None)
    service = query_service.FanOutQueryService(views, default_server_config().query)
    where = "loop" if text is SHORT else "query-text"
    parsed = noting_threads(monkeypatch, query_service, "parse")
    planned = noting_threads(monkeypatch, query_service, "plan")
    await service.explain(QueryRequest("timeseries", text, 0, 0, 0, is_range=False))
    assert (set(parsed), set(planned)) == ({where}, {where})


@pytest.mark.parametrize("operator", [" + ", " or ", " ^ ", " and on (a) "])
def test_a_chain_is_laid_out_in_steps_by_its_length(monkeypatch, operator):
    steps = Counter()
    for module in (printer, pretty_printer):

        def counted(*args, write=module._write, **options):
            steps["all"] += 1
            return write(*args, **options)

        monkeypatch.setattr(module, "_write", counted)
    for count in (100, 1000):
        steps.clear()
        text = pretty(parse(operator.join(["a"] * count)))
        assert text.count("a") >= count
        assert steps["all"] < 120 * count
