"""What of a URL's query and of a form's body becomes a parameter, and what is refused, as in Go."""

import gzip
import zlib

import pytest
from aiohttp import FormData
from aiohttp.web import BaseRequest
from yarl import URL

from filoray.cluster.errors import BadData
from filoray.http.server import forms
from filoray.http.server.forms import FIELDS_MAX, parse_multipart, parse_urlencoded

BOUNDARY = "multipart/form-data; boundary=xyz"


@pytest.fixture
async def api(gateways):
    return await gateways.start("timeseries")


REFUSED = [
    ("query=1%zz", 'invalid URL escape "%zz"'),
    ("query=1%", 'invalid URL escape "%"'),
    ("query=1%2&time=1", 'invalid URL escape "%2"'),
    ("qu%eGry=1", 'invalid URL escape "%eG"'),
    ("query=1;time=1", "invalid semicolon separator in query"),
    ("&".join(["a=1"] * (FIELDS_MAX + 1)), "there are more than 10000 of them"),
]


@pytest.mark.parametrize(("text", "problem"), REFUSED)
async def test_what_go_does_not_read_is_400_in_url_and_body(api, text, problem):
    error = {"status": "error", "errorType": "bad_data", "error": f"error parsing form values: {problem}"}
    for path in ("query", "query_range", "series", "labels", "format_query"):
        status, body = await api.post(
            f"/api/v1/{path}", data=text, headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
        assert (status, body) == (400, error)
    for path in ("query", "label/job/values", "metadata"):
        async with api.client.get(URL(f"{api.url}/api/v1/{path}?{text}", encoded=True)) as response:
            assert (response.status, await response.json()) == (400, error)
    assert api.queries.requests == []


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", []),
        ("a=1+1&b=%2B%3b%00&&c", [("a", "1 1"), ("b", "+;\0"), ("c", "")]),
        ("a=1=2&=3&a=%C3%BC", [("a", "1=2"), ("", "3"), ("a", "ü")]),
        ("a=%FF", [("a", "\N{REPLACEMENT CHARACTER}")]),
    ],
)
def test_pairs_of_urlencoded_text(text, pairs):
    assert parse_urlencoded(text) == pairs


async def test_a_multipart_form_is_read_like_a_form(api):
    form = FormData(default_to_multipart=True)
    form.add_field("query", "sum(up)\r\n  by (job)  # ü")
    form.add_field("time", "5")
    form.add_field("time", "8", filename="a.txt")
    assert (await api.post("/api/v1/query", data=form))[0] == 200
    (asked,) = api.queries.requests
    assert (asked.query, asked.start_ms) == ("sum(up)\r\n  by (job)  # ü", 5000)


@pytest.mark.parametrize("multipart", [False, True])
async def test_which_value_counts_where_the_url_has_one_too(api, multipart):
    form = FormData(default_to_multipart=multipart)
    form.add_field("query", "up")
    form.add_field("time", "5")
    assert (await api.post("/api/v1/query?time=7", data=form))[0] == 200
    (asked,) = api.queries.requests
    assert asked.start_ms == (7000 if multipart else 5000), "as Go's FormValue has it"


@pytest.mark.parametrize("kind", ["Application/X-WWW-Form-Urlencoded", "application/x-www-form-urlencoded ;charset=x"])
@pytest.mark.parametrize("parameters", ["", ";a=b" * 10_000, '; a="x\\";"' * 4_000])
async def test_a_form_is_known_by_its_media_type_alone(api, monkeypatch, kind, parameters):
    monkeypatch.setattr(BaseRequest, "content_type", property(lambda _: pytest.fail("it is quadratic in parameters")))
    headers = {"Content-Type": kind + parameters}
    assert (await api.post("/api/v1/query", data="query=up", headers=headers))[0] == 200
    assert [request.query for request in api.queries.requests] == ["up"]


def part(head, value=b"1"):
    return b"--xyz\r\n" + head + b"\r\n\r\n" + value + b"\r\n"


def test_parts_of_a_multipart_form():
    clean = part(b'Content-Disposition: form-data; name="a"', b"") + part(
        b"content-disposition: form-data; name=b", b"2"
    )
    assert parse_multipart(b"preamble\r\n" + clean + part(b"X: 1") + b"--xyz--\r\nepilogue", BOUNDARY) == [
        ("a", ""),
        ("b", "2"),
    ]


NAMED = b"Content-Disposition: form-data; name="


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (NAMED + b"a;", "a"),
        (b"Content-Disposition : form-data; name=a", None),
        (b'X: 1\r\nCONTENT-disposition:FORM-DATA ;\r\n\tName = "a b"\r\nY: 2', "a b"),
        (NAMED + b'"a\\"b;c=d\\\\"; x=1', 'a"b;c=d\\'),
        (NAMED + rb'"C:\dev"', r"C:\dev"),
        (NAMED + "ü".encode(), None),
        (NAMED + '"ü"'.encode(), "ü"),
        (NAMED + b'"\xff"', "\N{REPLACEMENT CHARACTER}"),
        (NAMED + b'a; filename=""', None),
        (NAMED + b"a; name=b", None),
        (NAMED + b'"a', None),
        (NAMED + b'""', None),
        (NAMED + b"a b", None),
        (NAMED + b"a; =", None),
        (b"Content-Disposition: attachment; name=a", None),
        (b"Content-Disposition: form-data; name*=unicode_escape''%5cN%7b", None),
        (b"Content-Disposition: form-data; name*=idna''%ff", None),
    ],
)
def test_names_of_parts(head, name):
    assert parse_multipart(part(head) + b"--xyz--", BOUNDARY) == ([] if name is None else [(name, "1")])


@pytest.mark.parametrize(
    "piece",
    [b"", b'a="x";', b"a=x;", b'\\";', b"\\", b'"', b";", b" ", b"\r\n ", b"\r\nX: y", b"name*0=x;"],
)
def test_the_work_for_a_head_grows_as_its_length(monkeypatch, piece):
    def steps(head):
        # Regular expressions do their work out of sight: what they are given to look at is what counts.
        looked_at = 0

        class Counting:
            def __init__(self, regex):
                self._regex = regex

            def match(self, text, at):
                nonlocal looked_at
                found = self._regex.match(text, at)
                looked_at += found.end() - at if found else len(text) - at
                return found

        with monkeypatch.context() as patch:
            patch.setattr(forms, "_PARAMETER", Counting(forms._PARAMETER))
            parse_multipart(part(head) + b"--xyz--", BOUNDARY)
        return looked_at

    head = NAMED + b'"a";' + piece * 200_000  # a reader that is quadratic takes minutes for some of these
    assert steps(head) <= len(head)


@pytest.mark.parametrize(
    ("body", "content_type", "problem"),
    [
        (b"", "multipart/form-data", "no multipart boundary param"),
        (b"query=1", BOUNDARY, "does not end with its boundary"),
        (part(b"Content-Disposition: form-data; name=a"), BOUNDARY, "does not end with its boundary"),
        (b"--xyz\r\nquery=1\r\n--xyz--\r\n", BOUNDARY, "has no head"),
        (part(b"Content-Disposition: form-data; name=a") * (FIELDS_MAX + 1) + b"--xyz--", BOUNDARY, "more than 10000"),
    ],
)
def test_malformed_multipart_forms(body, content_type, problem):
    with pytest.raises(BadData, match=problem):
        parse_multipart(body, content_type)


DEFLATE = zlib.compress(b"query=up")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", gzip.compress(b"query=up"), 200),
        ("X-GZIP", gzip.compress(b"query=up"), 200),
        ("deflate", DEFLATE, 200),
        ("deflate", DEFLATE[2:-4], 200),  # without zlib's head and tail
        ("identity", b"query=up", 200),
        ("gzip", gzip.compress(b"query=up")[:-3], 400),
        ("gzip", gzip.compress(b"query=up") + b"more", 400),
        ("gzip", b"query=up", 400),
        ("gzip", gzip.compress(b"query=" + b" " * 10_000_000 + b"up"), 413),
        ("gzip, gzip", gzip.compress(b"query=up"), 415),
        ("zstd", b"query=up", 415),
    ],
)
async def test_compressed_forms(api, encoding, body, status):
    answered, said = await api.post("/api/v1/query", data=body, headers={**FORM, "Content-Encoding": encoding})
    assert answered == status, said
    assert [request.query for request in api.queries.requests] == (["up"] if status == 200 else [])
