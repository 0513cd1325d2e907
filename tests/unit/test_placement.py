from __future__ import annotations

import pytest

from filoray.cluster.actors.placement import Placement, place_nodes
from filoray.cluster.addresses import is_any_interface, is_loopback


def test_nodes_are_spread_evenly_beginning_at_home() -> None:
    placed = place_nodes(5, "home", ["b", "home", "a"], is_bound=False)
    assert placed == Placement("home", ("home", "a", "b", "home", "a"), is_bound=False)


def test_nodes_whose_data_are_at_home_stay_there() -> None:
    assert place_nodes(2, "home", ["a", "home"], is_bound=True) == Placement("home", ("home", "home"), is_bound=True)


@pytest.mark.parametrize(
    ("host", "loopback", "every_interface"),
    [
        ("127.0.0.1", True, False),
        ("127.8.0.1", True, False),
        ("localhost", True, False),
        ("0.0.0.0", False, True),
        ("10.1.2.3", False, False),
        ("db.example.org", False, False),
    ],
)
def test_hosts(host: str, loopback: bool, every_interface: bool) -> None:
    assert (is_loopback(host), is_any_interface(host)) == (loopback, every_interface)
