"""The pairs of names and values in a URL's query and in a form, read as Go's net/url and mime/multipart read them.

Go refuses what other parsers guess at: a percent sign without two hexadecimal digits, a semicolon between pairs.
Guessing would evaluate another query than the one that was meant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl

from aiohttp.helpers import parse_mimetype

from filoray.cluster.errors import BadData
from filoray.nodes.promql.quoting import quote

Pairs = list[tuple[str, str]]

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
FIELDS_MAX = 10_000
"""Of one request; the longest lists of match[] have some hundreds."""

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
# Possessive, so that one pass over a head is all that it ever takes: heads may be as long as a body.
_PARAMETER = re.compile(
    rf';[ \t]*+({_TOKEN})[ \t]*+=[ \t]*+(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"|({_TOKEN}))[ \t]*+', re.DOTALL
)
_ESCAPED = re.compile(r'\\([()<>@,;:\\"/\[\]?=])')
_DISPOSITION = re.compile(rf"^content-disposition:[ \t]*+({_TOKEN})[ \t]*+([^\r\n]*+)", re.IGNORECASE | re.MULTILINE)
_FOLD = re.compile("\r\n[ \t]++")
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


def parse_urlencoded(text: str) -> Pairs:
    """Raises BadData with Go's words."""
    if ";" in text:
        raise BadData("error parsing form values: invalid semicolon separator in query")
    if "%" in text and (bad := _BAD_ESCAPE.search(text)):
        escape = re.split("[&=]", text[bad.start() : bad.start() + 3])[0]
        raise BadData(f"error parsing form values: invalid URL escape {quote(escape)}")
    try:
        return parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=FIELDS_MAX)
    except ValueError:
        raise _too_many() from None


def parse_multipart(body: bytes, content_type: str) -> Pairs:
    """The values of a form's fields; files among them are left out, as Go's ``FormValue`` does. Raises BadData."""
    boundary = parse_mimetype(content_type).parameters.get("boundary")
    if not boundary:
        raise BadData("error parsing form values: no multipart boundary param in Content-Type")
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("utf-8", "surrogateescape"), FIELDS_MAX + 2)
    if len(parts) > FIELDS_MAX + 2:
        raise _too_many()
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise BadData("error parsing form values: the multipart form does not end with its boundary")
    pairs: Pairs = []
    for part in parts[1:-1]:
        # Blanks may follow a boundary; a head without lines is only the empty line that ends it.
        head, separator, value = part.lstrip(b" \t").partition(b"\r\n\r\n")
        if not separator:
            raise BadData("error parsing form values: a part of the multipart form has no head")
        name = _field_name(head.removeprefix(b"\r\n").decode("utf-8", "replace"))
        if name:
            pairs.append((name, value.decode("utf-8", "replace")))
    return pairs


def _field_name(head: str) -> str | None:
    """The name of a field that is no file; None for other parts, and where the disposition is malformed, as in Go.

    Not read: names in RFC 2231's pieces and character sets, which RFC 7578 bars from forms.
    """
    disposition = _DISPOSITION.search(_FOLD.sub(" ", head))
    if disposition is None or disposition[1].lower() != "form-data":
        return None
    rest, at = disposition[2].rstrip("; \t"), 0
    parameters: dict[str, str] = {}
    while at < len(rest):
        parameter = _PARAMETER.match(rest, at)
        if parameter is None or parameter[1].lower() in parameters:
            return None
        quoted = parameter[2]
        parameters[parameter[1].lower()] = parameter[3] if quoted is None else _ESCAPED.sub(r"\1", quoted)
        at = parameter.end()
    return None if "filename" in parameters else parameters.get("name")


def by_name(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def _too_many() -> BadData:
    return BadData(f"error parsing form values: there are more than {FIELDS_MAX} of them")
