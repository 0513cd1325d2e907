"""Query results as JSON text, byte for byte as Prometheus prints them."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filoray.http.api.json_encoding import CHUNK_POINTS, label_sets_json, result_json, sample_texts, timestamp_text
from filoray.nodes.data.frame import Frame, ScalarSeries, TimeGrid
from filoray.nodes.data.label_table import LabelTable
from filoray.nodes.data.series_batch import SeriesBatch
from filoray.nodes.engine.query_params import QueryResult
from filoray.nodes.promql.ast import ValueType
from filoray.nodes.promql.number_format import format_value


def frame_of(label_sets, values, valid=None):
    values = np.array(values, np.float64)
    valid = np.ones(values.shape, np.bool_) if valid is None else np.array(valid, np.bool_)
    return Frame(LabelTable.from_label_sets(label_sets), values, valid, np.zeros(len(values), np.bool_))


def text_of(result, *, is_range=False):
    return b"".join(result_json(result, is_range=is_range)).decode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e6, "1000000"), (1e20, "100000000000000000000"), (123456789012345680000.0, "123456789012345680000"),
        (1e21, "1e+21"), (1e-6, "0.000001"), (9.9e-6, "0.0000099"), (1e-7, "1e-07"), (-1.5e-9, "-1.5e-09"),
        (1e-300, "1e-300"), (5e-324, "5e-324"), (0.0, "0"), (-0.0, "-0"), (1.5, "1.5"), (10.0, "10"), (-3.0, "-3"),
        (float("nan"), "NaN"), (float("inf"), "+Inf"), (float("-inf"), "-Inf"), (1e16, "10000000000000000"),
    ],
)  # fmt: skip
def test_sample_values_print_as_prometheus_prints_them(value, text):
    assert sample_texts(np.array([value, 1.0, value])) == [text.encode(), b"1", text.encode()]


@given(st.lists(st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])))
def test_the_bulk_path_agrees_with_the_single_one_on_any_bits(values):
    assert sample_texts(np.array(values, np.float64)) == [format_value(value).encode() for value in values]


@given(st.lists(st.floats(width=16) | st.integers(-(10**17), 10**17).map(float) | st.floats(-1e-4, 1e-4)))
def test_the_bulk_path_agrees_with_the_single_one_on_usual_values(values):
    assert sample_texts(np.array(values, np.float64)) == [format_value(value).encode() for value in values]


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [(1435781451781, "1435781451.781"), (1435781451000, "1435781451"), (1435781451700, "1435781451.700"),
     (5, "0.005"), (-1500, "-1.500"), (-1, "-0.001"), (0, "0")],
)  # fmt: skip
def test_timestamps_are_seconds_with_three_decimals_where_needed(time_ms, text):
    assert timestamp_text(time_ms) == text


def test_a_vector_leaves_out_series_without_a_sample():
    frame = frame_of([{"job": "a", "__name__": "up"}, {"job": "b"}, {"job": "c"}], [[1], [2], [3]], [[1], [0], [1]])
    result = QueryResult(ValueType.VECTOR, TimeGrid(1435781451781, 1, 1), frame)
    assert text_of(result) == (
        '"resultType":"vector","result":['
        '{"metric":{"__name__":"up","job":"a"},"value":[1435781451.781,"1"]},'
        '{"metric":{"job":"c"},"value":[1435781451.781,"3"]}]'
    )


def test_a_matrix_leaves_out_points_and_series_that_do_not_exist():
    frame = frame_of(
        [{"job": "a"}, {"job": "b"}, {}],
        [[1, 2, 3], [4, 5, 6], [7, np.nan, np.inf]],
        [[1, 0, 1], [0, 0, 0], [1, 1, 1]],
    )
    result = QueryResult(ValueType.VECTOR, TimeGrid(1000, 500, 3), frame)
    assert text_of(result, is_range=True) == (
        '"resultType":"matrix","result":['
        '{"metric":{"job":"a"},"values":[[1,"1"],[2,"3"]]},'
        '{"metric":{},"values":[[1,"7"],[1.500,"NaN"],[2,"+Inf"]]}]'
    )


@pytest.mark.parametrize("is_range", [False, True])
def test_no_series_is_an_empty_list(is_range):
    result = QueryResult(ValueType.VECTOR, TimeGrid(0, 1, 1), Frame.empty(1))
    assert text_of(result, is_range=is_range).endswith('"result":[]')


def test_scalars_and_strings():
    scalar = QueryResult(ValueType.SCALAR, TimeGrid(1700, 1, 1), scalar=ScalarSeries(np.array([1e-7])))
    assert text_of(scalar) == '"resultType":"scalar","result":[1.7,"0.0000001"]'
    string = QueryResult(ValueType.STRING, TimeGrid(2000, 1, 1), string='say "hi" é')
    assert text_of(string) == '"resultType":"string","result":[2,"say \\"hi\\" é"]'


def test_a_scalar_of_a_range_query_is_a_matrix_of_one_series_without_labels():
    scalar = QueryResult(ValueType.SCALAR, TimeGrid(0, 1000, 2), scalar=ScalarSeries(np.array([1e-7, 2])))
    assert text_of(scalar, is_range=True) == (
        '"resultType":"matrix","result":[{"metric":{},"values":[[0,"1e-07"],[1,"2"]]}]'
    )


def test_an_instant_range_vector_keeps_its_samples_times():
    batch = SeriesBatch(
        LabelTable.from_label_sets([{"a": "1"}, {"a": "2"}, {"a": "3"}]),
        np.array([0, 2, 2, 3]), np.array([1000, 2500, 2500]), np.array([1.0, 2.0, 3.0]),
    )  # fmt: skip
    assert text_of(QueryResult(ValueType.MATRIX, TimeGrid(3000, 1, 1), matrix=batch)) == (
        '"resultType":"matrix","result":[{"metric":{"a":"1"},"values":[[1,"1"],[2.500,"2"]]},'
        '{"metric":{"a":"3"},"values":[[2.500,"3"]]}]'
    )


@given(
    steps=st.integers(1, 7),
    rows=st.integers(0, 9),
    chunk_points=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_pieces_join_to_the_same_json_whatever_their_size(steps, rows, chunk_points, seed):
    random = np.random.default_rng(seed)
    values, valid = random.normal(size=(rows, steps)), random.random((rows, steps)) < random.random()
    label_sets = [{"series": str(row), **({"odd": 'a"b'} if row % 2 else {})} for row in range(rows)]
    frame = Frame(LabelTable.from_label_sets(label_sets), values, valid, np.zeros(rows, np.bool_))
    offsets = np.concatenate([[0], np.cumsum(valid.sum(axis=1))]).astype(np.int64)
    times = np.tile(TimeGrid(500, 250, steps).times_ms(), (rows, 1))
    batch = SeriesBatch(frame.labels, offsets, times[valid], values[valid])
    expected = []
    for row in range(rows):
        present = [step for step in range(steps) if valid[row, step]]
        points = [[(500 + 250 * step) / 1000, format_value(float(values[row, step]))] for step in present]
        if points:
            expected.append({"metric": label_sets[row], "values": points})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("filoray.http.api.json_encoding._ENCODED_SINGLY_MAX", chunk_points % 5)
        patch.setattr("filoray.http.api.json_encoding.CHUNK_POINTS", chunk_points)
        by_frame = json.loads(
            "{" + text_of(QueryResult(ValueType.VECTOR, TimeGrid(500, 250, steps), frame), is_range=True) + "}"
        )
        by_batch = json.loads("{" + text_of(QueryResult(ValueType.MATRIX, TimeGrid(0, 1, 1), matrix=batch)) + "}")
        sets = json.loads(b"".join(label_sets_json(frame.labels)))
    assert by_frame == {"resultType": "matrix", "result": expected}
    assert by_batch == by_frame
    assert sets == label_sets


def test_a_large_vector_comes_in_several_pieces():
    count = CHUNK_POINTS + 5
    frame = frame_of([{"n": str(n)} for n in range(count)], np.arange(count, dtype=float).reshape(-1, 1))
    pieces = list(result_json(QueryResult(ValueType.VECTOR, TimeGrid(0, 1, 1), frame), is_range=False))
    assert len(pieces) == 4
    assert [one["value"][1] for one in json.loads(b"{" + b"".join(pieces) + b"}")["result"]] == [
        str(n) for n in range(count)
    ]
