"""Whatever stands in the headers and files that decide who comes in: an answer, or a refusal that is meant."""

import asyncio
import base64
import contextlib
from pathlib import Path

import bcrypt
from hypothesis import example, given, settings
from hypothesis import strategies as st

from filoray.cluster.errors import ConfigError, Forbidden, Unauthorized
from filoray.http.access.authentication import Authenticator
from filoray.http.access.origin_policy import CorsPolicy, HostPolicy, check_same_origin, host_of
from filoray.http.access.web_config import parse_web_config

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
# As aiohttp gives headers: bytes that are not UTF-8 are surrogates.
headers = st.binary(max_size=60).map(lambda sent: sent.decode("utf-8", "surrogateescape")) | st.text(
    st.sampled_from("localhost127.0.0.1[]:/@\\#?%evil.example \t,ü"), max_size=40
)
POLICY = HostPolicy("0.0.0.0", [".intra.example"], ["box"])
OURS = ("localhost", "box", "intra.example")


@given(headers, st.none() | st.sampled_from(["127.0.0.1", "::1", "fe80::1%eth0", "nonsense"]))
def test_a_host_that_is_let_in_is_one_of_ours(host, local_address):
    with contextlib.suppress(Forbidden):
        POLICY.check(host, local_address)
        name = host_of(host)
        assert name is not None
        assert name in OURS or name.endswith(".intra.example") or name.startswith("127.") or ":" in name


@given(headers | st.none(), headers | st.none(), headers | st.none())
def test_a_page_that_may_change_something_names_the_host_that_it_asks(host, origin, site):
    with contextlib.suppress(Forbidden):
        check_same_origin("http", host, origin, site, "POST /x")
        assert site in (None, "same-origin", "none")
        assert origin is None or origin.partition("://")[2].lower() == host.strip().lower()


@given(headers)
def test_any_origin_gets_headers(origin):
    allowed = CorsPolicy("https://(a|b)\\.example").headers(origin).get("Access-Control-Allow-Origin")
    assert allowed in (None, "https://a.example", "https://b.example")


@given(headers | st.binary(max_size=40).map(lambda pair: "Basic " + base64.b64encode(pair).decode()))
@example("Bearer ")
@example("Basic " + base64.b64encode(b"root:secret").decode()[:-1])
@settings(max_examples=60, deadline=None)
def test_nothing_but_the_password_comes_in(authorization):
    async def ask():
        authenticator = Authenticator(parse_web_config(f"basic_auth_users: {{root: {HASH}}}", "web.yml", Path()))
        with contextlib.suppress(Unauthorized):
            await authenticator.identify(authorization)
            assert base64.b64decode(authorization.split()[1]) == b"root:secret"

    asyncio.run(ask())


words = st.sampled_from(
    ["tls_server_config", "basic_auth_users", "filoray", "users", "tokens", "roles", "name", "sha256", "cert_file",
     "key_file", "headers", "http_server_config", "min_version", "*", "&a", "*a", "!!bool", "!!timestamp", "!!int",
     "!!float",
     "!!set", "!!omap", "!!binary", "!!python/name:os", "{", "}", "[", "]", ":", ": ", ", ", "- ", "\n", "\n  ",
     "? ", "<<: ",
     "'", '"', "#", "|", ">", "~", "true", "1", "1e400", "0x1", "2001-01-01", "TLS12", HASH, "---\n",
     "...\n", "%YAML 9.9\n",
     "\0", "\t", "ü", "\ud800"]
)  # fmt: skip
texts = st.lists(words, max_size=25).map("".join)


@given(texts)
@example("filoray: !!bool x")
@example("filoray: !!timestamp x")
@example("basic_auth_users: &a {b: *a}")
@example("basic_auth_users: &a [*a]")
@example("? [a]\n: b")
@example("filoray: " + "[" * 3000)
@settings(max_examples=400, deadline=None)
def test_any_text_is_a_configuration_or_named_as_none(text):
    with contextlib.suppress(ConfigError):
        parse_web_config(text, "web.yml", Path())
