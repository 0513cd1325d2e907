from __future__ import annotations

import pickle

import pytest

from filoray.cluster.errors import BadData, DatasetExists, DatasetUnknown, FilorayError, LimitExceeded


@pytest.mark.parametrize("error", [DatasetUnknown("m"), DatasetExists("m"), BadData("no"), LimitExceeded("too many")])
def test_an_error_says_the_same_in_another_process(error: FilorayError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.message) == (type(error), str(error), error.message)
