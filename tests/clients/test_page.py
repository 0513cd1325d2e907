"""The page in a real Chromium over a gateway with given answers: axes, queries of several lines, what names show."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from browser import Browser, missing_browser
from gateway_thread import GatewayThread

from filoray.http.fanout.requests import QueryOutcome
from filoray.nodes.data.frame import Frame, TimeGrid
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.engine.query_params import QueryResult
from filoray.nodes.promql.ast import ValueType

pytestmark = pytest.mark.skipif(bool(missing_browser()), reason=f"not installed: {', '.join(missing_browser())}")

UNITS = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
SHIFT, ENTER, RELEASE = "\ue008", "\ue007", "\ue000"


def answer(gateway: GatewayThread, labels: dict[str, str], times: int, value: float) -> None:
    frame = Frame(
        LabelTable.from_label_sets([labels]), np.full((1, times), value), np.ones((1, times), np.bool_),
        np.zeros(1, np.bool_),
    )  # fmt: skip
    gateway.api.queries.outcome = QueryOutcome(QueryResult(ValueType.VECTOR, TimeGrid(0, 1000, times), frame))


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayThread]:
    made = GatewayThread("timeseries")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def page(gateway: GatewayThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("page"))
    try:
        browser.visit(gateway.api.url)
        yield browser
    finally:
        browser.close()


IN_SCRIPT = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
NAN, INF = math.nan, math.inf
RANGES = [
    ([0, 1], 0, 1),
    ([-0.3, 0.3], -0.3, 0.3),  # sums of a tenth miss 0
    ([-1, -0.1], -1, -0.1),
    ([0.1, 0.7], 0.1, 0.7),
    ([3, 3, 3], 3, 3),
    ([-7], -7, -7),
    ([0, 0], 0, 0),
    ([1_000_001, 1_000_002], 1_000_001, 1_000_002),  # "1M" six times
    ([999_999, 1_000_000], 999_999, 1_000_000),
    ([12345.6, 98765.4], 12345.6, 98765.4),
    ([5e-7, 9e-7], 5e-7, 9e-7),
    ([1e-300, 2e-300], 1e-300, 2e-300),
    ([5e-324, 1e-318], 5e-324, 1e-318),
    ([1e17, 1e17 + 16], 1e17, 1e17 + 16),  # a tick more is no other number
    ([9007199254740993, 9007199254740999], 9007199254740993, 9007199254740999),
    ([-1.7e308, 1.7e308], -8e307, 8e307),
    ([1.7e308], 8e307, 8e307),
    ([1700000000.123, 1700000000.456], 1700000000.123, 1700000000.456),
    ([NAN, 2, INF, 4, -INF], 2, 4),
    ([NAN, NAN], 0, 1),
    ([INF], 0, 1),
    ([], 0, 1),
    ([1e-9, 1e9], 1e-9, 1e9),
]


def value_of(text: str) -> float:
    return float(text[:-1]) * UNITS[text[-1]] if text[-1] in UNITS else float(text)


@pytest.mark.parametrize(("values", "low", "high"), RANGES)
def test_the_axis_has_round_values_at_their_places(page: Browser, values: list[float], low: float, high: float) -> None:
    drawn = page.run(
        """
        const values = given[0].map(one => typeof one === "string" ? Number(one) : one);
        shown = {series: [{name: "x", points: values.map((v, i) => [i, v])}], start: 0, end: 10, step: 1};
        hidden = new Set();
        draw();
        const all = selector => [...document.querySelectorAll(selector)];
        const place = mark => [+mark.getAttribute("y") - 4, +mark.getAttribute("x"), mark.getComputedTextLength()];
        return {marks: all("svg .mark").map(mark => [mark.textContent, ...place(mark)]),
          value: all("#legend .value")[0].textContent, paths: all("svg path, svg circle").map(one => one.outerHTML)};
        """,
        [value if math.isfinite(value) else IN_SCRIPT[str(value)] for value in values],
    )
    texts, places, rights, lengths = zip(*drawn["marks"], strict=True)
    numbers = [value_of(text) for text in texts]
    assert 2 <= len(numbers) <= 12, texts
    assert len(set(texts)) == len(texts), texts
    assert numbers == sorted(numbers)
    assert all(10 <= place <= 296 for place in places), places
    assert all(right >= length for right, length in zip(rights, lengths, strict=True)), "cut off at the left"
    if high > low:
        assert numbers[-1] - numbers[0] >= 0.4 * (high - low)
    steps = [second / 4 - first / 4 for first, second in itertools.pairwise(numbers)]
    shown = [first - second for first, second in itertools.pairwise(places)]
    span = max(abs(number) for number in numbers) * 1e-15
    assert all(abs(step - steps[0]) <= 0.02 * steps[0] + span for step in steps), texts
    per_pixel = steps[0] / shown[0]
    assert all(abs(step / per_pixel - places_apart) < 2 for step, places_apart in zip(steps, shown, strict=True))
    assert not any("NaN" in path or "Infinity" in path for path in drawn["paths"])
    if values and not math.isfinite(values[-1]):
        assert drawn["value"] == {INF: "+Inf", -INF: "-Inf"}.get(values[-1], "NaN")


def type_keys(page: Browser, *keys: str) -> None:
    element = page._ask("POST", f"{page._session}/element", {"using": "css selector", "value": "#query"})
    (identity,) = element.values()
    page._ask("POST", f"{page._session}/element/{identity}/value", {"text": "".join(keys)})


def test_a_query_of_several_lines_is_seen_whole_and_run(page: Browser, gateway: GatewayThread) -> None:
    answer(gateway, {"__name__": "up"}, 3, 1.0)
    page.run("$('query').value = ''; fit();")
    one_line = page.run("return $('query').offsetHeight;")
    asked = len(gateway.api.queries.requests)
    type_keys(page, "sum by (job) (", SHIFT, ENTER, RELEASE, "  up", SHIFT, ENTER, RELEASE, ")")
    assert page.run("return $('query').value;") == "sum by (job) (\n  up\n)"
    assert page.run("return $('query').offsetHeight;") > 2 * one_line - 10
    assert page.run("return $('query').scrollHeight <= $('query').clientHeight;")
    assert len(gateway.api.queries.requests) == asked
    type_keys(page, ENTER)
    page.wait_for("return $('note').textContent.startsWith('1 series');", "the answer is shown")
    assert gateway.api.queries.requests[-1].query == "sum by (job) (\n  up\n)"
    assert page.run("return $('query').value;") == "sum by (job) (\n  up\n)"
    page.visit(page.run("return location.href;") + "&again")
    page.wait_for("return $('note').textContent.startsWith('1 series');", "the page from a link asks the same")
    assert gateway.api.queries.requests[-1].query == "sum by (job) (\n  up\n)"
    assert page.run("return $('query').offsetHeight;") > 2 * one_line - 10


def test_label_values_are_text(page: Browser, gateway: GatewayThread) -> None:
    value = "<img src=x onerror=\"document.title='in'\"></script><script>document.title='in'</script>&amp;\n"
    answer(gateway, {"__name__": "up", "<b>": value}, 3, 1.0)
    page.run("$('query').value = 'up'; await run();")
    row = page.run("return $('legend').firstChild.children[1].textContent;")
    assert "<img src=x onerror=" in row
    assert "&amp;" in row
    page.run(
        """const box = $('chart').getBoundingClientRect();
        $('chart').onmousemove({clientX: box.left + box.width - 12, clientY: box.top + 50});"""
    )
    assert page.run("return document.querySelectorAll('img, #legend script, #tip script').length;") == 0
    assert page.run("return document.title;") == "filoray"
