"""``filoray up --set KEY=VALUE``: every key of the configuration from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.errors import ConfigError
from filoray.command import launcher
from filoray.command.cli import main


def configured(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> ServerConfig:
    """What ``filoray up`` with these arguments would start."""
    given: list[launcher.LaunchOptions] = []
    monkeypatch.setattr(launcher, "up", lambda options: given.append(options) or 0)
    assert main(["up", *arguments]) == 0
    return launcher._config(given[0])


def test_keys_are_set_over_the_file_and_the_last_one_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "server.conf"
    path.write_text("filoray { query { timeout = 30s, lookback = 1m }, default-dataset = metrics }")
    config = configured(
        monkeypatch, "--config", str(path), "--set", "query.timeout=10s", "--set", "filoray.http.port = 9090",
        "--set", "default-dataset=null", "--set", "node-count=5", "--set", "node-count=2",
        "--set", "column-store-url=postgresql+psycopg://u:p=w@h:5432/d", "--set", "node.port-base=4552",
        "--set", 'datasets.kafka-file-properties=["ssl.ca.location"]', "--set", "write.max-body-size=16m",
    )  # fmt: skip
    assert (config.query.timeout_ms, config.query.lookback_ms, config.http.port) == (10_000, 60_000, 9090)
    assert (config.default_dataset, config.node_count, config.node.port_base) == (None, 2, 4552)
    assert config.column_store_url == "postgresql+psycopg://u:p=w@h:5432/d"
    assert config.dataset_limits.kafka_file_properties == ("ssl.ca.location",)
    assert config.write.max_body_bytes == 16 << 20


def test_an_option_of_its_own_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(monkeypatch, "--http-port", "9100", "--set", "http.port=9200", "--node-port", "4000")
    assert (config.http.port, config.node.port_base) == (9100, 4000)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("http.prt=1", r"filoray\.http\.prt: there is no such key; did you mean port\?"),
        ("htp.port=1", r"filoray\.htp: there is no such key; did you mean http\?"),
        ("http.port=70000", r"filoray\.http\.port: 70000 is out of range; it must be at most 65535"),
        ("http.port=", r"filoray\.http\.port: '' is not a whole number"),
        ("query.timeout=soon", r"filoray\.query\.timeout: 'soon' is not a duration"),
        ("http=8080", r"filoray\.http: '8080' is not a block of keys"),
        ("http.port.x=1", r"filoray\.http\.port: .* is not a whole number"),
        ("dataset-configs=[a", r"override dataset-configs:1:\d+: cannot be parsed"),
        ("store.durability=proces", "did you mean process"),
    ],
)
def test_a_wrong_key_or_value_is_named(monkeypatch: pytest.MonkeyPatch, setting: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        configured(monkeypatch, "--set", setting)


@pytest.mark.parametrize("setting", ["http.port", "=1", "a..b=1", ".a=1", "a.=1", ""])
def test_what_is_no_setting_is_told_how_one_looks(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["up", "--set", setting])
    assert caught.value.code == 2
    assert "is not KEY=VALUE, such as http.port=9090" in capsys.readouterr().err


def test_a_wrong_setting_ends_the_command_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--set", "http.port=x"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("filoray: override:1: filoray.http.port: 'x' is not a whole number")
    assert "Traceback" not in error
