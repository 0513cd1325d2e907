"""The report of a play."""

from __future__ import annotations

from collections.abc import Iterator

from filoray.cluster.chaos.outages import OutageRow, outage_table, outages
from filoray.cluster.chaos.timeline import Mark
from filoray.cluster.chaos.worlds import World
from filoray.cluster.report.page import (
    Content,
    Head,
    Html,
    Section,
    Tile,
    badge,
    card,
    code,
    items,
    page,
    paragraph,
    table,
    tiles,
    toned,
)
from filoray.cluster.report.shard_statuses import STATUS_LEGEND
from filoray.cluster.report.time_chart import EVENTS_LEGEND, legend
from filoray.command.chaos.findings import Played
from filoray.command.chaos.report_chart import chart

_FINDINGS_MAX = 50

_LEGEND = [
    *EVENTS_LEGEND,
    ("m-load", "load"),
    *STATUS_LEGEND,
    ("c-slowest", "slowest call"),
    ("c-median", "median"),
    ("c-none", "failed or unknown"),
    ("", "blank: all were waiting for an answer"),
]


def report_page(played: Played) -> str:
    return page(_head(played), _sections(played))


def _sections(played: Played) -> Iterator[Section]:
    yield Section("", [_tiles(played)])
    yield Section("What happened", [card(legend(_LEGEND), chart(played.timeline))])
    waits = outage_table(outages(played.timeline))
    if waits and played.timeline.calls:
        yield _outages(waits)
    if found := [str(one) for one in (*played.verdicts.lost, *played.verdicts.wrong)]:
        yield _findings(found)
    yield _steps(played)


def _head(played: Played) -> Head:
    world = "a real cluster" if played.world is World.REAL else "the simulator, in virtual time"
    told = f"Played by {world}, seed {played.seed}, {played.timeline.end_ms / 1000:.1f} s. The same faults again: "
    remarks = [paragraph(told, code(played.replay))]
    if played.failure is None:
        return Head(played.name, badge("all held", is_good=True), remarks)
    remarks.append(paragraph(f"Not as expected: {played.failure}", tone="bad"))
    return Head(played.name, badge("not held", is_good=False), remarks)


def _tiles(played: Played) -> Html:
    verdicts = played.verdicts
    return tiles(
        (
            Tile("acknowledged samples lost", f"{verdicts.lost_count:,}", is_bad=verdicts.lost_count > 0),
            Tile("answers short or wrong", f"{verdicts.wrong_count:,}", is_bad=verdicts.wrong_count > 0),
            Tile("samples acknowledged", f"{verdicts.acknowledged:,}"),
            Tile("samples of unknown outcome", f"{verdicts.unknown:,}"),
            Tile("answers", f"{verdicts.answers:,}"),
            Tile("of them marked as partial", f"{verdicts.marked_answers:,}"),
        )
    )


def _outages(rows: list[OutageRow]) -> Section:
    columns = [f"#{who} {what}" for who in ("writer", "reader") for what in ("median", "p99", "max")]
    text = (
        "From when a fault struck until whoever had asked, or asked before the next fault, was answered in full; the "
        "longest of all clients each time."
    )
    shown = table(("fault", "#times", *columns), map(_outage_row, rows))
    return Section("How long clients waited", [paragraph(text), shown])


def _outage_row(row: OutageRow) -> list[str]:
    waits = [
        "–" if waits_ms is None else f"{waits_ms[index] / 1000:.3f} s"
        for waits_ms in (row.writer_ms, row.reader_ms)
        for index in range(3)
    ]
    return [row.kind, str(row.count), *waits]


def _findings(found: list[str]) -> Section:
    parts = [items(found[:_FINDINGS_MAX])]
    if len(found) > _FINDINGS_MAX:
        parts.append(paragraph(f"and {len(found) - _FINDINGS_MAX} more"))
    return Section("Lost samples, short and wrong answers", parts)


def _steps(played: Played) -> Section:
    rows = map(_step_row, played.timeline.marks)
    return Section("Steps", [table(("#at", "#took", "#line", "step", "remark"), rows)])


def _step_row(mark: Mark) -> list[Content]:
    tone = "bad" if mark.is_failure else "faint" if mark.remark else ""
    cells = (
        f"{mark.begun_ms / 1000:.3f} s",
        f"{(mark.ended_ms - mark.begun_ms) / 1000:.3f} s",
        str(mark.line),
        mark.text,
        mark.remark,
    )
    return [toned(cell, tone) for cell in cells]
