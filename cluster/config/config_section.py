"""Typed, checked access to one level of a parsed configuration.

Every getter names the key and the place (file and line where it can be found) in its ConfigError, says what would be
right, and remembers that the key was read; ``finish`` then refuses the keys nobody asked for.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filoray.cluster.errors import ConfigError
from filoray.cluster.units import PlainValue, parse_duration_ms, parse_size_bytes

_T = TypeVar("_T")
UNLIMITED = 2**63 - 1
_PROBLEM_CHARACTERS_MAX = 1000
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{0,30})?(?:[eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """A text that values came from: ``name`` is a path or e.g. "POST body"."""

    name: str
    text: str

    def line_of(self, key: str) -> int | None:
        """The last line that sets the final part of a dotted key, if any."""
        last = re.escape(key.rpartition(".")[2])
        found = list(re.finditer(rf'(?m)(?:^|[\s{{,."]){last}"?\s*(?:[=:{{]|\+=)', self.text))
        return self.text.count("\n", 0, found[-1].end()) + 1 if found else None


class ConfigSection:
    """The keys under ``path`` (dotted, "" at the top) merged from ``sources`` (first wins when naming a place).

    ``directory``: the folder of the configuration, where files that it names are looked up too.
    """

    def __init__(
        self, values: Mapping[str, PlainValue], path: str, sources: Sequence[ConfigSource], directory: Path = Path()
    ) -> None:
        self._values = values
        self._path = path
        self._sources = sources
        self._directory = directory
        self._read: set[str] = set()

    def error(self, key: str, problem: str) -> ConfigError:
        """A ConfigError "PLACE: KEY: PROBLEM"."""
        dotted = self._dotted(key)
        problem = shortened(problem)
        for source in self._sources:
            if (line := source.line_of(dotted)) is not None:
                return ConfigError(f"{source.name}:{line}: {dotted}: {problem}")
        return ConfigError(f"{self._sources[0].name}: {dotted}: {problem}")

    def has(self, key: str) -> bool:
        """Whether the key is there with a value other than null. Counts as read."""
        self._read.add(key)
        return self._values.get(key) is not None

    def raw(self, key: str) -> PlainValue:
        """The value as parsed; raises ConfigError when it is missing or null."""
        self._read.add(key)
        value = self._values.get(key)
        if value is None:
            raise self.error(key, "this key is needed and missing")
        return value

    def section(self, key: str) -> ConfigSection:
        """The nested keys under ``key``, which must be a ``{ … }`` block."""
        value = self.raw(key)
        if not isinstance(value, dict):
            raise self.error(key, f"{value!r} is not a block of keys {{ … }}")
        return ConfigSection(value, self._dotted(key), self._sources, self._directory)

    def text(self, key: str) -> str:
        value = self.raw(key)
        if isinstance(value, list | dict):
            raise self.error(key, f"{value!r} is not a text")
        # true and 5 stand for the characters that they are written with.
        if not (text := str(value).lower() if isinstance(value, bool) else str(value).strip()):
            raise self.error(key, "this text may not be empty")
        return text

    def optional_text(self, key: str) -> str | None:
        """None when the key is missing, null or empty."""
        return self.text(key) if self.has(key) and self._values[key] != "" else None

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, none of them empty; "[]" is allowed."""
        value = self.raw(key)
        if not isinstance(value, list) or any(isinstance(item, bool | list | dict) or item is None for item in value):
            raise self.error(key, f'{value!r} is not a list of texts such as ["a", "b"]')
        texts = tuple(str(item).strip() for item in value)
        if "" in texts:
            raise self.error(key, "a text in this list is empty")
        return texts

    def file(self, key: str, name: str) -> Path:
        """The file that ``key`` names: from the working directory (as FiloDB does), then from the configuration's."""
        found = next((path for path in (Path(name), self._directory / name) if path.is_file()), None)
        if found is None:
            raise self.error(key, f"there is no file {name}")
        return found

    def choice(self, key: str, choices: Sequence[str]) -> str:
        value = self.text(key)
        if value not in choices:
            raise self.error(key, f"{value!r} is not one of {', '.join(choices)}{suggestion(value, choices)}")
        return value

    def boolean(self, key: str) -> bool:
        value = self.raw(key)
        if isinstance(value, bool):
            return value
        known = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
        if (answer := known.get(str(value).lower())) is None:
            raise self.error(key, f"{value!r} is not true or false")
        return answer

    def integer(self, key: str, minimum: int = 0, maximum: int = UNLIMITED) -> int:
        value = self.raw(key)
        try:
            number = _number(value) if isinstance(value, str) else value
            if isinstance(number, float) and number.is_integer():
                number = int(number)
            if isinstance(number, bool) or not isinstance(number, int):
                raise ValueError
        except ValueError:
            raise self.error(key, f"{value!r} is not a whole number") from None
        return self._in_range(key, number, minimum, maximum)

    def duration_ms(self, key: str, minimum: int = 0, maximum: int = UNLIMITED) -> int:
        return self._in_range(key, self._converted(key, parse_duration_ms), minimum, maximum)

    def size_bytes(self, key: str, minimum: int = 0, maximum: int = UNLIMITED) -> int:
        return self._in_range(key, self._converted(key, parse_size_bytes), minimum, maximum)

    def finish(self) -> None:
        """Refuse the first key that no getter asked for, and suggest what may have been meant."""
        for key in self.unread():
            hint = suggestion(key, sorted(self._read)) or f"; known here: {', '.join(sorted(self._read))}"
            raise self.error(key, f"there is no such key{hint}")

    def unread(self) -> tuple[str, ...]:
        """The keys that no getter asked for."""
        return tuple(key for key in self._values if key not in self._read)

    def _dotted(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def _converted(self, key: str, convert: Callable[[PlainValue], _T]) -> _T:
        try:
            return convert(self.raw(key))
        except ValueError as error:
            raise self.error(key, str(error)) from None

    def _in_range(self, key: str, number: int, minimum: int, maximum: int) -> int:
        if not minimum <= number <= maximum:
            bound = f"at least {minimum}" if number < minimum else f"at most {maximum}"
            raise self.error(key, f"{number} is out of range; it must be {bound}")
        return number


def merge(base: Mapping[str, PlainValue], over: Mapping[str, PlainValue]) -> dict[str, PlainValue]:
    """HOCON's merge of objects: nested blocks are merged, anything else in ``over`` replaces."""
    merged = dict(base)
    for key, value in over.items():
        earlier = merged.get(key)
        merged[key] = merge(earlier, value) if isinstance(earlier, dict) and isinstance(value, dict) else value
    return merged


def shortened(problem: str) -> str:
    """Its beginning and its end where it is long: it may quote a value that is anything."""
    if len(problem) <= _PROBLEM_CHARACTERS_MAX:
        return problem
    return f"{problem[: _PROBLEM_CHARACTERS_MAX // 2]} … {problem[-_PROBLEM_CHARACTERS_MAX // 2 :]}"


def suggestion(word: str, known: Sequence[str], likeness: float = 0.6) -> str:
    """The end of a sentence about ``word``, with the known word that is most like it; "" if none is so like it."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=likeness)
    return f"; did you mean {close[0]}?" if close else ""


def _number(text: str) -> int | float:
    """Of what is written with leading zeros, as a fraction or with an exponent too: ``007``, ``4.0``, ``1e3``."""
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        raise ValueError
    return int(text) if text.lstrip("+-").isdigit() else float(text)
