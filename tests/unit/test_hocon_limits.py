"""What reading a posted configuration may cost: texts that are small and expand, that are large, deep or endless."""

from __future__ import annotations

import pytest

from filoray.cluster.config.hocon import parse_posted
from filoray.cluster.config.parse_budget import ParseBudget, ParseLimits, ReadingCanceled
from filoray.cluster.errors import ConfigError

SHIPPED = ParseLimits(timeout_ms=600_000)  # this machine may be slow


def doubling(first: str, line: str, count: int = 50) -> str:
    lines = [line.replace("NEXT", f"k{i + 1}").replace("LAST", f"k{i}") for i in range(count)]
    return "\n".join([f"k0 = {first}", *lines])


def often(first: str, count: int = 20) -> str:
    return "\n".join([f"t = {first}", *(f"k{i} = ${{t}}" for i in range(count))])


TOO_MUCH = {
    "texts that double": (doubling("x", "NEXT = ${LAST}${LAST}", 20), "max-config-size"),
    "texts that double, for long": (doubling("x", "NEXT = ${LAST}${LAST}"), "max-config-size"),
    "lists that double": (doubling("[x]", "NEXT = ${LAST} ${LAST}"), "max-config-values"),
    "lists of lists that double": (doubling("[x]", "NEXT = [${LAST}, ${LAST}]"), "max-config-values"),
    "blocks that double": (doubling("{x:1}", "NEXT = { a = ${LAST}, b = ${LAST} }"), "max-config-values"),
    "blocks side by side that double": (doubling("{x:1}", "NEXT = ${LAST} ${LAST}"), "max-config-values"),
    "lists of blocks that double": (doubling("{x:1}", "NEXT = { a = [${LAST}, {b = ${LAST}}] }"), "max-config-"),
    "appended lists that double": (doubling("[x]", "NEXT += ${LAST}\nNEXT += ${LAST}"), "max-config-values"),
    "one text many times": (often("x" * 100_000), "max-config-size"),
    "one list many times": (often("[" + "1," * 9_000 + "]"), "max-config-values"),
    "a long text": (f"a = {'x' * SHIPPED.size_max}", "max-config-size"),
    "a long text of other characters": (f"a = {'é' * (SHIPPED.size_max // 2)}", "max-config-size"),
    "many keys": ("a=1\n" * 100_001, "max-config-values"),
    "many elements": ("a = [" + "1," * 100_001 + "]", "max-config-values"),
    "many words": ("a = " + "x " * 100_001, "max-config-values"),
    "much JSON": ('{"a": [' + "1," * 100_001 + "1]}", "max-config-values"),
    "deep blocks": ("a {" * 10_000, "max-config-depth"),
    "deep lists": ("a = " + "[" * 10_000, "max-config-depth"),
    "a deep key": ("a." * 100_000 + "a = 1", "max-config-depth"),
    "deep JSON": ('{"a":' * 100_000, "max-config-depth"),
    "deep whole JSON": ('{"a":' * 500 + "1" + "}" * 500, "max-config-depth"),
    "a deep list of substitutions": (doubling("[x]", "NEXT = [${LAST}]", 200), "max-config-depth"),
    "a deep block of substitutions": (doubling("{x:1}", "NEXT = { a = ${LAST} }", 200), "max-config-depth"),
    "substitutions of substitutions": ("\n".join(f"k{i} = ${{k{i + 1}}}" for i in range(1000)), "max-config-depth"),
    "self-references of self-references": ("a = ${?a}x\n" * 1000, "max-config-depth"),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_a_text_that_is_or_becomes_too_much_is_refused_by_its_limit(name: str) -> None:
    text, key = TOO_MUCH[name]
    with pytest.raises(ConfigError, match=rf"\(filoray\.datasets\.{key}"):
        parse_posted(text, ParseBudget("t", SHIPPED))


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("\n".join(f"key{i} = value {i}" for i in range(9_000)), SHIPPED),
        ("\n".join(f"a.b{i % 100} {{ c{i} = [${{?gone}}, {i}, x], d += {i} }}" for i in range(4_000)), SHIPPED),
        (doubling("x", "NEXT = ${LAST}${LAST}", 18), SHIPPED),
        ("a += 1\n" * 20_000, SHIPPED),
        ("a = " + "[" * 60 + "]" * 60, SHIPPED),
        (doubling("[x]", "NEXT = [${LAST}]", 60), SHIPPED),
        ("\n".join(f"k{i} = ${{k{i + 1}}}" for i in range(60)) + "\nk60 = x", SHIPPED),
    ],
)
def test_what_is_large_but_within_the_limits_is_read(text: str, limits: ParseLimits) -> None:
    assert parse_posted(text, ParseBudget("t", limits))


def test_reading_ends_at_its_time_limit() -> None:
    text = "\n".join(f"key{i} = value {i}" for i in range(1000))
    with pytest.raises(ConfigError, match=r"it took longer than 0 ms to read \(filoray\.datasets\.config-timeout\)"):
        parse_posted(text, ParseBudget("t", ParseLimits(timeout_ms=0)))


def test_reading_ends_when_nobody_waits() -> None:
    budget = ParseBudget("t", SHIPPED)
    budget.cancel()
    with pytest.raises(ReadingCanceled):
        parse_posted("\n".join(f"key{i} = value {i}" for i in range(1000)), budget)


def test_the_steps_of_reading_grow_as_the_text_does() -> None:
    """Time follows the steps; twice the text may take twice of them and a little, for every shape of text."""
    shapes = [
        lambda n: "\n".join(f"k{i} = v {i} # c" for i in range(n)),
        lambda n: "\n".join(f"a {{ b {{ k{i} = [{i}, x] }} }}" for i in range(n)),
        lambda n: "a = 1\n" + "\n".join(f"k{i} = ${{a}}${{?b}}" for i in range(n)),
        lambda n: "\n".join(f"a += {i}" for i in range(n)),
        lambda n: "x = ${?y}\n" * n,
        lambda n: "a = " + "{ b = 1 } " * n,
    ]
    for shape in shapes:
        steps = []
        for count in (1000, 2000):
            budget = ParseBudget("t", SHIPPED)
            parse_posted(shape(count), budget)
            steps.append(budget.steps)
        assert steps[1] < 2.2 * steps[0], shape(1)


@pytest.mark.parametrize(
    "text",
    [
        "a.b : ${?a}\na.b = ${a.b} { x = ${?a.b} }",
        "c : { x = ${?c} } { x = ${?c} }\nb.c = { x = ${?a} }\nc = { x = ${?c} }\nc : { x = ${?b} } { x = ${?b.c} }",
        "b : ${?b.c}\na.b : ${?b} ${b}\nc = ${?a}\nb : ${a}",
        "c : ${a} [${?a.b}]\na = b.c a.b\nb.c = ${b} [${?b}]\nb : { x = ${?a} } ${?a.b}\na.b += { x = ${?b.c} }",
        "a.b : ${?a}\na.b = ${a.b} { x = 1 }\nc = ${a" + ".b" * 40 + "}",
        "\n".join(f"k{i} = ${{?k{i + 1}}}${{?k{i + 2}}}${{?k0}}" for i in range(30)) + "\nk30 = ${?k0}, k31 = x",
    ],
)
def test_a_small_text_that_goes_in_rings_ends_soon(text: str) -> None:
    budget = ParseBudget("t", SHIPPED)
    try:
        parse_posted(text, budget)
    except ConfigError as error:
        assert "itself" in error.message or "max-config" in error.message  # noqa: PT017  either way will do
    assert budget.steps < 400_000
