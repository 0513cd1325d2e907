from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from filoray.cluster.config.server_config import default_server_config, load_server_config
from filoray.cluster.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"


def _load(tmp_path: Path, text: str) -> object:
    path = tmp_path / "server.conf"
    path.write_text(text)
    return load_server_config(path)


def test_the_defaults_are_prometheuss_and_filodbs() -> None:
    config = default_server_config()
    assert (config.http.port, config.node.port_base, config.node_count) == (8080, 2552, 3)
    assert (config.query.timeout_ms, config.query.lookback_ms) == (120_000, 300_000)
    assert config.store.max_chunk_time_ms is None
    assert config.namespace == "filoray-filoray"
    assert pickle.loads(pickle.dumps(config)) == config


def test_every_default_has_its_reason() -> None:
    lines = [line.strip() for line in (CONF / "filoray-defaults.conf").read_text().splitlines()]
    for number, line in enumerate(lines):
        if re.match(r"[a-z-]+ = ", line):
            block = next(text for text in reversed(lines[:number]) if not re.match(r"[a-z-]+ = ", text))
            assert block.startswith("#"), f"line {number + 1}: {line} has no sentence above it"


def test_a_file_overrides_single_keys_and_overrides_win(tmp_path: Path) -> None:
    path = tmp_path / "server.conf"
    path.write_text("filoray { http.port = 9000, query { timeout = 30s } }")
    config = load_server_config(path, {"http.port": "9100", "node-count": "5"})
    assert (config.http.port, config.node_count, config.query.timeout_ms) == (9100, 5, 30_000)
    assert config.query.lookback_ms == 300_000


def test_our_server_file_brings_its_dataset() -> None:
    config = load_server_config(CONF / "timeseries-filodb-server.conf")
    assert [dataset.name for dataset in config.datasets] == ["timeseries"]
    assert config.default_dataset == "timeseries"


def test_a_server_file_in_filodbs_words_parses(tmp_path: Path) -> None:
    (tmp_path / "source.conf").write_text("dataset = prometheus\nnum-shards = 4")
    text = """
    filodb { v2-cluster-enabled = false, spread-default = 2, dataset-configs = ["source.conf"]
      quotas { prometheus { defaults = [100, 500] } } }
    akka { remote.netty.tcp { hostname = "127.0.0.1", port = 2552 } }
    kamon { metric.tick-interval = 60s }
    """
    path = tmp_path / "server.conf"
    path.write_text(text)
    config = load_server_config(path)
    assert config.spread_default == 2
    assert [dataset.name for dataset in config.datasets] == ["prometheus"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("filoray {\n  http { prt = 1 }\n}", r"server.conf:2: filoray.http.prt: .* did you mean port\?"),
        ("filoray.nodecount = 3", "filoray.nodecount: there is no such key; did you mean node-count"),
        ("filoray.query.timeout = quickly", "filoray.query.timeout: 'quickly' is not a duration"),
        ("filoray.http.port = 70000", "filoray.http.port: 70000 is out of range; it must be at most 65535"),
        ("filoray.http.port = 65535", "http.port: 65535 leaves no room for 3 ports"),
        ("filoray.http = 8080", "filoray.http: 8080 is not a block of keys"),
        ("filoray.write.max-body-size = 1 parsec", "max-body-size: '1 parsec' has the unknown unit"),
        ("filoray.query.duration-expressions = maybe", "duration-expressions: 'maybe' is not true or false"),
        ("filoray.http.host = null", "filoray.http.host: this key is needed and missing"),
        ("filoray.cluster-name = \"a b\"", "cluster-name: 'a b' may only have"),
        ("filoray.node.heartbeat-timeout = 600ms", "must be at least twice"),
        ("filoray.dataset-configs = [\"nowhere.conf\"]", "there is no file nowhere.conf"),
        ("filoray {", r"server.conf:1:\d+: cannot be parsed"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        _load(tmp_path, text)


def test_a_wrong_override_is_named() -> None:
    with pytest.raises(ConfigError, match=r"override:1: filoray\.http\.port: 'x' is not a whole number"):
        load_server_config(None, {"http.port": "x"})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.conf: cannot be read"):
        load_server_config(tmp_path / "gone.conf")


@pytest.mark.parametrize(
    ("text", "is_encrypted"),
    [
        ("", False),
        ("host = 0.0.0.0", True),
        ("host = 10.0.0.7", True),
        ("encryption = always", True),
        ("encryption = never", False),
    ],
)
def test_the_data_plane_is_encrypted_where_other_machines_reach_it(
    tmp_path: Path, text: str, is_encrypted: bool
) -> None:
    path = tmp_path / "server.conf"
    path.write_text(f"filoray.node {{ {text} }}")
    assert load_server_config(path).node.is_encrypted is is_encrypted


def test_an_open_door_to_other_machines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"node\.encryption: never, with host = '0\.0\.0\.0', would let whoever"):
        _load(tmp_path, "filoray.node { host = 0.0.0.0, encryption = never }")


def test_an_encryption_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'sometimes' is not one of between-machines, always, never"):
        _load(tmp_path, "filoray.node.encryption = sometimes")
