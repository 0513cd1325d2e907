"""How ``filoray top`` looks: a head, what is wrong, a table of nodes and one of shards, made to fit the terminal.

Rows and figures are ``top_rows``'s. Where there is no room, the least interesting rows are left out, with a line that
says how many, and the columns that are looked at least. Colour is for what is wrong alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from filoray.command.top_rows import (
    ACTIVE,
    NodeRow,
    Overview,
    ShardError,
    ShardRow,
    SortBy,
    Totals,
    Trouble,
    chosen_nodes,
    chosen_shards,
)
from filoray.http.fanout.cluster_figures import Presence

_UNKNOWN = "–"
_PRESENCE_WORDS = {Presence.UP: "up", Presence.AWAY: "away", Presence.SILENT: "hung"}
_PRESENCE_STYLES = {Presence.UP: "", Presence.AWAY: "red", Presence.SILENT: "yellow"}
_STATUS_STYLES = {ACTIVE: "", "Error": "red", "Down": "red", "Unassigned": "red"}
_TROUBLES_SHOWN = 4
_ERRORS_SHOWN = 2
_ERROR_SHARDS_SHOWN = 8
_GAP = 2
_AGE_UNITS = ((60_000, 1_000, "s"), (3_600_000, 60_000, "min"), (172_800_000, 3_600_000, "h"))
_DAY_MS = 86_400_000

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Frame:
    """``width`` and ``height``: of the terminal; None: as large as need be. ``note``: a line of whoever shows it."""

    width: int | None = None
    height: int | None = None
    sort_by: SortBy = SortBy.NAME
    note: str = ""
    note_style: str = "dim"


@dataclass(frozen=True, slots=True)
class _Column(Generic[Row]):
    """``worth``: those with the least go first where there is no room."""

    head: str
    text: Callable[[Row], str]
    worth: int
    style: Callable[[Row], str] = lambda row: ""
    is_number: bool = True


_NODE_COLUMNS: tuple[_Column[NodeRow], ...] = (
    _Column("node", lambda row: row.node, 99, is_number=False),
    _Column(
        "status",
        lambda row: (
            standing_text(row.standing.presence, row.standing.problem_ms) + (", drained" if row.is_drained else "")
        ),
        98,
        lambda row: _PRESENCE_STYLES[row.standing.presence],
        is_number=False,
    ),
    _Column("inc", lambda row: f"#{row.incarnation}" if row.incarnation else _UNKNOWN, 40),
    _Column("uptime", lambda row: age_text(row.uptime_ms), 20),
    _Column("shards", lambda row: str(row.shards), 60),
    _Column("series", lambda row: count_text(row.series), 50),
    _Column("samples/s", lambda row: rate_text(row.samples_per_s), 90),
    _Column("queries/s", lambda row: rate_text(row.queries_per_s), 80),
    _Column("CPU %", lambda row: _UNKNOWN if row.cpu_percent is None else f"{row.cpu_percent:.0f}", 75),
    _Column("memory", lambda row: bytes_text(row.memory_bytes), 70),
    _Column("queue", lambda row: count_text(row.queue), 65),
)

_SHARD_COLUMNS: tuple[_Column[ShardRow], ...] = (
    _Column("data set", lambda row: row.dataset, 97, is_number=False),
    _Column("shard", lambda row: str(row.shard), 99),
    _Column(
        "status",
        lambda row: row.status,
        98,
        lambda row: _STATUS_STYLES.get(row.status.partition("(")[0], "yellow"),
        is_number=False,
    ),
    _Column("owner", lambda row: row.node or _UNKNOWN, 96, is_number=False),
    _Column(
        "in sync",
        lambda row: _UNKNOWN if row.copies is None else "{}/{}".format(*row.copies),
        55,
        lambda row: "yellow" if row.lacks_copies else "",
    ),
    _Column("epoch", lambda row: str(row.epoch), 40),
    _Column("series", lambda row: count_text(row.series), 60),
    _Column("samples/s", lambda row: rate_text(row.samples_per_s), 90),
    _Column("unflushed", lambda row: count_text(row.unflushed_samples), 70),
    _Column("log", lambda row: bytes_text(row.log_bytes), 65),
    _Column("memory", lambda row: bytes_text(row.memory_bytes), 30),
    _Column("stored", lambda row: bytes_text(row.stored_bytes), 20),
    _Column("newest", lambda row: age_text(row.newest_age_ms), 85),
    _Column("lag", lambda row: count_text(row.lag), 50),
)


def render(shown: Overview, frame: Frame) -> RenderableType:
    """The whole view, no higher than ``frame.height`` where that is 19 or more."""
    head = [_head(shown.totals), *_trouble_lines(shown.troubles), *_error_lines(shown.errors)]
    if frame.note:
        head.append(Text(frame.note, frame.note_style))
    room = None
    if frame.height is not None:
        # Two heads of tables, two empty lines before them, and a line for what is not shown of each.
        room = max(2, frame.height - len(head) - 1 - 6)
    nodes_room, shards_room = _shared_room(room, len(shown.nodes), len(shown.shards))
    nodes = chosen_nodes(shown.nodes, nodes_room)
    shards = chosen_shards(shown.shards, shards_room, frame.sort_by)
    parts: list[RenderableType] = [*head, Text(), _table(_NODE_COLUMNS, nodes, frame.width)]
    parts += _not_shown(len(shown.nodes) - len(nodes), "nodes")
    if shown.shards:
        parts += [Text(), _table(_SHARD_COLUMNS, shards, frame.width)]
        parts += _not_shown(len(shown.shards) - len(shards), "shards")
    else:
        parts += [Text(), Text("no data set is set up", "dim")]
    for part in parts:
        if isinstance(part, Text):
            part.no_wrap, part.overflow = frame.height is not None, "ellipsis"
    return Group(*parts)


def _shared_room(room: int | None, nodes: int, shards: int) -> tuple[int | None, int | None]:
    """Nodes get what shards leave, and half of it at least."""
    if room is None:
        return None, None
    nodes_room = min(nodes, max(room - shards, (room + 1) // 2))
    return nodes_room, max(1, room - nodes_room)


def _head(totals: Totals) -> Text:
    text = Text()
    text.append(totals.cluster, "bold")
    names = ", ".join(totals.datasets[:3]) + (" …" if len(totals.datasets) > 3 else "")
    for words, is_well in (
        (f"  by {totals.gateway}", True),
        (f"   nodes {totals.nodes_up}/{totals.nodes}", totals.nodes_up == totals.nodes),
        (f"   gateways {totals.gateways_up}/{totals.gateways}", totals.gateways_up == totals.gateways),
        (f"   shards {totals.shards_active}/{totals.shards} Active", totals.shards_active == totals.shards),
        (
            f"   copies {totals.copies_in_sync}/{totals.copies} in sync" if totals.copies else "",
            totals.copies_in_sync == totals.copies,
        ),
        (f"   data sets {len(totals.datasets)}" + (f" ({names})" if names else ""), True),
    ):
        text.append(words, "" if is_well else "red")
    refused = totals.refused_per_s or 0
    text.append(
        f"\nsamples/s {rate_text(totals.samples_per_s)}   queries/s {rate_text(totals.queries_per_s)}   refused/s "
    )
    text.append(rate_text(totals.refused_per_s), "red" if refused else "")
    text.append(f"   series {count_text(totals.series)}")
    return text


def _trouble_lines(troubles: Sequence[Trouble]) -> list[Text]:
    lines = []
    for trouble in troubles[:_TROUBLES_SHOWN]:
        standing = trouble.standing
        words = f"{trouble.name} {standing_text(standing.presence, standing.problem_ms)}: {standing.problem}"
        lines.append(Text(words, _PRESENCE_STYLES[standing.presence]))
    if len(troubles) > _TROUBLES_SHOWN:
        lines.append(Text(f"and {len(troubles) - _TROUBLES_SHOWN} others away or hung", "red"))
    return lines


def _error_lines(errors: Sequence[ShardError]) -> list[Text]:
    lines = []
    for error in errors[:_ERRORS_SHOWN]:
        listed = ", ".join(map(str, error.shards[:_ERROR_SHARDS_SHOWN]))
        more = ", …" if len(error.shards) > _ERROR_SHARDS_SHOWN else ""
        lines.append(Text(f"{error.dataset} shard {listed}{more}: {error.reason}", "red"))
    if len(errors) > _ERRORS_SHOWN:
        lines.append(Text(f"and {len(errors) - _ERRORS_SHOWN} other reasons for which shards are in Error", "red"))
    return lines


def _not_shown(count: int, noun: str) -> list[RenderableType]:
    return (
        [Text(f"{count} more {noun} are not shown; those where something is wrong come first", "dim")] if count else []
    )


def _table(columns: Sequence[_Column[Row]], rows: Sequence[Row], width: int | None) -> Table:
    cells = {column.head: [column.text(row) for row in rows] for column in columns}
    widths = {head: max(len(head), *map(len, texts), 0) for head, texts in cells.items()}
    kept = list(columns)
    while width is not None and sum(widths[column.head] + _GAP for column in kept) - _GAP > width and len(kept) > 3:
        kept.remove(min(kept, key=lambda column: column.worth))
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column in kept:
        justify = "right" if column.is_number else "left"
        table.add_column(column.head, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for index, row in enumerate(rows):
        table.add_row(*[Text(cells[column.head][index], column.style(row)) for column in kept])
    return table


def standing_text(presence: Presence, problem_ms: int) -> str:
    """``up``, or what is wrong and since when."""
    word = _PRESENCE_WORDS[presence]
    return word if presence is Presence.UP else f"{word} {age_text(problem_ms)}"


def count_text(count: float | None) -> str:
    """In at most six characters: 999, 12.3k, 4.56M."""
    if count is None:
        return _UNKNOWN
    if abs(count) < 10_000:
        return f"{count:.0f}"
    for limit, unit, sign in ((1e6, 1e3, "k"), (1e9, 1e6, "M"), (1e12, 1e9, "G")):
        if abs(count) < limit * 0.9995:
            scaled = count / unit
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f}{sign}"
    return f"{count / 1e12:.3g}T"


def rate_text(per_second: float | None) -> str:
    if per_second is None:
        return _UNKNOWN
    return f"{per_second:.1f}" if 0 < per_second < 9.95 else count_text(per_second)


def bytes_text(count: int | None) -> str:
    """In binary units: 999B, 1.5K, 256M."""
    if count is None:
        return _UNKNOWN
    size = float(count)
    for unit in "BKMG":
        if size < 1000:
            return f"{size:.0f}{unit}" if unit == "B" or size >= 99.5 else f"{size:.1f}{unit}"
        size /= 1024
    return f"{size:.1f}T"


def age_text(age_ms: int | None) -> str:
    """How long something has lasted or is past: 0.4s, 12s, 3min, 7h, 12d; with a + what lies ahead."""
    if age_ms is None:
        return _UNKNOWN
    if age_ms < 0:
        return "+" + age_text(-age_ms)
    if age_ms < 9_950:
        return f"{age_ms / 1000:.1f}s"
    for limit_ms, unit_ms, sign in _AGE_UNITS:
        if age_ms < limit_ms:
            return f"{age_ms // unit_ms}{sign}"
    return f"{age_ms // _DAY_MS}d"
