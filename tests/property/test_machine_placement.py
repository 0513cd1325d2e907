"""Where nodes go, whatever machines there are and wherever the nodes were."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from filoray.cluster.control.machine_placement import Machine, seats_now

ADDRESSES = st.integers(1, 6)
MACHINES = st.dictionaries(ADDRESSES, st.integers(1, 3), min_size=1).map(
    lambda joined: tuple(Machine(f"{address}-{times}", f"10.0.0.{address}") for address, times in joined.items())
)
ANY = st.builds(lambda a, t: Machine(f"{a}-{t}", f"10.0.0.{a}"), ADDRESSES, st.integers(1, 3))


@st.composite
def clusters(draw: st.DrawFn) -> tuple[list[Machine], list[Machine | None], tuple[Machine, ...]]:
    count = draw(st.integers(1, 12))
    first = draw(st.lists(ANY, min_size=count, max_size=count))
    present = draw(st.lists(st.none() | ANY, min_size=count, max_size=count))
    return first, present, draw(MACHINES)


@given(clusters())
def test_nodes_are_even_on_machines_that_are_there_and_then_stay(
    cluster: tuple[list[Machine], list[Machine | None], tuple[Machine, ...]],
) -> None:
    first, present, machines = cluster
    seats = seats_now(first, present, machines)
    counts = Counter({machine.id: 0 for machine in machines})
    counts.update(seat.id for seat in seats)
    assert len(counts) == len(machines), "on machines that are there"
    assert max(counts.values()) - min(counts.values()) <= 1
    assert seats_now(first, seats, machines) == seats, "stable machines end in stable places"


@given(clusters())
def test_no_more_nodes_move_than_must(
    cluster: tuple[list[Machine], list[Machine | None], tuple[Machine, ...]],
) -> None:
    """A machine keeps what it has, but for what it has above the share that it may have."""
    first, present, machines = cluster
    seats = seats_now(first, present, machines)
    share = -(-len(seats) // len(machines))
    for machine in machines:
        had = {index for index, seat in enumerate(present) if seat is not None and seat.id == machine.id}
        kept = {index for index in had if seats[index].id == machine.id}
        assert len(kept) >= min(len(had), share - 1)
