"""Our own commands as clients of gateways that ask who they are."""

import asyncio
import hashlib
import io
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import bcrypt
import pytest
from certificates import Authority, write_web_config

from filoray.cluster.errors import ConfigError, FilorayError
from filoray.command.cli import main
from filoray.command.client_access import ClientAccess, client_access
from filoray.command.http_client import get_json, send
from filoray.http.access.web_config_file import WebConfigFile


async def test_commands_go_in_with_a_password_a_token_and_an_authority(gateways, authority, tmp_path):
    password = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    pair = authority.sign("server", "127.0.0.1")
    file = write_web_config(tmp_path / "web.yml", pair, users=f"basic_auth_users: {{root: {password}}}")
    api = await gateways.start("shop", access=WebConfigFile(file))

    async def datasets(**access):
        return (await asyncio.to_thread(get_json, ClientAccess(url=api.url, **access), "/api/v1/cluster"))["data"]

    right = {"user": "root", "password": "secret"}
    assert await datasets(**right, ca_file=authority.certificate) == ["shop"]
    assert await datasets(**right, server_certificate=pair.certificate) == ["shop"]
    other = Authority(tmp_path / "theirs").sign("server", "127.0.0.1")
    for wrong in ({}, {"ca_file": other.certificate}, {"server_certificate": other.certificate}):
        with pytest.raises(FilorayError, match=r"has a certificate that is not trusted .*--ca-file"):
            await datasets(**right, **wrong)
    with pytest.raises(FilorayError, match="the user and password, or the token, are not right"):
        await datasets(user="root", password="guess", ca_file=authority.certificate)
    with pytest.raises(FilorayError, match="asks who you are"):
        await datasets(ca_file=authority.certificate)


async def test_commands_show_a_certificate_where_one_is_demanded(gateways, authority, tmp_path):
    more = f", client_auth_type: RequireAndVerifyClientCert, client_ca_file: {authority.certificate}"
    file = write_web_config(tmp_path / "web.yml", authority.sign("server", "127.0.0.1"), more)
    api = await gateways.start("shop", access=WebConfigFile(file))
    ours = authority.sign("ours", "ours.example")

    async def ask(**options):
        access = client_access({"url": api.url, "ca-file": str(authority.certificate), **options}, {})
        return (await asyncio.to_thread(get_json, access, "/api/v1/cluster"))["data"]

    assert await ask(**{"client-certificate": str(ours.certificate), "client-key": str(ours.key)}) == ["shop"]
    with pytest.raises(FilorayError, match="no gateway answers"):
        await ask()
    with pytest.raises(ConfigError, match="no certificate and its key"):
        await ask(**{"client-certificate": str(ours.key), "client-key": str(ours.key)})


def test_a_password_is_sent_to_nobody_else(tmp_path, monkeypatch):
    """urllib follows a redirect with the headers it has: not with this one. Nor does loopback go through a proxy."""

    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, self.headers.get("Authorization")))
            self.send_response(302 if self.path == "/a" else 404)
            self.send_header("Location", f"http://localhost:{server.server_address[1]}/b")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:9")
    try:
        access = ClientAccess(url=f"http://127.0.0.1:{server.server_address[1]}", token="secret")
        assert send(access, "/a", timeout_s=30).status == 404
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert seen == [("/a", "Bearer secret"), ("/b", None)]


def test_options_go_before_the_environment(tmp_path):
    password, token = tmp_path / "password", tmp_path / "token"
    password.write_text("typed\n")
    token.write_text("a token\r\n")

    def access(environment=None, **given):
        names = ("url", "user", "password-file", "token-file", "ca-file", "server-certificate", "client-key")
        options = {name: given.get(name.replace("-", "_")) for name in names}
        return client_access(options, {f"FILORAY_{name}": str(value) for name, value in (environment or {}).items()})

    assert access() == ClientAccess()
    assert access({"URL": "http://a:1", "USER": "bob", "PASSWORD": "p", "CA_FILE": "ca"}) == ClientAccess(
        url="http://a:1", user="bob", password="p", ca_file=tmp_path.__class__("ca")
    )
    assert access({"TOKEN_FILE": token}).token == "a token"
    assert access({"TOKEN": "t", "USER": "bob", "PASSWORD": "p"}) == ClientAccess(token="t")
    typed = access({"TOKEN": "t", "PASSWORD": "p"}, user="al", password_file=str(password))
    assert typed == ClientAccess(user="al", password="typed")
    for environment, given, problem in [
        ({}, {"client_key": "k"}, "--client-certificate and --client-key go together"),
        ({}, {"user": "bob"}, "give a password: --password-file or FILORAY_PASSWORD"),
        ({"PASSWORD": "p"}, {}, "give a user: --user"),
        ({}, {"token_file": str(tmp_path / "none")}, "cannot be read as a token"),
        ({"TOKEN": "a\nb"}, {}, "the token in FILORAY_TOKEN is empty or no single line of text"),
    ]:
        with pytest.raises(ConfigError, match=problem):
            access(environment, **given)


def test_hashes_and_tokens_are_made_for_the_file(capsys, monkeypatch):

    monkeypatch.setattr("sys.stdin", io.StringIO("pässword\n"))
    assert main(["password-hash"]) == 0
    assert bcrypt.checkpw("pässword".encode(), capsys.readouterr().out.strip().encode())
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * 73))
    assert main(["password-hash"]) == 1
    assert "1 to 72 bytes" in capsys.readouterr().err
    assert main(["new-token"]) == 0
    lines = capsys.readouterr().out.splitlines()
    token, digest = (line.split()[1] for line in lines)
    assert hashlib.sha256(token.encode()).hexdigest() == digest
