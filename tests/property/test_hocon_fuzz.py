"""HOCON texts by dice: nothing but ConfigError comes out, JSON is read alike by both readers, and layout says nothing.

How long texts are made of tokens, and from which seed, ``fuzzing`` says.
"""

from __future__ import annotations

import json
import random

from fuzzing import rounds
from hypothesis import given
from hypothesis import strategies as st

from filoray.cluster.config.hocon import parse_posted
from filoray.cluster.config.parse_budget import ParseBudget, ParseLimits
from filoray.cluster.errors import ConfigError
from filoray.cluster.units import PlainValue

LIMITS = ParseLimits(size_max=20_000, values_max=2_000, depth_max=20, timeout_ms=20_000)
FRAGMENTS = (
    list('{}[]=:,"\\.+$#?!/ \n\t\r')
    + ["+=", "${", "${?", "}", '"""', "//", "include ", "required(", ")", "\\u00e9", "\\ud800", "\ufeff", "\u2028", "é"]
    + ["a", "b", "a.b", '"a.b"', "a.a", "true", "null", "1", "007", "1e3", "5d", "-", "x y", " = ", "\n", "\n", ", "]
    + ["${a}", "${?a}", "${b}", "${a.b}", "${?a.b}", "${a}${a}", "[${a}]", "{ a = ${b} }", "a = ${a}", "a += ${a}"]
)  # fmt: skip


def read(text: str) -> dict[str, PlainValue]:
    return parse_posted(text, ParseBudget("t", LIMITS))


def check(text: str) -> bool:
    """Whether it parsed; any exception but ConfigError fails."""
    try:
        values = read(text)
    except ConfigError:
        return False
    again = json.dumps(values)
    assert json.loads(again) == values
    assert read(again) == values, "what comes of a text says the same as JSON"
    return True


def test_nothing_but_a_config_error_comes_of_any_text() -> None:
    parsed = turns = 0
    for dice in rounds(4000):
        text = "".join(dice.choice(FRAGMENTS) for _ in range(dice.randrange(1, 40)))
        if turns % 2:  # well-formed lines in which references meet
            names = ["a", "b", "c", "a.b", "b.c"]
            values = ["${%s}", "${?%s}", "[${?%s}]", "{ x = ${?%s} }", "[%s]", "%s"]
            text = "\n".join(
                f"{dice.choice(names)} {dice.choice(['=', '=', '+=', ':'])} "
                + " ".join(dice.choice(values) % dice.choice(names)
                           for _ in range(dice.randrange(1, 3)))
                for _ in range(dice.randrange(1, 8))
            )  # fmt: skip
        parsed += check(text)
        turns += 1
    assert parsed > turns // 50


PLAIN_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | PLAIN_TEXTS
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PLAIN_TEXTS, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(PLAIN_TEXTS, VALUES, max_size=5), st.integers(0, 4))
def test_json_is_read_alike_as_json_and_as_hocon(values: dict[str, PlainValue], indent: int) -> None:
    text = json.dumps(values, indent=indent or None, ensure_ascii=indent % 2 == 0)
    as_json = read(text)
    assert as_json == read(f"# not JSON\n{text}")
    assert json.loads(json.dumps(as_json), parse_float=str, parse_int=str) is not None


def rendered(value: PlainValue, dice: random.Random) -> str:
    """The value in one of HOCON's layouts."""
    space = dice.choice(["", " ", "\n", " # x\n", "\n// y\n"])
    comma = dice.choice([",", "\n", "\n,\n", " ,"])
    if isinstance(value, dict):
        fields = [
            f"{json.dumps(key)}{dice.choice(['=', ':', ' = '])}{rendered(item, dice)}" for key, item in value.items()
        ]
        return "{" + space + comma.join(fields) + dice.choice(["", ",", "\n"] if fields else [""]) + space + "}"
    if isinstance(value, list):
        items = comma.join(rendered(item, dice) for item in value)
        return "[" + space + items + dice.choice(["", ","] if value else [""]) + space + "]"
    if isinstance(value, str) and value.isalpha() and value not in ("true", "false", "null") and dice.random() < 0.5:
        return value
    return json.dumps(value, ensure_ascii=dice.random() < 0.5)


@given(st.dictionaries(PLAIN_TEXTS, VALUES, max_size=5), st.integers(0, 2**32))
def test_layout_says_nothing(values: dict[str, PlainValue], seed: int) -> None:
    text = rendered(values, random.Random(seed))
    assert read(text) == read(json.dumps(values))
