"""What a play of a scenario came to, in the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from filoray.cluster.chaos.ledger import Verdicts
from filoray.cluster.chaos.outages import outage_table, outages
from filoray.cluster.chaos.playing import Failure
from filoray.cluster.chaos.timeline import Timeline
from filoray.cluster.chaos.worlds import World


@dataclass(frozen=True, slots=True)
class Played:
    """``replay``: the command that plays the same faults again."""

    name: str
    world: World
    seed: int
    replay: str
    failure: Failure | None
    timeline: Timeline
    verdicts: Verdicts


def print_findings(console: Console, played: Played) -> None:
    rows = outage_table(outages(played.timeline))
    if rows and played.timeline.calls:
        table = Table(
            "fault", "times", "writer waits", "reader waits", title="ms: median, p99, max", title_justify="left"
        )
        for row in rows:
            table.add_row(row.kind, str(row.count), in_ms(row.writer_ms), in_ms(row.reader_ms))
        console.print(table)
    console.print(verdict_text(played.verdicts))
    if played.failure is not None:
        console.print(f"\nnot as expected: {played.failure}", style="red")
        console.print("what happened before:")
        for line in played.timeline.excerpt():
            console.print(f"  {line}")
    else:
        console.print("all that was expected held", style="green")
    console.print(f"the same faults again: {played.replay}")


def in_ms(waits_ms: tuple[float, float, float] | None) -> str:
    return "-" if waits_ms is None else ", ".join(f"{wait_ms:.0f}" for wait_ms in waits_ms)


def verdict_text(verdicts: Verdicts) -> str:
    return (
        f"{verdicts.acknowledged:,} samples acknowledged ({verdicts.unknown:,} more of unknown outcome), "
        f"{verdicts.lost_count:,} lost; {verdicts.answers:,} answers ({verdicts.marked_answers:,} marked as partial), "
        f"{verdicts.wrong_count:,} short or wrong"
    )
