"""Trees that came off a wire have in every field what its annotation says, or are refused."""

from __future__ import annotations

import random
from typing import Any

import msgpack
import pytest

from filoray.cluster.errors import BadData
from filoray.nodes.engine.plan.planner import plan
from filoray.nodes.engine.query_params import QueryParams
from filoray.nodes.promql.parser import parse
from filoray.nodes.wire import fragment_codec as wire

QUERIES = [
    'sum by (job) (rate(http_requests_total{job=~"a.*"}[5m] offset 1m)) / 2',
    "topk(3, up @ 100) + on (job) group_left (x) max_over_time(up[1h:5m])",
    'label_replace(-up, "a", "$1", "b", "(.*)") > bool 1',
    "histogram_quantile(0.9, rate(x_bucket[5m]))",
]


def encoded(query: str) -> bytes:
    exec_plan = plan(parse(query), QueryParams.range(0, 600_000, 60_000), lambda selectors: True, query=query)
    assert exec_plan.fragments
    return wire.encode_fragments(exec_plan.fragments)


def places(plain: Any) -> list[tuple[list[Any], int]]:
    found = []
    for index, value in enumerate(plain):
        found.append((plain, index))
        if isinstance(value, list):
            found += places(value)
    return found


@pytest.mark.parametrize("query", QUERIES)
def test_fragments_come_out_as_they_went_in(query: str) -> None:
    fragments = wire.decode_fragments(encoded(query))
    assert wire.encode_fragments(fragments) == encoded(query)


@pytest.mark.parametrize("query", QUERIES)
def test_a_wrong_value_anywhere_in_fragments_is_bad_data_and_nothing_else(query: str) -> None:
    data = encoded(query)
    chosen = random.Random(query)
    refused = 0
    for number in range(len(places(msgpack.unpackb(data)))):
        plain = msgpack.unpackb(data)
        holder, index = places(plain)[number]
        old = holder[index]
        holder[index] = chosen.choice(
            [value for value in (7, 1.5, "x", b"y", [], True, {"a": 1}, None) if value != old]
        )
        try:
            wire.decode_fragments(msgpack.packb(plain))
        except BadData:
            refused += 1
    assert refused > number / 2, "what is left are texts and numbers that may be others"


@pytest.mark.parametrize(
    "grid", [(0, 1, 0), (0, 1, 1 << 40), (0, 1 << 62, 1 << 20), (0, -1, 5), (0.5, 1, 1), (True, 1, 1)]
)
def test_a_grid_that_no_query_has_is_refused(grid: tuple[Any, ...]) -> None:
    plain = msgpack.unpackb(encoded("up"))
    plain[0][1] = list(grid)
    with pytest.raises(BadData, match="malformed"):
        wire.decode_fragments(msgpack.packb(plain))
