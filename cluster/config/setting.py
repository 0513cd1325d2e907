"""What a setting is: its key, the form of its value, its limits, and the words for what is wrong with one.

Each is declared once, at the field of the frozen dataclass that holds its value:

    timeout_ms: Annotated[int, Duration("timeout", minimum=1)]

``read_settings`` walks the fields of such a class and reads a block of a configuration by them; ``declared_settings``
lists them, so that tests can hold them against ``conf/filoray-defaults.conf``, which has the defaults and the reasons.
A kind of setting that is not here is a class with ``key`` and ``read`` beside what it is for. What a whole block must
fulfil, beyond its single settings, is the ``check`` of its class. Reading one value is left to ``config_section.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol, TypeVar, cast, get_args, get_origin, get_type_hints, runtime_checkable

from filoray.cluster.config.config_section import UNLIMITED, ConfigSection
from filoray.cluster.units import PlainValue

Block = TypeVar("Block")
"""A frozen dataclass whose fields are settings, or blocks of them."""

Problem = Callable[[str], str | None]
"""What is wrong with a text; None for nothing."""


@runtime_checkable
class Setting(Protocol):
    """``read`` raises ConfigError naming key and place."""

    @property
    def key(self) -> str: ...

    def read(self, section: ConfigSection) -> object: ...


@runtime_checkable
class Checked(Protocol):
    """``check`` raises the section's error where settings that are right each for itself do not go together."""

    def check(self, section: ConfigSection) -> None: ...


def _no_problem(text: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Text:
    """``is_optional``: missing, null or empty is ``absent``. ``convert`` makes the value of a text that is right."""

    key: str
    problem: Problem = _no_problem
    convert: Callable[[str], object] = str
    is_optional: bool = False
    absent: str | None = None

    def read(self, section: ConfigSection) -> object:
        text = section.optional_text(self.key) if self.is_optional else section.text(self.key)
        if text is None:
            return self.absent
        if (problem := self.problem(text)) is not None:
            raise section.error(self.key, problem)
        return self.convert(text)


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of texts, each without ``problem``."""

    key: str
    problem: Problem = _no_problem

    def read(self, section: ConfigSection) -> tuple[str, ...]:
        texts = section.texts(self.key)
        for text in texts:
            if (problem := self.problem(text)) is not None:
                raise section.error(self.key, problem)
        return texts


@dataclass(frozen=True, slots=True)
class ExistingFile:
    """Looked up from the working directory, then from the configuration's own folder; absolute. None: not given."""

    key: str

    def read(self, section: ConfigSection) -> Path | None:
        text = section.optional_text(self.key)
        return None if text is None else section.file(self.key, text).resolve()


@dataclass(frozen=True, slots=True)
class Choice:
    key: str
    choices: tuple[str, ...]

    def read(self, section: ConfigSection) -> str:
        return section.choice(self.key, self.choices)


@dataclass(frozen=True, slots=True)
class Flag:
    key: str

    def read(self, section: ConfigSection) -> bool:
        return section.boolean(self.key)


@dataclass(frozen=True, slots=True)
class Integer:
    key: str
    minimum: int = 0
    maximum: int = UNLIMITED

    def read(self, section: ConfigSection) -> int:
        return section.integer(self.key, self.minimum, self.maximum)


@dataclass(frozen=True, slots=True)
class Duration:
    """In milliseconds. ``at_least``: the key of the duration beside it that it may not be below, "" for none."""

    key: str
    minimum: int = 0
    is_optional: bool = False
    at_least: str = ""

    def read(self, section: ConfigSection) -> int | None:
        if self.is_optional and not section.has(self.key):
            return None
        minimum = section.duration_ms(self.at_least) if self.at_least else self.minimum
        return section.duration_ms(self.key, minimum)


@dataclass(frozen=True, slots=True)
class Size:
    """In bytes."""

    key: str
    minimum: int = 0
    maximum: int = UNLIMITED
    is_optional: bool = False

    def read(self, section: ConfigSection) -> int | None:
        if self.is_optional and not section.has(self.key):
            return None
        return section.size_bytes(self.key, self.minimum, self.maximum)


@dataclass(frozen=True, slots=True)
class Nested:
    """A block of settings under ``key``, or, with "" for a key, among those of the block around it."""

    key: str = ""


@dataclass(frozen=True, slots=True)
class Declared:
    """A setting at its place: ``field`` of the class that holds it, ``key`` from the outermost block on."""

    key: str
    field: str
    setting: Setting


def read_settings(kind: type[Block], section: ConfigSection) -> Block:
    """A whole block. Raises ConfigError naming key and place, for a key that nothing declares as well."""
    block = read_known_settings(kind, section)
    section.finish()
    if isinstance(block, Checked):
        block.check(section)
    return block


def read_known_settings(kind: type[Block], section: ConfigSection) -> Block:
    """Those keys of a block that ``kind`` declares; the others, and what must go together, are left to the caller."""
    values: dict[str, object] = {}
    for field, (declared, value_type) in _fields(kind).items():
        if isinstance(declared, Setting):
            values[field] = declared.read(section)
        elif declared.key:
            values[field] = read_settings(value_type, section.section(declared.key))
        else:
            values[field] = read_known_settings(value_type, section)
    return cast("Callable[..., Block]", kind)(**values)


def as_keys(block: object) -> dict[str, PlainValue]:
    """What ``read_settings`` would make ``block`` of, where its settings are texts, numbers and flags: durations in
    milliseconds, sizes in bytes."""
    declared = _fields(type(block))
    return {setting.key: getattr(block, field) for field, (setting, _) in declared.items()}


def declared_settings(kind: type[object], path: str = "") -> Iterator[Declared]:
    """Every setting of a block and of the blocks in it, in the order of the fields."""
    for field, (declared, value_type) in _fields(kind).items():
        if isinstance(declared, Setting):
            yield Declared(path + declared.key, field, declared)
        else:
            yield from declared_settings(value_type, f"{path}{declared.key}." if declared.key else path)


_Fields = Mapping[str, tuple[Setting | Nested, type[object]]]
"""By field what it declares, and the type of its value."""

_KNOWN_FIELDS: dict[type[object], _Fields] = {}


def _fields(kind: type[object]) -> _Fields:
    """Of a field that declares nothing, nothing: it is not configured."""
    if kind not in _KNOWN_FIELDS:
        if not dataclasses.is_dataclass(kind):
            raise TypeError(f"{kind} is no dataclass of settings")
        hints = get_type_hints(kind, include_extras=True)
        declared = {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Annotated}
        _KNOWN_FIELDS[kind] = {name: (setting, value_type) for name, (value_type, setting) in declared.items()}
    return _KNOWN_FIELDS[kind]
