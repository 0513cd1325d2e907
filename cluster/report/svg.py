"""The few shapes that reports are drawn with. ``kind``: classes of ``page.css``; texts are escaped here."""

from __future__ import annotations

from html import escape

CHARACTER_PX = 6.2
"""How wide a character is at most, on average, in the font of ``page.css``."""


def text(x: float, y: float, words: str, kind: str, title: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(words)}{_title(title)}</text>'


def line(x: float, y: float, to_x: float, to_y: float, kind: str) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" class="{kind}"/>'


def rect(x: float, y: float, width: float, height: float, kind: str, title: str, opacity: float = 1.0) -> str:
    faint = f' opacity="{opacity:.2f}"' if opacity < 1 else ""
    return (
        f'<rect x="{x:.2f}" y="{y:.1f}" width="{width:.2f}" height="{height:.1f}" class="{kind}"{faint}>'
        f"{_title(title)}</rect>"
    )


def circle(x: float, y: float, radius: float, kind: str, title: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="{kind}">{_title(title)}</circle>'


def svg(width: float, height: float, label: str, parts: list[str]) -> str:
    return f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _title(words: str) -> str:
    """What a browser shows where the pointer rests."""
    return f"<title>{escape(words)}</title>" if words else ""
