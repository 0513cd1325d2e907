"""What travels between gateways and nodes comes out as it went in."""

from __future__ import annotations

import pytest

from filoray.cluster.errors import ExecutionError, FilorayError, StaleRoute
from filoray.nodes.protocol import Kind, ReplyHeader, RequestHeader

NOT_UTF8 = "\udcff \ud800"  # the byte 0xff as a query's "\xff" has it, and a lone surrogate of other origin


def test_a_request_comes_out_as_it_went_in():
    header = RequestHeader(7, Kind.VALUES, 3, "timeseries", ((0, 1), (5, 9)), 1_500, ["up", NOT_UTF8, None, 1.5])
    assert RequestHeader.decode(header.encode()) == header


@pytest.mark.parametrize(
    ("error", "arrives_as"),
    [
        (StaleRoute("epoch 3 was asked, this is 4"), (StaleRoute, "epoch 3 was asked, this is 4")),
        (
            ExecutionError(f"invalid label name: {NOT_UTF8}"),
            (ExecutionError, f"invalid label name: {NOT_UTF8}"),
        ),
        (ZeroDivisionError("by zero"), (FilorayError, "ZeroDivisionError: by zero")),
    ],
)
def test_an_error_arrives_with_its_class_and_text(error, arrives_as):
    header = ReplyHeader.decode(ReplyHeader.of_error(7, error).encode())
    with pytest.raises(FilorayError) as raised:
        header.raise_error()
    assert (type(raised.value), raised.value.message) == arrives_as
