"""HOCON or JSON text to plain values: the only place that knows pyhocon.

In: text and the name of its place (a file, "POST body"). Out: nested dicts of JSON's types; durations that pyhocon
recognises come back as text in milliseconds (``"3600000ms"``), so that one reader, ``units.py``, understands all.
What keys mean is left to ``config.py`` and ``dataset.py``.

Two of pyhocon's habits are corrected here:

* ``port = 9092`` followed by ``port = ${?KAFKA_PORT}`` must keep 9092 when the variable is not set (HOCON, "Optional
  substitutions": the field keeps its earlier value). pyhocon 0.3 resolves it to nothing in several orders of keys, so
  unset optional substitutions are taken out before it resolves the others.
* Includes read files and URLs while parsing. Text that came over the network must not have that power.
"""

from __future__ import annotations

import datetime
import json
import os
import re
from pathlib import Path
from typing import cast

import pyhocon
from pyhocon.config_tree import ConfigSubstitution, ConfigTree, ConfigValues, NoneValue
from pyhocon.exceptions import ConfigException, ConfigMissingException
from pyparsing import ParseBaseException

from filoray.cluster.errors import ConfigError
from filoray.cluster.units import PlainValue

MAX_TEXT_BYTES = 1 << 20
"""No source configuration is anywhere near a mebibyte; a parser written for files should not see more."""

_INCLUDE = re.compile(r"\binclude\s*(?:\"|required|url|file|package)", re.IGNORECASE)


def parse_text(text: str, place: str, include_dir: Path | None = None) -> dict[str, PlainValue]:
    """Plain values of a HOCON or JSON text.

    ``include_dir`` is where relative includes are looked up; None (text from the network) forbids includes.
    Raises ConfigError with the line and column when the text does not parse.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        raise ConfigError(f"{place}: the configuration is longer than {MAX_TEXT_BYTES} bytes")
    if not text.strip():
        return {}
    if (plain := _parse_json(text)) is not None:
        return plain
    if include_dir is None and (found := _INCLUDE.search(text)):
        raise ConfigError(f"{place}:{_line(text, found.start())}: include is not allowed here; send the whole text")
    try:
        tree = pyhocon.ConfigFactory.parse_string(text, basedir=str(include_dir or "."), resolve=False)
        if not isinstance(tree, ConfigTree):
            raise ConfigError(f"{place}:1: a configuration is a set of keys and values, not a list")
        _drop_unset_optionals(tree, tree)
        pyhocon.ConfigParser.resolve_substitutions(tree)
    except ParseBaseException as error:
        raise ConfigError(
            f"{place}:{error.lineno}:{error.column}: cannot be parsed: {_near(text, error.loc)}"
        ) from None
    except (ConfigException, OSError) as error:
        raise ConfigError(f"{place}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{place}: the configuration is nested too deeply") from None
    return {_unquote(key): _plain(value, place, key) for key, value in tree.items()}


def _parse_json(text: str) -> dict[str, PlainValue] | None:
    """JSON is HOCON too; reading it as what it is costs a hundredth and treats dots in keys as the writer meant."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, PlainValue]", value) if isinstance(value, dict) else None


def _drop_unset_optionals(root: ConfigTree, tree: ConfigTree) -> None:
    """Give every key whose value is one optional substitution that resolves to nothing its earlier value back."""
    for key in list(tree):
        value = dict.__getitem__(tree, key)
        while isinstance(value, ConfigValues) and _is_unset_optional(root, value):
            value = value.overridden_value
            if value is None:
                del tree[key]
            else:
                dict.__setitem__(tree, key, value)
        if isinstance(value, ConfigTree):
            _drop_unset_optionals(root, value)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, ConfigTree):
                    _drop_unset_optionals(root, item)


def _is_unset_optional(root: ConfigTree, value: ConfigValues) -> bool:
    tokens = value.tokens
    if len(tokens) != 1 or not isinstance(tokens[0], ConfigSubstitution) or not tokens[0].optional:
        return False
    variable = tokens[0].variable
    try:
        return root.get(variable) is value and variable not in os.environ  # a key that only refers to itself
    except ConfigMissingException:
        return variable not in os.environ
    except ConfigException:
        return False


def _plain(value: object, place: str, key: str) -> PlainValue:
    if isinstance(value, ConfigTree | dict):
        return {_unquote(name): _plain(item, place, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, place, key) for item in value]
    if value is None or isinstance(value, NoneValue):
        return None
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, datetime.timedelta):
        return f"{round(value / datetime.timedelta(milliseconds=1))}ms"
    if isinstance(value, str):
        return str(value)
    return _calendar_period(value, place, key)


def _calendar_period(value: object, place: str, key: str) -> str:
    """pyhocon reads periods as dateutil's relativedelta when that is installed; months have no fixed length."""
    parts = {name: getattr(value, name, None) for name in ("days", "hours", "minutes", "seconds", "microseconds")}
    if getattr(value, "months", 0) or getattr(value, "years", 0) or None in parts.values():
        raise ConfigError(f"{place}: {key}: a duration in months or years is not exact; write days or weeks")
    delta = datetime.timedelta(**cast("dict[str, int]", parts))
    return f"{round(delta / datetime.timedelta(milliseconds=1))}ms"


def _unquote(key: str) -> str:
    """pyhocon keeps the quotes of a quoted key."""
    return key[1:-1] if len(key) >= 2 and key[0] == key[-1] == '"' else key


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _near(text: str, offset: int) -> str:
    rest = text[offset : offset + 40].split("\n")[0].strip()
    return f"unexpected {rest!r}" if rest else "unexpected end of line or text"
