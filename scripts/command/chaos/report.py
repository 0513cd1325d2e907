"""The report of a play: one HTML file that needs nothing else, in the reader's light or dark."""

from __future__ import annotations

from html import escape
from importlib.resources import files

from filoray.cluster.chaos.outages import OutageRow, outage_table, outages
from filoray.cluster.chaos.timeline import Mark
from filoray.cluster.chaos.worlds import World
from filoray.cluster.control.shard_status import StatusKind
from filoray.command.chaos.findings import Played
from filoray.command.chaos.report_chart import chart

_FINDINGS_MAX = 50


def report_page(played: Played) -> str:
    style = files("filoray.command.chaos").joinpath("report.css").read_text("utf-8")
    body = "".join((_head(played), _tiles(played), _chart(played), _outages(played), _findings(played), _steps(played)))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(played.name)} – chaos</title>\n<style>\n{style}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def _head(played: Played) -> str:
    failure = played.failure
    badge = (
        '<span class="badge held">all held</span>' if failure is None else '<span class="badge broken">not held</span>'
    )
    world = "a real cluster" if played.world is World.REAL else "the simulator, in virtual time"
    told = "" if failure is None else f'<p class="m-failed">Not as expected: {escape(str(failure))}</p>'
    return (
        f"<h1>{escape(played.name)}{badge}</h1>"
        f'<p class="faint">Played by {world}, seed {played.seed}, {played.timeline.end_ms / 1000:.1f} s. '
        f"The same faults again: <code>{escape(played.replay)}</code></p>{told}"
    )


def _tiles(played: Played) -> str:
    verdicts = played.verdicts
    tiles = (
        ("acknowledged samples lost", verdicts.lost_count, True),
        ("answers short or wrong", verdicts.wrong_count, True),
        ("samples acknowledged", verdicts.acknowledged, False),
        ("samples of unknown outcome", verdicts.unknown, False),
        ("answers", verdicts.answers, False),
        ("of them marked as partial", verdicts.marked_answers, False),
    )
    return '<div class="tiles">' + "".join(
        f'<div class="tile{" wrong" if must_be_0 and count else ""}"><b>{count:,}</b>{name}</div>'
        for name, count, must_be_0 in tiles
    ) + "</div>"  # fmt: skip


def _chart(played: Played) -> str:
    statuses = "".join(
        f'<span><i class="s-{name.lower()}"></i>{name}</span>'
        for name in (kind.value.removeprefix("ShardStatus") for kind in StatusKind)
    )
    others = (
        '<span><i class="l-ok"></i>slowest call</span><span><i class="l-median"></i>median</span>'
        '<span><i class="a-none"></i>failed or unknown</span>'
        "<span>blank: all were waiting for an answer</span>"
    )
    return (
        "<h2>What happened</h2>"
        f'<div class="card"><div class="legend">{statuses}{others}</div>{chart(played.timeline)}</div>'
    )


def _outages(played: Played) -> str:
    rows = outage_table(outages(played.timeline))
    if not rows or not played.timeline.calls:
        return ""
    columns = (
        "fault",
        "times",
        *(f"{who} {what}" for who in ("writer", "reader") for what in ("median", "p99", "max")),
    )
    head = "".join(f"<th{'' if index == 0 else ' class=n'}>{name}</th>" for index, name in enumerate(columns))
    return (
        "<h2>How long clients waited</h2>"
        '<p class="faint">From when a fault struck until whoever had asked, or asked before the next fault, was '
        "answered in full; the longest of all clients each time.</p>"
        f'<div class="card"><table><tr>{head}</tr>{"".join(map(_outage_row, rows))}</table></div>'
    )


def _outage_row(row: OutageRow) -> str:
    cells = "".join(
        f"<td class=n>{'–' if waits_ms is None else f'{waits_ms[index] / 1000:.3f} s'}</td>"
        for waits_ms in (row.writer_ms, row.reader_ms)
        for index in range(3)
    )
    return f"<tr><td>{escape(row.kind)}</td><td class=n>{row.count}</td>{cells}</tr>"


def _findings(played: Played) -> str:
    found = [*played.verdicts.lost, *played.verdicts.wrong]
    if not found:
        return ""
    items = "".join(f"<li>{escape(str(one))}</li>" for one in found[:_FINDINGS_MAX])
    more = f"<p>and {len(found) - _FINDINGS_MAX} more</p>" if len(found) > _FINDINGS_MAX else ""
    return f'<h2>Lost samples, short and wrong answers</h2><div class="card"><ul>{items}</ul>{more}</div>'


def _steps(played: Played) -> str:
    rows = "".join(map(_step_row, played.timeline.marks))
    head = "<tr><th class=n>at</th><th class=n>took</th><th class=n>line</th><th>step</th><th>remark</th></tr>"
    return f'<h2>Steps</h2><div class="card"><table>{head}{rows}</table></div>'


def _step_row(mark: Mark) -> str:
    kind = "failed" if mark.is_failure else "undone" if mark.remark else mark.kind.value
    return (
        f'<tr class="{kind}"><td class=n>{mark.begun_ms / 1000:.3f} s</td>'
        f"<td class=n>{(mark.ended_ms - mark.begun_ms) / 1000:.3f} s</td><td class=n>{mark.line}</td>"
        f"<td>{escape(mark.text)}</td><td>{escape(mark.remark)}</td></tr>"
    )
