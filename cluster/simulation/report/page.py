"""The page of a report: one HTML file without anything from elsewhere, light or dark as its reader likes it.

What is put in is text, and escaped here, unless it is ``Html``: made by this module or by one that draws.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import Template


@dataclass(frozen=True, slots=True)
class Html:
    """Markup that is right as it is."""

    markup: str


Content = str | Html


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    parts: Sequence[Html]


def page(title: str, subtitle: str, verdict: Html, sections: Iterable[Section]) -> str:
    """The whole file."""
    body = "\n".join(
        f"<section><h2>{html.escape(section.title)}</h2>{''.join(part.markup for part in section.parts)}</section>"
        for section in sections
    )
    return _PAGE.substitute(
        title=html.escape(title), subtitle=html.escape(subtitle), verdict=verdict.markup, body=body, style=_STYLE
    )


def verdict(text: str, *, is_good: bool) -> Html:
    return Html(f'<p class="verdict {"good" if is_good else "bad"}">{html.escape(text)}</p>')


def paragraph(text: str) -> Html:
    return Html(f"<p>{html.escape(text)}</p>")


def tiles(figures: Iterable[tuple[str, str]]) -> Html:
    """``figures``: (what, how much)."""
    cells = "".join(
        f"<div><dt>{html.escape(what)}</dt><dd>{html.escape(how_much)}</dd></div>" for what, how_much in figures
    )
    return Html(f'<dl class="tiles">{cells}</dl>')


def table(head: Sequence[str], rows: Iterable[Sequence[Content]]) -> Html:
    """A column that begins with ``#`` in ``head`` has numbers, one without a name bars."""
    classes = [' class="number"' if text.startswith("#") else "" if text else ' class="bars"' for text in head]
    heads = "".join(f"<th{one}>{html.escape(text.lstrip('#'))}</th>" for text, one in zip(head, classes, strict=True))
    lines = "".join(
        "<tr>" + "".join(f"<td{one}>{_markup(cell)}</td>" for cell, one in zip(row, classes, strict=True)) + "</tr>"
        for row in rows
    )
    return Html(f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>')


def badge(text: str, *, is_good: bool) -> Html:
    return Html(f'<span class="badge {"good" if is_good else "bad"}">{html.escape(text)}</span>')


def bar(share: float) -> Html:
    """A bar for a cell of a table, of 0 to 1 of its width."""
    return Html(f'<span class="bar" style="width:{100 * share:.1f}%"></span>')


def lines(texts: Iterable[str]) -> Html:
    """As a terminal shows them."""
    return Html(f'<pre class="wide">{html.escape(chr(10).join(texts))}</pre>')


def _markup(content: Content) -> str:
    return content.markup if isinstance(content, Html) else html.escape(content)


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header><h1>$title</h1><p class="command">$subtitle</p>$verdict</header>
<main>
$body
</main>
</body>
</html>
""")

_STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfbfa; --card: #ffffff; --ink: #1c2024; --faint: #667078; --line: #dfe3e6; --good: #1a7f4b; --bad: #c62f3c;
  --accent: #3d6fd9;
  --down: #d6333f; --error: #e8833a; --stopped: #9aa3ab; --unassigned: #d5dade; --mark: #5b646c;
  --owner-0: #4c78d0; --owner-1: #2f9e77; --owner-2: #a06ad1; --owner-3: #c08a1e;
  --owner-4: #2c9bb5; --owner-5: #c25f92; --owner-6: #7d9434; --owner-7: #8a6f5c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1c2024; --ink: #e6e9ec; --faint: #98a2ab; --line: #333a41; --good: #4cc38a;
    --bad: #ff6b76; --accent: #7aa2f7; --down: #f0525e; --error: #f09a55; --stopped: #6d767e; --unassigned: #3a424a;
    --mark: #aab3bb;
    --owner-0: #6d95e8; --owner-1: #45b88e; --owner-2: #b98ae6; --owner-3: #d8a63c;
    --owner-4: #47b8d3; --owner-5: #dc7cac; --owner-6: #9bb44c; --owner-7: #ab9080;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.05rem; margin: 0 0 .75rem; }
.command { margin: .25rem 0 1rem; color: var(--faint); font-family: ui-monospace, monospace; font-size: .85rem; }
.verdict { font-weight: 600; margin: 0 0 1.5rem; padding: .6rem .9rem; background: var(--card); }
.verdict { border-left: 4px solid; }
.verdict.good { border-color: var(--good); color: var(--good); }
.verdict.bad { border-color: var(--bad); color: var(--bad); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
section { padding: 1rem 1.2rem; margin: 0 0 1rem; }
section p { margin: 0 0 .75rem; color: var(--faint); max-width: 60rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1rem; margin: 0 0 .75rem; }
.tiles dt { color: var(--faint); font-size: .8rem; }
.tiles dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
.wide + p { margin-top: .75rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th { text-align: left; color: var(--faint); font-weight: 500; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; width: 1%; }
.bars { width: 55%; }
.badge { font-weight: 600; white-space: nowrap; }
.badge.good { color: var(--good); }
.badge.bad { color: var(--bad); }
.bar { display: inline-block; height: .7rem; min-width: 2px; background: var(--accent); border-radius: 2px; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font: .8rem/1.45 ui-monospace, monospace; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--faint); }
svg .strong { fill: var(--ink); }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .mark { stroke: var(--mark); stroke-width: 1; stroke-dasharray: 2 3; opacity: .7; }
svg .in-band { fill: #fff; font-size: 10px; pointer-events: none; }
svg .column { fill: var(--accent); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: .6rem 0 0; font-size: .8rem; color: var(--faint); }
.legend i { display: inline-block; width: .9rem; height: .7rem; border-radius: 2px; margin-right: .4rem; }
"""
