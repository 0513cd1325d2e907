from __future__ import annotations

import pytest

from filoray.cluster.addresses import is_any_interface, is_loopback
from filoray.cluster.control.machine_placement import (
    Machine,
    Placement,
    first_placement,
    home_seats,
    homes_of,
    new_home,
    seats_now,
)

HOME, A, B = Machine("h1", "10.0.0.2"), Machine("a1", "10.0.0.1"), Machine("b1", "10.0.0.3")
A2, NEW = Machine("a2", "10.0.0.1"), Machine("n1", "10.0.0.4")


def test_nodes_are_spread_evenly_beginning_at_home() -> None:
    placed = first_placement(5, HOME, [B, HOME, A], is_bound=False)
    assert placed == Placement(HOME, (HOME, A, B, HOME, A), is_bound=False)


def test_nodes_whose_data_are_at_home_stay_there() -> None:
    assert first_placement(2, HOME, [A, HOME], is_bound=True) == Placement(HOME, (HOME, HOME), is_bound=True)


THREE = (HOME, A, B)
FIVE = (HOME, A, B, HOME, A)


@pytest.mark.parametrize(
    ("why", "first", "present", "machines", "seats"),
    [
        ("as launched", THREE, THREE, (HOME, A, B), (HOME, A, B)),
        ("none is there yet", FIVE, (None,) * 5, (HOME, A, B), FIVE),
        ("a machine is lost: to where the fewest are", FIVE, FIVE, (HOME, B), (HOME, B, B, HOME, HOME)),
        ("all but one are lost", THREE, THREE, (B,), (B, B, B)),
        ("who was there first comes home", THREE, (HOME, HOME, B), (HOME, A2, B), (HOME, A2, B)),
        ("but not while it is even", (HOME, A, B), (HOME, NEW, B), (HOME, A2, B, NEW), (HOME, NEW, B)),
        ("who has no machine comes home", THREE, (HOME, None, B), (HOME, A2, B), (HOME, A2, B)),
        ("a new machine takes from the fullest", FIVE[:4], FIVE[:4], (HOME, A, B, NEW), (HOME, A, B, NEW)),
        ("or more of them", (HOME, A) * 3, (HOME, A) * 3, (HOME, A, NEW), (HOME, A, HOME, A, NEW, NEW)),
        ("one machine only, then another", (HOME,) * 3, (HOME,) * 3, (HOME, A), (HOME, HOME, A)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_seats(
    why: str,
    first: tuple[Machine, ...],
    present: tuple[Machine | None, ...],
    machines: tuple[Machine, ...],
    seats: tuple[Machine, ...],
) -> None:
    assert seats_now(first, present, machines) == seats


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


def test_a_node_without_a_home_gets_one_where_the_fewest_are_if_it_can_at_its_seat() -> None:
    machines = [HOME, A, B]
    cases = [
        (A, [], A),
        (A, [A, HOME], B),
        (A, [A, HOME, B], A),
        (Machine("gone", "10.9.9.9"), [A], min(HOME, B, key=lambda machine: machine.address)),
    ]
    for seat, homes, expected in cases:
        assert new_home(seat, [machine.address for machine in homes], machines) == expected.address, (seat, homes)


def test_gateways_begin_beside_nodes_that_have_a_home_which_is_there() -> None:
    assert home_seats([HOME, A, B], [B.address, None, "10.9.9.9"], [HOME, A, B]) == [B, A, B]


def test_nodes_from_before_there_were_homes_are_where_the_launch_is() -> None:
    assert homes_of({"node-1": B.address}, ["node-0", "node-1"], HOME) == {"node-0": HOME.address, "node-1": B.address}
