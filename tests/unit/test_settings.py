"""What the code declares of its settings, ``conf/filoray-defaults.conf``, ``--set`` and the documentation agree."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import pytest

from filoray.cluster.config.config_section import ConfigSection, ConfigSource
from filoray.cluster.config.hocon import parse_own
from filoray.cluster.config.parse_budget import ParseLimits
from filoray.cluster.config.server_config import ServerConfig, default_server_config, load_server_config
from filoray.cluster.config.setting import (
    Duration,
    Flag,
    Integer,
    Size,
    as_keys,
    declared_settings,
    read_known_settings,
    read_settings,
)
from filoray.cluster.config.store_config import StoreConfig
from filoray.cluster.errors import ConfigError
from filoray.cluster.units import PlainValue
from filoray.nodes.promql.options import ParserOptions
from filoray.nodes.wire.node_client import ZmqNodeClient
from filoray.nodes.wire.transport import TransportLimits

ROOT = Path(__file__).resolve().parents[2]
DECLARED = {declared.key: declared for declared in declared_settings(ServerConfig)}
BLOCKS = sorted({key.rpartition(".")[0] for key in DECLARED})
ROOMS = ("cluster", "nodes", "http", "scripts")


def flat(values: Mapping[str, PlainValue], path: str = "") -> Iterator[tuple[str, PlainValue]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{key}.")
        else:
            yield path + key, value


SHIPPED = dict(flat(parse_own((ROOT / "conf" / "filoray-defaults.conf").read_text(), "filoray-defaults.conf")))
DEFAULTS = {key.removeprefix("filoray."): value for key, value in SHIPPED.items()}


def test_the_defaults_have_every_key_that_is_declared_and_no_other() -> None:
    assert all(key.startswith("filoray.") for key in SHIPPED)
    assert sorted(DEFAULTS) == sorted(DECLARED)


@pytest.mark.parametrize("key", DECLARED)
def test_a_default_is_written_in_the_unit_that_is_declared(key: str) -> None:
    value, setting = DEFAULTS[key], DECLARED[key].setting
    if isinstance(setting, Duration):
        assert re.fullmatch(r"[0-9]+ ?(ms|s|m|h|hours|days)", str(value)) or (setting.is_optional and value is None)
    elif isinstance(setting, Size):
        assert re.fullmatch(r"[0-9]+ ?[KMG]i?B", str(value))
    elif isinstance(setting, Integer):
        assert type(value) is int
    elif isinstance(setting, Flag):
        assert type(value) is bool


@pytest.mark.parametrize("key", DECLARED)
def test_a_field_is_named_with_its_unit(key: str) -> None:
    declared = DECLARED[key]
    assert declared.field.endswith("_ms") == isinstance(declared.setting, Duration)
    is_size = "_bytes" in declared.field or declared.field == "size_max"
    assert is_size == isinstance(declared.setting, Size)


@pytest.mark.parametrize("key", [key for key, value in DEFAULTS.items() if not isinstance(value, list)])
def test_every_key_can_be_set_on_the_command_line(key: str) -> None:
    value = DEFAULTS[key]
    given = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    assert load_server_config(None, {key: given}) == default_server_config()


@pytest.mark.parametrize("block", BLOCKS)
def test_a_key_that_nothing_declares_is_refused(block: str) -> None:
    key = f"{block}.no-such-thing" if block else "no-such-thing"
    with pytest.raises(ConfigError, match=rf"filoray\.{re.escape(key)}: there is no such key"):
        load_server_config(None, {key: "1"})


@pytest.mark.parametrize(
    "key", [key for key, declared in DECLARED.items() if getattr(declared.setting, "minimum", 0) > 0]
)
def test_what_is_below_a_minimum_is_refused_with_it(key: str) -> None:
    setting = DECLARED[key].setting
    assert isinstance(setting, Integer | Duration | Size)
    with pytest.raises(ConfigError, match=f"0 is out of range; it must be at least {setting.minimum}$"):
        load_server_config(None, {key: "0"})


# What has a hyphen is no module's name; without one, a key may be (test_names_in_texts.py).
_BLOCK = f"(?:{'|'.join(filter(None, BLOCKS))})"
_KEY = re.compile(rf"(?<![\w.-])(?:filoray\.(?:{_BLOCK}\.)?|{_BLOCK}\.)[a-z]+-[a-z-]+\b(?!\.)")
_PROMETHEUSS_FLAGS = {"query.max-concurrency"}
_HOCON = re.compile(r"```hocon\n(.*?)```", re.DOTALL)


def _texts() -> Iterator[tuple[str, str]]:
    for name in ("README.md", "ARCHITECTURE.md", "conf/filoray-defaults.conf", "conf/timeseries-filodb-server.conf"):
        yield name, (ROOT / name).read_text()
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text()


def test_every_key_that_is_named_anywhere_is_declared() -> None:
    named = [(place, found) for place, text in _texts() for found in _KEY.findall(text)]
    assert len(named) > 30
    known = DECLARED.keys() | _PROMETHEUSS_FLAGS
    assert [(place, key) for place, key in named if key.removeprefix("filoray.") not in known] == []


def test_every_key_that_the_documentation_quotes_is_declared() -> None:
    quoted = re.compile(rf"`(?:filoray\.)?({_BLOCK}\.[a-z]+(?:-[a-z]+)*)(?:[`=])")
    named = [key for name in ("README.md", "ARCHITECTURE.md") for key in quoted.findall((ROOT / name).read_text())]
    assert "node.lease" in named
    assert [key for key in named if key not in DECLARED and not key.endswith(".log")] == []


def test_the_readmes_configurations_have_keys_that_are_declared() -> None:
    blocks = _HOCON.findall((ROOT / "README.md").read_text())
    assert blocks
    for block in blocks:
        keys = [key.removeprefix("filoray.") for key, _ in flat(parse_own(block, "README.md"))]
        assert [key for key in keys if key not in DECLARED] == []


def test_what_holds_where_no_configuration_is_given_is_what_the_defaults_say() -> None:
    config = default_server_config()
    assert ParserOptions() == ParserOptions.of_config(config.query)
    assert TransportLimits() == TransportLimits(config.node.max_message_bytes, config.node.max_connections)
    by_client = inspect.signature(ZmqNodeClient).parameters["message_bytes_max"].default
    assert by_client == config.node.max_message_bytes
    assert dataclasses.replace(ParseLimits(), size_max=config.dataset_limits.reading.size_max) == (
        config.dataset_limits.reading
    ), "but for the size, as files are the operator's own"


def test_settings_written_as_keys_read_back() -> None:
    store = dataclasses.replace(default_server_config().store, max_chunk_time_ms=7_200_000, max_future_ms=None)
    section = ConfigSection(as_keys(store), "store", [ConfigSource("keys", "")])
    assert read_settings(StoreConfig, section) == store


@dataclasses.dataclass(frozen=True)
class _Pair:
    low: Annotated[int, Integer("low", minimum=1)]
    high: Annotated[int, Integer("high", maximum=9)]

    def check(self, section: ConfigSection) -> None:
        if self.low > self.high:
            raise section.error("low", "it is above high")


def _section(values: Mapping[str, PlainValue]) -> ConfigSection:
    return ConfigSection(values, "pair", [ConfigSource("text", "")])


def test_settings_that_do_not_go_together_are_refused_by_their_block() -> None:
    assert read_settings(_Pair, _section({"low": 2, "high": "9"})) == _Pair(2, 9)
    with pytest.raises(ConfigError, match=r"text: pair\.low: it is above high"):
        read_settings(_Pair, _section({"low": 3, "high": 2}))


def test_keys_of_others_are_left_where_that_is_wanted() -> None:
    section = _section({"low": 1, "high": 2, "other": None, "another": 1})
    assert read_known_settings(_Pair, section) == _Pair(1, 2)
    assert section.unread() == ("other", "another")
    with pytest.raises(ConfigError, match=r"pair\.other: there is no such key; known here: high, low"):
        section.finish()


def test_a_class_without_fields_is_no_block() -> None:
    with pytest.raises(TypeError, match="is no dataclass of settings"):
        list(declared_settings(int))
