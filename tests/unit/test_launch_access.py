"""What a launch settles about who may come in, and how what it starts goes in itself."""

import asyncio

import bcrypt
import orjson
import pytest
from certificates import write_web_config

from filoray.cluster.config.server_config import load_server_config
from filoray.cluster.errors import FilorayError
from filoray.command import demo
from filoray.command.client_access import client_access
from filoray.command.launch_access import (
    TOKEN_FILE,
    access_environment,
    launcher_access,
    settle_access,
)
from filoray.http.access.web_config import launcher_tokens
from filoray.http.access.web_config_file import WebConfigFile


@pytest.mark.parametrize(
    ("host", "web", "allow_open", "problem"),
    [
        ("127.0.0.1", None, False, None),
        ("::1", None, False, None),
        ("localhost", None, False, None),
        ("0.0.0.0", None, False, "which other machines reach, and nobody is asked who they are"),
        ("192.0.2.7", None, False, "filoray.http.web-config-file"),
        ("box.example.org", None, False, "filoray.http.allow-open = true"),
        ("0.0.0.0", None, True, None),
        ("0.0.0.0", "tls", False, "nobody is asked who they are"),
        ("0.0.0.0", "client certificates", False, None),
        ("0.0.0.0", "users", False, None),
    ],
)
def test_an_open_port_is_refused_at_launch(host, web, allow_open, problem, authority, tmp_path):

    pair = authority.sign("server", "127.0.0.1")
    more = f", client_auth_type: RequireAndVerifyClientCert, client_ca_file: {authority.certificate}"
    users = f"basic_auth_users: {{root: {bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}}}"
    file = tmp_path / "web.yml"
    if web == "tls":
        write_web_config(file, pair)
    elif web == "client certificates":
        write_web_config(file, pair, more)
    else:
        file.write_text(users)
    overrides = {"http.host": host, "http.allow-open": str(allow_open).lower(), "data-dir": str(tmp_path / "data")}
    if web is not None:
        overrides["http.web-config-file"] = str(file)
    config = load_server_config(None, overrides)
    if problem is not None:
        with pytest.raises(FilorayError, match=problem):
            settle_access(config)
        assert not (tmp_path / "data").exists()
        return
    settled = settle_access(config)
    tokens = launcher_tokens(settled.http)
    assert bool(tokens) == (web == "users")
    if web == "users":
        path = tmp_path / "data" / TOKEN_FILE
        assert path.stat().st_mode & 0o777 == 0o600
        first = launcher_access(settled, "http://127.0.0.1:1").token
        assert first == path.read_text()
        settle_access(config)
        assert path.read_text() != first


async def test_what_the_launcher_starts_goes_in_with_its_token(gateways, tmp_path):

    file = tmp_path / "web.yml"
    file.write_text(f"basic_auth_users: {{root: {bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}}}")
    overrides = {"http.web-config-file": str(file), "data-dir": str(tmp_path / "data")}
    config = settle_access(load_server_config(None, overrides))
    api = await gateways.start("timeseries", access=WebConfigFile(file, launcher_tokens(config.http)))
    await asyncio.to_thread(demo.set_up, launcher_access(config, api.url), "timeseries")
    environment = access_environment(config)
    asking = client_access({"url": api.url}, environment)
    await asyncio.to_thread(demo.write_demo, asking, "timeseries", 1, 1, follow=False, quiet=True)
    assert [call[0] for call in api.control.calls] == ["setup"]
    assert len(api.writes.calls) == 1
    assert orjson.dumps(environment).find((tmp_path / "data" / "launch.token").read_bytes()) < 0
