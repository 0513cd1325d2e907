"""The report of random histories: verdicts, figures, and one history as a time line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from filoray.cluster.report.histogram import histogram
from filoray.cluster.report.page import (
    Content,
    Head,
    Html,
    Section,
    Tile,
    badge,
    bar,
    card,
    code,
    lines,
    page,
    paragraph,
    table,
    tiles,
    word,
)
from filoray.cluster.report.time_chart import EVENTS_LEGEND, Event, TimeChart, legend
from filoray.cluster.simulation.history import FaultMark, HistoryFailed, HistoryShape, play_history
from filoray.cluster.simulation.report.shard_bands import bands_of
from filoray.cluster.simulation.shard_watch import HistoryRecord
from filoray.cluster.simulation.shrinking import ShortestFailure
from filoray.cluster.simulation.story import tell
from filoray.cluster.simulation.tally import Tally

_REMEDIES = ("resume", "mend")
_ORDERS = (
    "delete", "drain", "hand", "move", "reopen", "restart", "scale", "set up", "start", "stop", "undrain",
)  # fmt: skip
"""How kinds of faults begin that are no misfortune, but what an operator does at the wrong time."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """What was played. ``command``: the words by which; ``elapsed_s``: how long it took."""

    command: str
    shape: HistoryShape
    tally: Tally
    elapsed_s: float
    shortest: ShortestFailure | None = None
    replay_command: str = ""
    """Of ``shortest``."""


def report_of(campaign: Campaign) -> str:
    """The HTML file."""
    tally = campaign.tally
    count = len(tally.failures)
    says = f"{count} of {tally.histories:,} histories failed" if count else f"{tally.histories:,} histories: all held"
    sections = [_figures(campaign), _verdicts(tally)]
    if campaign.shortest is not None:
        sections.append(_story(campaign, campaign.shortest))
    sections += [_gaps(tally), _one_history(campaign), _faults(tally)]
    return page(_head(campaign.command, says, is_good=not count), sections)


def loss_report_of(command: str, tally: Tally, phases: Sequence[tuple[str, int, float]]) -> str:
    """The HTML file of a great loss. ``phases``: (what, how long in the cluster's ms, CPU seconds)."""
    count = len(tally.failures)
    says = next(iter(tally.failures.values())).problem if count else "every shard was Active again"
    longest_s = max((cpu_s for _, _, cpu_s in phases), default=1.0)
    rows = [
        (what, f"{lasted_ms / 1000:.2f} s", f"{cpu_s:.1f} s", bar(cpu_s / longest_s))
        for what, lasted_ms, cpu_s in phases
    ]
    course = Section("The course", [table(("what", "#cluster's time", "#one core's", ""), rows)])
    figures = [Tile("moves", f"{tally.moves:,}"), Tile("checks", f"{tally.checks.total():,}")]
    if tally.spread is not None:
        figures.append(Tile("shards a node, in the end", f"{tally.spread.fewest} to {tally.spread.most}"))
    sections = [course, _verdicts(tally), _gaps(tally), Section("Moves", [tiles(figures)])]
    return page(_head(command, says, is_good=not count), sections)


def _head(command: str, says: str, *, is_good: bool) -> Head:
    return Head("filoray simulate", badge(says, is_good=is_good), [paragraph(code(command))])


def _figures(campaign: Campaign) -> Section:
    tally = campaign.tally
    figures = [
        Tile("histories", f"{tally.histories:,}"),
        Tile("histories a second", f"{tally.histories / max(campaign.elapsed_s, 1e-9):.1f}"),
        Tile("of the clusters' time", f"{tally.lasted_ms / 3_600_000:.1f} h"),
        Tile("faults", f"{tally.faults.total():,}"),
        Tile("checks", f"{tally.checks.total():,}"),
        Tile("moves", f"{tally.moves:,}"),
    ]
    if tally.spread is not None:
        figures.append(Tile("shards a node, in the end", f"{tally.spread.fewest} to {tally.spread.most}"))
    return Section("", [tiles(figures)])


def _verdicts(tally: Tally) -> Section:
    rows: list[Sequence[Content]] = []
    for rule, checks in tally.checks.items():
        seeds = tally.broken.get(rule, [])
        says: Content = word(f"broken by seed {seeds[0]}", is_good=False) if seeds else word("held", is_good=True)
        rows.append((says if seeds or checks else "not tested", rule, f"{checks:,}"))
    return Section("Verdicts", [table(("verdict", "rule", "#checks"), rows)])


def _story(campaign: Campaign, shortest: ShortestFailure) -> Section:
    failed = shortest.failed
    kept = len(shortest.shape.chosen_faults or ())
    return Section(
        f"The shortest story of seed {failed.seed}",
        [
            paragraph(f"{failed.rule} It is broken with {kept} of the faults: {failed.problem}"),
            lines([*tell(failed), "", f"again: {campaign.replay_command}"]),
        ],
    )


def _gaps(tally: Tally) -> Section:
    gaps = tally.gaps
    figures = [
        Tile("times", f"{gaps.count:,}"),
        Tile("median", f"{gaps.median_ms / 1000:.2f} s"),
        Tile("99 of 100 below", f"{gaps.p99_ms / 1000:.2f} s"),
        Tile("longest", f"{gaps.max_ms / 1000:.2f} s"),
        Tile("shard-seconds, all together", f"{gaps.total_ms / 1000:,.0f}"),
    ]
    text = (
        "From the moment at which no process serves a shard any more until one does again; what an operator stopped or "
        "deleted does not count. Faults go on meanwhile: what hangs or is cut off stays so until a later fault or the "
        "end of all faults mends it."
    )
    return Section(
        "How long shards stood without an owner", [paragraph(text), tiles(figures), card(histogram(tally.gaps_ms))]
    )


def _one_history(campaign: Campaign) -> Section:
    if campaign.shortest is not None:
        failed, record = campaign.shortest.failed, campaign.shortest.record
        title = f"The failure of seed {failed.seed}, shortened"
        return Section(title, _drawn(record, failed.faults, failed.cluster.now_ms))
    seed, record = campaign.tally.worst_seed, HistoryRecord()
    try:
        history = play_history(seed, campaign.shape, record=record)
        cluster, faults = history.cluster, history.faults
    except HistoryFailed as failed:
        cluster, faults = failed.cluster, failed.faults
    title = f"Seed {seed}: the history in which shards stood without an owner the longest"
    return Section(title, _drawn(record, faults, cluster.now_ms))


def _drawn(record: HistoryRecord, faults: Sequence[FaultMark], end_ms: int) -> list[Html]:
    bands, meanings = bands_of(record, end_ms)
    chart = TimeChart(end_ms)
    chart.add_events("done to it", list(map(_event, faults)))
    chart.add_bands(bands)
    return [card(legend([*EVENTS_LEGEND, *meanings]), chart.drawn())]


def _event(fault: FaultMark) -> Event:
    says = fault.kind.startswith
    kind = "m-remedy" if says(_REMEDIES) else "m-order" if says(_ORDERS) else "m-fault"
    is_fault = kind == "m-fault"
    title = f"{fault.at_ms / 1000:.3f} s: {fault}"
    name = f"{fault.kind} {fault.where}".strip()
    return Event(fault.at_ms, name, kind, title, is_main=is_fault, is_struck=is_fault)


def _faults(tally: Tally) -> Section:
    most = max(tally.faults.values(), default=1)
    rows = [(kind, f"{count:,}", bar(count / most)) for kind, count in tally.faults.most_common()]
    troubles = ", ".join(f"{name.replace('_', '-')} {count:,}" for name, count in tally.troubles.most_common())
    parts = [table(("kind", "#how often", ""), rows)]
    if troubles:
        parts.append(paragraph(f"Troubles that came by themselves, in how many histories: {troubles}."))
    return Section("What went wrong", parts)
