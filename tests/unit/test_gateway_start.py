"""A gateway that cannot serve at first, with nobody to start it again: Ray restarted it."""

from __future__ import annotations

import dataclasses
import resource
import socket
from types import SimpleNamespace

import pytest
import requests
from client_programs import free_ports
from in_process_gateway import Control, Figures, Queries, Writes
from running_cluster import wait_until

from filoray.cluster.config.server_config import load_server_config
from filoray.cluster.errors import ConfigError, FilorayError
from filoray.http.remote.remote_write import RemoteWriteDecoder
from filoray.http.server import gateway as gateway_module
from filoray.http.server import services as services_module
from filoray.http.server.gateway import Gateway
from filoray.http.server.gateway_services import GatewayServices


@pytest.fixture
def wiring(monkeypatch):
    """In-process services in place of those over Ray; counts those that were made and closed."""
    counts = SimpleNamespace(made=0, closed=0)

    async def make_services(config, *_):
        counts.made += 1
        services = GatewayServices(
            Queries(), Queries(), Writes(), Control("shop"), config, RemoteWriteDecoder(config.write), Figures()
        )

        async def close():
            counts.closed += 1

        return SimpleNamespace(services=services, close=close)

    monkeypatch.setattr(services_module, "make_services", make_services)
    monkeypatch.setattr(gateway_module, "log_to_file", lambda *_: None)
    monkeypatch.setattr(gateway_module, "_START_AGAIN_S", 0.02)
    return counts


def test_it_serves_when_what_was_wrong_is_mended(wiring, tmp_path):
    (port,) = free_ports(1)
    web = tmp_path / "web.yml"
    web.write_text("basic_auth_users: {root: broken}")
    config = load_server_config(None, {"http.web-config-file": str(web), "http.port": str(port)})
    config = dataclasses.replace(config, data_dir=tmp_path)
    gateway = Gateway(0, config)
    with pytest.raises(ConfigError, match="is not a bcrypt hash"):
        gateway.start()
    with pytest.raises(requests.ConnectionError):  # not without asking who comes
        requests.get(f"http://127.0.0.1:{port}/api/v1/cluster", timeout=10)
    web.write_text("")
    assert answer_of(port).json()["data"] == ["shop"]
    gateway.shutdown()
    assert (wiring.made, wiring.closed) == (1, 1)


def test_it_serves_when_its_port_is_free_again(wiring, tmp_path):
    (port,) = free_ports(1)
    config = dataclasses.replace(load_server_config(None, {"http.port": str(port)}), data_dir=tmp_path)
    with socket.create_server(("127.0.0.1", port)):
        gateway = Gateway(0, config)
        with pytest.raises(FilorayError, match=f"HTTP port {port} on 127.0.0.1 is taken"):
            gateway.start()
    assert answer_of(port).json()["data"] == ["shop"]
    gateway.shutdown()
    assert wiring.made == wiring.closed > 1


def answer_of(port: int) -> requests.Response:
    answers: list[requests.Response] = []

    def is_there() -> bool:
        answers.append(requests.get(f"http://127.0.0.1:{port}/api/v1/cluster", timeout=10))
        return True

    wait_until(is_there, 60, "the gateway serves")
    return answers[-1]


def test_it_may_have_as_many_connections_as_the_system_allows(wiring, tmp_path):
    (port,) = free_ports(1)
    config = dataclasses.replace(load_server_config(None, {"http.port": str(port)}), data_dir=tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        gateway = Gateway(0, config)
        gateway.start()
        gateway.shutdown()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, 1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
