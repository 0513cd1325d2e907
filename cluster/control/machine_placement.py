"""Which machine of a Ray cluster runs which node, and the gateway beside it. Pure.

Nodes are spread over the machines where any machine can take any shard over, because the shards' data are in a
database that all reach. Where each shard is a file in the data directory, all nodes stay where that directory is: on
another machine they would find nothing and begin empty. Or each node has a *home*: the address of the one machine where
it is for good, and its copies of shards with it. While that machine is away the node is away. On another it would
be taken for one that has what it had, and what it left behind for new when it returned.

Ray is told the machine of each actor and no other will do (hard affinity). Its soft affinity is a wish that is not kept
for actors that take no resources: its GCS puts them anywhere, and so again when their machine is lost. So the choice is
made here, and made anew when a machine goes or comes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """``id``: Ray's, another one for each time that the machine joins. ``address``: stays the machine's own.

    ``is_head``: Ray's GCS runs there.
    """

    id: str
    address: str = ""
    is_head: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """``seats``: of node i and gateway i when the cluster was launched. ``home``: where that was.

    ``is_bound``: nodes may live nowhere else; otherwise another machine takes them when theirs is lost.
    """

    home: Machine
    seats: tuple[Machine, ...]
    is_bound: bool


def first_placement(count: int, home: Machine, machines: Sequence[Machine], *, is_bound: bool) -> Placement:
    """``machines``: all that are alive. Round robin, home first, so that gateway 0 is where it was launched."""
    others = [] if is_bound else sorted((one for one in machines if one.id != home.id), key=_order)
    order = [home, *others]
    return Placement(home, tuple(order[index % len(order)] for index in range(count)), is_bound)


def homes_of(known: Mapping[str, str], veterans: Iterable[str], here: Machine) -> dict[str, str]:
    """The homes that are ``known``; of ``veterans``, which were there before any had one, ``here``: all were there.

    "" is known of those that have none any more.
    """
    homes = dict.fromkeys(veterans, here.address) | dict(known)
    return {node: home for node, home in homes.items() if home}


def new_home(seat: Machine, homes: Collection[str], machines: Iterable[Machine]) -> str:
    """Of a node that has none: where fewest have one, and of those at its ``seat`` of the launch.

    ``homes``: those of all others. ``machines``: that are there; at least one is.
    """

    def order(machine: Machine) -> tuple[int, bool, tuple[str, str]]:
        count = sum(home == machine.address for home in homes)
        return count, machine.address != seat.address, _order(machine)

    return min(machines, key=order).address


def home_seats(first: Sequence[Machine], homes: Sequence[str | None], machines: Iterable[Machine]) -> list[Machine]:
    """Where each gateway begins: beside its node if that has a home that is there, else where ``first`` says."""
    by_address = {machine.address: machine for machine in sorted(machines, key=_order)}
    return [by_address.get(home or "", seat) for seat, home in zip(first, homes, strict=True)]


def seats_now(
    first: Sequence[Machine], present: Sequence[Machine | None], machines: Sequence[Machine]
) -> tuple[Machine, ...]:
    """Where each node should be, of the ``machines`` that are there; at least one is.

    ``first``: where each was at the launch. ``present``: where each is; None: nowhere, or not known. Who has a machine
    stays there while that is even (no machine has two more than another), so that what this gives stays as it is until
    machines change. Who has none goes to where it was first, so that its gateway keeps its URL, if a machine of that
    address is there and has room; else to where the fewest are. Where it is not even, those move first that come home
    by it.
    """
    there = {machine.id: machine for machine in machines}
    by_address = {machine.address: machine for machine in sorted(machines, key=_order)}
    share = -(-len(first) // len(machines))
    seats = [there.get(seat.id) if seat is not None else None for seat in present]
    newcomers = {index for index, seat in enumerate(seats) if seat is None}
    for index in sorted(newcomers):
        own = by_address.get(first[index].address)
        seats[index] = own if own is not None and seats.count(own) < share else _emptiest(seats, machines)
    settled = [seat for seat in seats if seat is not None]
    while (move := _evening_move(first, settled, newcomers, machines)) is not None:
        index, machine = move
        settled[index] = machine
    return tuple(settled)


def coordinator_machines(machines: Iterable[Machine]) -> list[Machine]:
    """Where coordinators should be, best first: without Ray's head, they still do what needs none of its GCS."""
    return sorted(machines, key=lambda machine: (machine.is_head, *_order(machine)))


def _evening_move(
    first: Sequence[Machine], seats: Sequence[Machine], newcomers: Collection[int], machines: Sequence[Machine]
) -> tuple[int, Machine] | None:
    """A node and where it should move; None: it is even."""
    emptiest = _emptiest(seats, machines)
    fullest = max(seats.count(machine) for machine in machines)
    if fullest - seats.count(emptiest) < 2:
        return None

    def reluctance(index: int) -> tuple[bool, bool, bool, int]:
        comes_home = first[index].address == emptiest.address
        is_guest = first[index].address != seats[index].address
        return (index not in newcomers, not comes_home, not is_guest, -index)

    crowded = [index for index, seat in enumerate(seats) if seats.count(seat) == fullest]
    return min(crowded, key=reluctance), emptiest


def _emptiest(seats: Sequence[Machine | None], machines: Sequence[Machine]) -> Machine:
    return min(machines, key=lambda machine: (seats.count(machine), _order(machine)))


def _order(machine: Machine) -> tuple[str, str]:
    return (machine.address, machine.id)
