"""TLS at the edge: what is served, what clients must show, and certificates that change."""

import asyncio
import os
import ssl

import bcrypt
import pytest
from aiohttp import ClientConnectionError, ClientSession, TCPConnector
from certificates import Authority, write_web_config

from filoray.cluster.errors import ConfigError
from filoray.http.access.web_config_file import WebConfigFile


def trusting(authority, pair=None, newest=None):
    context = ssl.create_default_context(cafile=authority.certificate)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    if newest is not None:
        context.maximum_version = newest
    return context


async def served_name(url, context):
    """The name in the certificate that a new connection sees."""
    host, port = url.removeprefix("https://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    names = dict(writer.get_extra_info("peercert")["subjectAltName"])
    writer.close()
    return names["DNS"]


async def test_a_gateway_speaks_tls_and_only_that(gateways, authority, tmp_path):
    file = write_web_config(tmp_path / "web.yml", authority.sign("server", "127.0.0.1", "a.example"))
    api = await gateways.start("shop", access=WebConfigFile(file), trusted=trusting(authority))
    assert api.url.startswith("https://127.0.0.1:")
    assert (await api.get("/api/v1/query?query=1"))[0] == 200
    own = {"Origin": api.url, "Sec-Fetch-Site": "same-origin"}
    assert (await api.ask("DELETE", "/api/v1/cluster/shop", headers=own))[0] == 200
    plain = {"Origin": api.url.replace("https", "http")}
    assert (await api.ask("DELETE", "/api/v1/cluster/shop", headers=plain))[0] == 403
    async with ClientSession() as client:
        with pytest.raises(ClientConnectionError):
            await client.get(api.url.replace("https", "http") + "/__health")
        with pytest.raises(ClientConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.get(api.url + "/__health")


async def test_versions_are_bounded(gateways, authority, tmp_path):
    pair = authority.sign("server", "127.0.0.1")
    file = write_web_config(tmp_path / "web.yml", pair, ", min_version: TLS13, cipher_suites: "
                        "[TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]")  # fmt: skip
    api = await gateways.start("shop", access=WebConfigFile(file), trusted=trusting(authority))
    assert (await api.get("/api/v1/cluster"))[0] == 200
    old = trusting(authority, newest=ssl.TLSVersion.TLSv1_2)
    async with ClientSession(connector=TCPConnector(ssl=old)) as client:
        with pytest.raises(ClientConnectionError):
            await client.get(api.url + "/__health")


async def test_clients_show_certificates_where_the_file_says_so(gateways, authority, tmp_path):
    more = f", client_auth_type: RequireAndVerifyClientCert, client_ca_file: {authority.certificate}"
    more += ", client_allowed_sans: [agent.example]"
    file = write_web_config(tmp_path / "web.yml", authority.sign("server", "127.0.0.1"), more)
    api = await gateways.start(
        "shop", access=WebConfigFile(file), trusted=trusting(authority, authority.sign("agent", "agent.example"))
    )
    assert (await api.get("/api/v1/cluster"))[0] == 200
    stranger = Authority(tmp_path / "theirs").sign("agent", "agent.example")
    for pair in (None, stranger, authority.sign("old", "agent.example", usable=False)):
        async with ClientSession(connector=TCPConnector(ssl=trusting(authority, pair))) as client:
            with pytest.raises((ClientConnectionError, ssl.SSLError)):
                await client.get(api.url + "/__health")
    other = trusting(authority, authority.sign("other", "other.example"))
    async with (
        ClientSession(connector=TCPConnector(ssl=other)) as client,
        client.get(api.url + "/__health") as response,
    ):
        assert response.status == 403
        assert "client_allowed_sans" in (await response.json())["error"]


async def test_certificates_change_while_it_serves(gateways, authority, tmp_path):
    pair = authority.sign("server", "127.0.0.1", "first.example")
    file = write_web_config(tmp_path / "web.yml", pair)
    access = WebConfigFile(file)
    trusted = trusting(authority)
    api = await gateways.start("shop", access=access, trusted=trusted)
    assert await served_name(api.url, trusted) == "first.example"
    # The same files with new content, the certificate first: for a moment it has not its key.
    renewed = authority.sign("renewed", "127.0.0.1", "second.example")
    os.replace(renewed.certificate, pair.certificate)
    access.reload_if_changed()
    assert (access.last_reload_right, await served_name(api.url, trusted)) == (False, "first.example")
    os.replace(renewed.key, pair.key)
    access.reload_if_changed()
    assert (access.last_reload_right, await served_name(api.url, trusted)) == (True, "second.example")
    # Other files.
    write_web_config(file, authority.sign("third", "127.0.0.1", "third.example"))
    access.reload_if_changed()
    assert await served_name(api.url, trusted) == "third.example"
    assert (await api.get("/api/v1/cluster"))[0] == 200
    # TLS is never taken away from a port that has it, nor are the users of the same file put in.
    file.write_text(f"basic_auth_users: {{root: {bcrypt.hashpw(b'x', bcrypt.gensalt(4)).decode()}}}")
    access.reload_if_changed()
    assert (access.last_reload_right, await served_name(api.url, trusted)) == (False, "third.example")


async def test_files_named_before_they_are_there_are_read_when_they_come(authority, tmp_path):
    file = write_web_config(tmp_path / "web.yml", authority.sign("server", "127.0.0.1"))
    access = WebConfigFile(file)
    before = access.loaded.tls
    later = authority.sign("later", "127.0.0.1")
    hidden = later.certificate.rename(tmp_path / "hidden")
    write_web_config(file, later)
    access.reload_if_changed()
    assert (access.last_reload_right, access.loaded.tls) == (False, before)
    hidden.rename(later.certificate)
    access.reload_if_changed()
    assert access.last_reload_right
    assert access.loaded.tls is not before


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda pair: pair.key.unlink(), r"server\.key: cannot be read: No such file"),
        (lambda pair: pair.certificate.write_text("no PEM"), r"server\.crt, .*server\.key: no certificate and its key"),
        (lambda pair: pair.key.write_text(ENCRYPTED_KEY), "no certificate and its key"),
    ],
)
def test_a_wrong_file_at_the_start_is_named(authority, tmp_path, damage, problem):
    pair = authority.sign("server", "127.0.0.1")
    file = write_web_config(tmp_path / "web.yml", pair)
    damage(pair)
    with pytest.raises(ConfigError, match=problem):
        WebConfigFile(file)


ENCRYPTED_KEY = """-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgYlW2Qo5kZ5AICCAAw
-----END ENCRYPTED PRIVATE KEY-----
"""
