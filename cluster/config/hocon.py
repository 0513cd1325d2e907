"""HOCON or JSON text to plain values: JSON's types and no others.

In: text and the name of its place (a file, "source configuration"). Out: nested dicts. Durations and sizes stay the
texts that they are; ``units.py`` reads them where a key wants one. A number is a number only where that gives back the
characters written: ``7``, but ``"007"`` and ``"1.10"``, so that a name may look like a number. What keys mean is left
to ``server_config.py`` and ``dataset.py``.

The reader is our own (``hocon_tokens``, ``hocon_parser``, ``hocon_resolver``) because the texts come from anybody: it
is linear in the text, every step is charged to a budget, and posted text reaches neither files nor the environment.
JSON is read as JSON, with keys that come twice merged as HOCON merges them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from filoray.cluster.config.hocon_parser import Includes, parse, plain_word
from filoray.cluster.config.hocon_resolver import Resolver
from filoray.cluster.config.hocon_tree import Text
from filoray.cluster.config.parse_budget import ParseBudget, ParseLimits
from filoray.cluster.errors import ConfigError
from filoray.cluster.units import PlainValue

_INCLUDES_DEEP_MAX = 16
_ENDINGS = ("", ".conf", ".json")
_BEFORE_JSON = re.compile(r"[ \t\r\n]*\{")


def parse_posted(text: str, budget: ParseBudget) -> dict[str, PlainValue]:
    """Plain values of a text that may be anybody's: no file, no environment, within the budget.

    Raises ConfigError with line and column where the text does not parse, or with the limit that it is over.
    """
    return _parse(text, budget, _NoIncludes(), None)


def parse_file(path: Path, environment: Mapping[str, str]) -> dict[str, PlainValue]:
    """Plain values of an operator's file, with what it includes and substitutes. Raises ConfigError."""
    budget = ParseBudget(str(path), ParseLimits())
    return _parse(_read(path, str(path)), budget, _FileIncludes(path.parent), environment)


def parse_own(text: str, place: str) -> dict[str, PlainValue]:
    """Plain values of a text of ours, which neither includes nor substitutes."""
    return parse_posted(text, ParseBudget(place, ParseLimits()))


def _parse(
    content: str, budget: ParseBudget, includes: Includes, environment: Mapping[str, str] | None
) -> dict[str, PlainValue]:
    budget.check_text(content)
    content = content.removeprefix("\ufeff")
    try:
        values = _parse_json(content)
        if values is None:
            root = parse(Text(content, budget.place), includes, budget)
            values = Resolver(root, environment, budget).resolve()
    except RecursionError:
        raise ConfigError(f"{budget.place}: the configuration is nested too deeply") from None
    budget.check_result(values)
    return values


# ---- JSON


def _parse_json(content: str) -> dict[str, PlainValue] | None:
    """JSON is HOCON too; reading it as what it is costs a hundredth. None: it is none, or one that HOCON explains."""
    if not _BEFORE_JSON.match(content):
        return None
    try:
        value = json.loads(
            content, object_pairs_hook=_merged, parse_int=plain_word, parse_float=plain_word, parse_constant=_refuse
        )
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, PlainValue]", value) if isinstance(value, dict) else None


def _merged(pairs: list[tuple[str, PlainValue]]) -> dict[str, PlainValue]:
    """A key that comes twice: objects merge, else the later one counts, as HOCON has it."""
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    values = {}
    for key, value in pairs:
        earlier = values.get(key)
        if isinstance(earlier, dict) and isinstance(value, dict):
            _merge_into(earlier, value)
        else:
            values[key] = value
    return values


def _merge_into(target: dict[str, PlainValue], values: Mapping[str, PlainValue]) -> None:
    for key, value in values.items():
        earlier = target.get(key)
        if isinstance(earlier, dict) and isinstance(value, dict):
            _merge_into(earlier, value)
        else:
            target[key] = value


def _refuse(word: str) -> PlainValue:
    raise ValueError(f"{word} is no JSON")


# ---- includes


@dataclass(frozen=True, slots=True)
class _NoIncludes:
    def read(self, name: str, place: str, *, is_required: bool) -> tuple[Text, Includes] | None:
        raise ConfigError(f"{place}: include is not allowed here; send the whole text")


@dataclass(frozen=True, slots=True)
class _FileIncludes:
    """Files beside the including one, or by absolute path; a name without ending is also tried with one."""

    directory: Path
    depth: int = 0

    def read(self, name: str, place: str, *, is_required: bool) -> tuple[Text, Includes] | None:
        if self.depth >= _INCLUDES_DEEP_MAX:
            raise ConfigError(f"{place}: files include each other more than {_INCLUDES_DEEP_MAX} deep")
        for ending in _ENDINGS:
            path = self.directory / (name + ending)
            if path.is_file():
                text = Text(_read(path, place), str(path))
                return text, _FileIncludes(path.parent, self.depth + 1)
        if is_required:
            raise ConfigError(f"{place}: the included file {name!r} is not there")
        return None


def _read(path: Path, place: str) -> str:
    limit = ParseLimits().size_max
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise ConfigError(f"{place}: {path} is longer than {limit} bytes")
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
