"""The page of a report: one HTML file without anything from elsewhere, light or dark as its reader likes it.

What is put in is text, and escaped here, unless it is ``Html``: made by this module or by one that draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template


@dataclass(frozen=True, slots=True)
class Html:
    """Markup that is right as it is."""

    markup: str


Content = str | Html


@dataclass(frozen=True, slots=True)
class Head:
    """``verdict``: a badge beside the title; ``remarks``: below it."""

    title: str
    verdict: Html
    remarks: Sequence[Html]


@dataclass(frozen=True, slots=True)
class Section:
    """Without a title it goes on with what is above it."""

    title: str
    parts: Sequence[Html]


@dataclass(frozen=True, slots=True)
class Tile:
    """``is_bad``: the figure is one that should not be."""

    what: str
    how_much: str
    is_bad: bool = False


def page(head: Head, sections: Iterable[Section]) -> str:
    """The whole file."""
    return _PAGE.substitute(
        title=escape(head.title),
        verdict=head.verdict.markup,
        remarks="".join(one.markup for one in head.remarks),
        body="\n".join(map(_section, sections)),
        style=files("filoray.cluster.report").joinpath("page.css").read_text("utf-8"),
    )


def _section(section: Section) -> str:
    heading = f"<h2>{escape(section.title)}</h2>" if section.title else ""
    return f"<section>{heading}{''.join(part.markup for part in section.parts)}</section>"


def badge(text: str, *, is_good: bool) -> Html:
    return Html(f'<span class="badge {"good" if is_good else "bad"}">{escape(text)}</span>')


def word(text: str, *, is_good: bool) -> Html:
    """A verdict inside a table."""
    return Html(f'<span class="word {"good" if is_good else "bad"}">{escape(text)}</span>')


def toned(text: str, tone: str) -> Html:
    """``tone``: bad, good, faint, or "" for none."""
    return Html(f'<span class="{tone}">{escape(text)}</span>' if tone else escape(text))


def paragraph(*contents: Content, tone: str = "faint") -> Html:
    return Html(f'<p class="{tone}">{"".join(map(_markup, contents))}</p>')


def code(text: str) -> Html:
    return Html(f"<code>{escape(text)}</code>")


def tiles(figures: Iterable[Tile]) -> Html:
    cells = "".join(
        f'<div class="tile"><b{" class=bad" if one.is_bad else ""}>{escape(one.how_much)}</b>{escape(one.what)}</div>'
        for one in figures
    )
    return Html(f'<div class="tiles">{cells}</div>')


def card(*parts: Html) -> Html:
    return Html(f'<div class="card">{"".join(part.markup for part in parts)}</div>')


def table(head: Sequence[str], rows: Iterable[Sequence[Content]]) -> Html:
    """A column that begins with ``#`` in ``head`` has numbers, one without a name bars."""
    classes = [' class="number"' if text.startswith("#") else "" if text else ' class="bars"' for text in head]
    heads = "".join(f"<th{one}>{escape(text.lstrip('#'))}</th>" for text, one in zip(head, classes, strict=True))
    filled = "".join(
        "<tr>" + "".join(f"<td{one}>{_markup(cell)}</td>" for cell, one in zip(row, classes, strict=True)) + "</tr>"
        for row in rows
    )
    return card(Html(f"<table><thead><tr>{heads}</tr></thead><tbody>{filled}</tbody></table>"))


def bar(share: float) -> Html:
    """A bar for a cell of a table, of 0 to 1 of its width."""
    return Html(f'<span class="bar" style="width:{100 * share:.1f}%"></span>')


def items(texts: Iterable[str]) -> Html:
    return card(Html(f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"))


def lines(texts: Iterable[str]) -> Html:
    """As a terminal shows them."""
    return card(Html(f"<pre>{escape(chr(10).join(texts))}</pre>"))


def _markup(content: Content) -> str:
    return content.markup if isinstance(content, Html) else escape(content)


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<main>
<header><h1>$title$verdict</h1>$remarks</header>
$body
</main>
</body>
</html>
""")
