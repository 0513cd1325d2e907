"""Which hosts are answered to, which pages may change something, and which may read: tables, then over HTTP."""

import asyncio
import json

import pytest

from filoray.cluster.config.server_config import load_server_config
from filoray.cluster.errors import ConfigError, Forbidden
from filoray.http.access.origin_policy import CorsPolicy, HostPolicy, check_same_origin, host_of
from filoray.http.access.route_access import route_access


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("localhost", "localhost"), ("LOCALHOST.:8080", "localhost"), ("127.0.0.1:1", "127.0.0.1"), ("[::1]:80", "::1"),
        ("db.example.org:65535", "db.example.org"), ("", None), (".", None), (":80", None), ("a b", None),
        ("[::1", None),
        ("user@localhost", None), ("localhost:80:80", None), ("localhost:", None), ("localhost/x", None),
        ("localhost#@evil.example", None), ("localhost\\evil", None),
    ],
)  # fmt: skip
def test_a_host_is_read_from_its_header(authority, host):
    assert host_of(authority) == host


ANYWHERE = HostPolicy("0.0.0.0", ["filoray.example.org", ".intra.example", "[2001:db8::7]", "10.1.2.3"], ["box"])
LOOPBACK = HostPolicy("127.0.0.1", [], ["box"])


@pytest.mark.parametrize(
    ("policy", "authority", "local_address", "allowed"),
    [
        (LOOPBACK, "127.0.0.1:8080", "127.0.0.1", True),
        (LOOPBACK, "127.0.0.2", "127.0.0.2", True),
        (LOOPBACK, "localhost:9", "127.0.0.1", True),
        (LOOPBACK, "[::1]:8080", "::1", True),
        (LOOPBACK, "[::ffff:127.0.0.1]:8080", "127.0.0.1", True),
        (LOOPBACK, "evil.example", "127.0.0.1", False),
        (LOOPBACK, "localhost.evil.example:8080", "127.0.0.1", False),
        (LOOPBACK, "127.0.0.1.evil.example", "127.0.0.1", False),
        (LOOPBACK, "127.0.0.1%evil.example", "127.0.0.1", False),
        (LOOPBACK, "box", "127.0.0.1", False),
        (LOOPBACK, "0.0.0.0:8080", "127.0.0.1", False),
        (LOOPBACK, "192.0.2.1", "127.0.0.1", False),
        (LOOPBACK, "", "127.0.0.1", False),
        (ANYWHERE, "192.0.2.1:8080", "192.0.2.1", True),
        (ANYWHERE, "[fe80::1]:8080", "fe80::1%eth0", True),
        (ANYWHERE, "192.0.2.2:8080", "192.0.2.1", False),
        (ANYWHERE, "0.0.0.0", "127.0.0.1", False),
        (ANYWHERE, "Filoray.Example.ORG.:80", "192.0.2.1", True),
        (ANYWHERE, "a.filoray.example.org", "192.0.2.1", False),
        (ANYWHERE, "xfiloray.example.org", "192.0.2.1", False),
        (ANYWHERE, "a.b.intra.example", "192.0.2.1", True),
        (ANYWHERE, "intra.example", "192.0.2.1", True),
        (ANYWHERE, "xintra.example", "192.0.2.1", False),
        (ANYWHERE, "[2001:0db8::7]", "192.0.2.1", True),
        (ANYWHERE, "10.1.2.3", None, True),
        (ANYWHERE, "box:8080", "192.0.2.1", True),
        (ANYWHERE, "evil.example", "192.0.2.1", False),
        (HostPolicy("0.0.0.0", [], ["203.0.113.9"]), "203.0.113.9:8080", "10.0.0.1", True),  # announced, before a NAT
        (HostPolicy("db.example.org"), "DB.example.org:8080", None, True),
        (HostPolicy("0.0.0.0", ["*"]), "evil.example", None, True),
    ],
)
def test_only_configured_hosts_are_answered_to(policy, authority, local_address, allowed):
    for _ in range(2):  # the second answer is a remembered one
        if allowed:
            policy.check(authority, local_address)
        else:
            with pytest.raises(Forbidden, match=r"filoray\.http\.allowed-hosts"):
                policy.check(authority, local_address)


@pytest.mark.parametrize(
    ("scheme", "host", "origin", "site", "allowed"),
    [
        ("http", "127.0.0.1:8080", None, None, True),
        ("http", "127.0.0.1:8080", "http://127.0.0.1:8080", "same-origin", True),
        ("http", "127.0.0.1:8080", "http://127.0.0.1:8080", None, True),
        ("http", "Box:8080", "http://box:8080", None, True),
        ("http", "127.0.0.1:8080", None, "none", True),
        ("http", "db.example.org", "https://db.example.org", "same-origin", True),  # TLS ends at a proxy
        ("https", "db.example.org", "http://db.example.org", None, False),
        ("http", "127.0.0.1:8080", "http://127.0.0.1:3000", "same-site", False),
        ("http", "127.0.0.1:8080", "http://127.0.0.1:3000", None, False),
        ("http", "127.0.0.1:8080", "http://127.0.0.1", None, False),
        ("http", "127.0.0.1:8080", "http://localhost:8080", None, False),
        ("http", "127.0.0.1:8080", "http://evil.example", "cross-site", False),
        ("http", "127.0.0.1:8080", None, "cross-site", False),
        ("http", "127.0.0.1:8080", None, "same-site", False),
        ("http", "127.0.0.1:8080", None, "", False),
        ("http", "127.0.0.1:8080", "null", None, False),
        ("http", "127.0.0.1:8080", "", None, False),
        ("http", "127.0.0.1:8080", "file://", None, False),
        ("http", "127.0.0.1:8080", "chrome-extension://127.0.0.1:8080", None, False),
        ("http", "127.0.0.1:8080", "http://127.0.0.1:8080/", None, False),
        ("http", "127.0.0.1:8080", "http://evil.example@127.0.0.1:8080", None, False),
        ("http", "127.0.0.1:8080", "http://127.0.0.1:8080, http://evil.example", None, False),
        ("http", "127.0.0.1:8080", "http://[", None, False),
        ("http", None, "http://127.0.0.1:8080", None, False),
    ],
)
def test_only_programs_and_the_own_page_change_something(scheme, host, origin, site, allowed):
    if allowed:
        check_same_origin(scheme, host, origin, site, "DELETE /x")
    else:
        with pytest.raises(Forbidden, match="DELETE /x is not for pages of other sites"):
            check_same_origin(scheme, host, origin, site, "DELETE /x")


@pytest.mark.parametrize(
    ("pattern", "origin", "allowed"),
    [
        (".*", "http://anything", "*"),
        (".*", "null", "*"),
        ("https?://(a|b)\\.example", "https://b.example", "https://b.example"),
        ("https?://(a|b)\\.example", "https://b.example.evil", None),
        ("a|b", "xb", None),
        ("", "http://a", None),
    ],
)
def test_cors_headers_are_prometheus_s(pattern, origin, allowed):
    policy = CorsPolicy(pattern)
    assert policy.headers(None) == policy.headers("") == {}
    headers = policy.headers(origin)
    assert headers.pop("Access-Control-Allow-Origin", None) == allowed
    assert headers == {
        "Access-Control-Allow-Headers": "Accept, Authorization, Content-Type, Origin",
        "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
        "Access-Control-Expose-Headers": "Date",
        "Vary": "Origin",
    }


def test_an_endpoint_that_nobody_named_is_for_no_other_page():
    assert route_access("POST", "/api/v1/something/new").changes_state
    assert not route_access("POST", "/api/v1/something/new").is_query_api


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('allowed-hosts = ["http://x"]', "is not a host"),
        ('allowed-hosts = "x"', "is not a list of texts"),
        ('allowed-hosts = ["a b"]', "is not a host"),
        ('cors-origin = "("', "is not a regular expression"),
    ],
)
def test_a_wrong_setting_names_its_key(tmp_path, text, problem):
    (tmp_path / "server.conf").write_text(f"filoray.http {{ {text} }}")
    with pytest.raises(ConfigError, match=problem):
        load_server_config(tmp_path / "server.conf")


# ---- over HTTP


@pytest.fixture
async def api(gateways):
    return await gateways.start("timeseries")


CHANGES = [
    ("POST", "/api/v1/cluster/timeseries"),
    ("DELETE", "/api/v1/cluster/timeseries"),
    ("POST", "/api/v1/cluster/timeseries/stopshards"),
    ("POST", "/api/v1/cluster/timeseries/startshards"),
    ("POST", "/admin/loglevel/filoray.x"),
    ("DELETE", "/api/v1/queries/q1"),
    ("POST", "/api/v1/write"),
    ("POST", "/promql/timeseries/api/v1/write"),
    ("POST", "/api/v1/read"),
    ("POST", "/promql/timeseries/api/v1/read"),
]
STRANGERS = [
    {"Origin": "http://evil.example"}, {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_no_other_page_changes_anything(api, method, path):
    for headers in STRANGERS:
        status, body = await api.ask(method, path, headers=headers, data=b'{"shardList": [1]}')
        assert (status, body["errorType"]) == (403, "forbidden"), headers
        assert f"{method} {path} is not for pages of other sites" in body["error"]
    assert (api.control.calls, api.queries.canceled, api.writes.calls) == ([], [], [])
    own = {"Origin": api.url, "Sec-Fetch-Site": "same-origin"}
    async with api.client.request(method, path, headers=own, data=b"") as response:
        assert response.status != 403
    async with api.client.options(path, headers={"Origin": api.url}) as response:
        assert not [name for name in response.headers if name.startswith("Access-Control")]


async def test_a_refusal_comes_before_the_body(api):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
    head = "POST /api/v1/write HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nContent-Length: 9000000\r\n\r\n"
    writer.write(head.encode())
    assert b" 403 " in await asyncio.wait_for(reader.readline(), 30)
    writer.close()


@pytest.mark.parametrize("path", ["/", "/__health", "/metrics", "/api/v1/query?query=1", "/nowhere"])
async def test_no_other_host_is_answered_to(api, path):
    status, body = await api.get(path, headers={"Host": "evil.example:8080"})
    assert (status, body["errorType"]) == (403, "forbidden")
    for host in ("localhost", "127.0.0.1:1", "[::1]:9090"):
        async with api.client.get(path, headers={"Host": host}) as response:
            assert response.status == (404 if path == "/nowhere" else 200)


async def test_hosts_are_configured(gateways):
    api = await gateways.start("timeseries", http={"allowed_hosts": ("filoray.example.org",)})
    for host, expected in (("filoray.example.org:8080", 200), ("evil.example", 403)):
        async with api.client.get("/__health", headers={"Host": host}) as response:
            assert response.status == expected


async def test_requests_of_programs_without_a_host_are_answered(api):
    for head, expected in ((b"", b" 200 "), (b"Host: localhost\r\nHost: evil.example\r\n", b" 40")):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
        writer.write(b"GET /__health HTTP/1.0\r\n" + head + b"\r\n")
        assert expected in await asyncio.wait_for(reader.readline(), 30)
        writer.close()


QUERY_API = ["query", "query_range", "series", "labels", "label/job/values", "metadata", "format_query", "parse_query"]


@pytest.mark.parametrize("prefix", ["/api/v1", "/promql/timeseries/api/v1"])
@pytest.mark.parametrize("path", QUERY_API)
async def test_queries_may_be_asked_from_any_page(api, prefix, path):
    origin = {"Origin": "http://grafana.example", "Sec-Fetch-Site": "cross-site"}
    async with api.client.options(f"{prefix}/{path}", headers=origin) as response:
        assert (response.status, await response.read()) == (204, b"")
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Access-Control-Allow-Methods"] == "GET, POST, OPTIONS"
    parameters = {"query": "1", "start": "0", "end": "1", "step": "1", "match[]": "up"}
    async with api.client.get(f"{prefix}/{path}", params=parameters, headers=origin) as response:
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (200, "*")
        assert response.headers["Vary"] == "Accept-Encoding, Origin"
    async with api.client.get(f"{prefix}/{path}", params=parameters) as response:
        assert not [name for name in response.headers if name.startswith("Access-Control")]


async def test_pages_that_may_ask_are_configured(gateways):
    api = await gateways.start("timeseries", http={"cors_origin": "https://grafana\\.example"})
    for origin, allowed in (("https://grafana.example", "https://grafana.example"), ("https://evil.example", None)):
        async with api.client.post("/api/v1/query", data={"query": "1"}, headers={"Origin": origin}) as response:
            assert response.status == 200
            assert response.headers.get("Access-Control-Allow-Origin") == allowed
    async with api.client.get("/api/v1/query?query=(", headers={"Origin": "https://grafana.example"}) as response:
        assert response.status == 400
        assert response.headers["Access-Control-Allow-Origin"] == "https://grafana.example"


async def test_large_answers_have_the_headers_too(api, monkeypatch):
    monkeypatch.setattr("filoray.http.server.responses._INLINE_POINTS_MAX", 0)
    async with api.client.get("/api/v1/query?query=1", headers={"Origin": "http://a"}) as response:
        assert json.loads(await response.read())["status"] == "success"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_nothing_that_is_served_can_be_framed_or_run(api):
    for path in ("/", "/__health", "/metrics", "/api/v1/query?query=1", "/nowhere"):
        async with api.client.get(path) as response:
            policy = response.headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in policy
            assert "default-src 'none'" in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            if path == "/":
                assert "script-src 'sha256-" in policy
                assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


async def test_an_origin_that_no_browser_sends_takes_no_answer_away(gateways):
    api = await gateways.start("timeseries", http={"cors_origin": "https://a"})
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
    writer.write(b"GET /api/v1/query?query=1 HTTP/1.1\r\nHost: localhost\r\nOrigin: https://\x80\r\n\r\n")
    assert b" 200 " in await asyncio.wait_for(reader.readline(), 30)
    writer.close()


async def test_refusals_below_the_application_are_not_guessed_at_either(api):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
    writer.write(b"<script>\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 30)
    assert b" 400 " in answer.splitlines()[0]
    assert b"X-Content-Type-Options: nosniff" in answer
    writer.close()
