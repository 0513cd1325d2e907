"""Powers and logarithms have the same last bit on every processor, wherever in a query they are computed."""

import math
import random

import numpy as np
import pytest
from promql_samples import instant, load, shown

from filoray.nodes.kernels.query import elementwise

X = load(300, "x 0.00001\ntwo 2\nten 10\nminus_five -5")
_OF_ONE = {
    "exponential": math.exp, "sine": math.sin, "cosine": math.cos, "tangent": math.tan, "arc_sine": math.asin,
    "arc_cosine": math.acos, "arc_tangent": math.atan, "hyperbolic_sine": math.sinh, "hyperbolic_cosine": math.cosh,
    "hyperbolic_tangent": math.tanh, "hyperbolic_arc_sine": math.asinh, "hyperbolic_arc_cosine": math.acosh,
    "hyperbolic_arc_tangent": math.atanh,
}  # fmt: skip
_EDGES = (0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 5e-324, 1e308, -8.0, 1 / 3, 1000.0)


def _numbers(count: int, seed: int) -> list[float]:
    dice = random.Random(seed)
    return [
        *_EDGES,
        *(dice.uniform(-10, 10) for _ in range(count)),
        *(dice.lognormvariate(0, 8) for _ in range(count)),
        *(float(dice.randint(-30, 30)) for _ in range(count)),
    ]


def _as_c(function, *numbers):
    """Python raises where C gives NaN or an infinity; None there."""
    try:
        return function(*numbers)
    except (ValueError, OverflowError):
        return None


def _assert_same_bits(got, expected):
    for one, other in zip(got, expected, strict=True):
        if other is None:
            assert not math.isfinite(one)
        else:
            assert np.float64(one).tobytes() == np.float64(other).tobytes() or (math.isnan(one) and math.isnan(other))


def test_powers_are_those_of_c():
    bases, exponents = _numbers(2_000, 1), _numbers(2_000, 2)[::-1]
    got = elementwise.power(np.array(bases), np.array(exponents))
    _assert_same_bits(got.tolist(), [_as_c(math.pow, *pair) for pair in zip(bases, exponents, strict=True)])


@pytest.mark.parametrize("name", _OF_ONE)
def test_functions_of_one_number_are_those_of_c(name):
    numbers = _numbers(500, 3)
    got = getattr(elementwise, name)(np.array(numbers))
    _assert_same_bits(got.tolist(), [_as_c(_OF_ONE[name], number) for number in numbers])


def test_logarithms_of_round_numbers_are_round():
    assert elementwise.decimal_logarithm(np.array([1000.0, 100.0, 1e5])).tolist() == [3.0, 2.0, 5.0]
    assert elementwise.binary_logarithm(np.array([8.0, 0.5, 2.0**-1074])).tolist() == [3.0, -1.0, -1074.0]
    for logarithm in (
        elementwise.natural_logarithm, elementwise.binary_logarithm, elementwise.decimal_logarithm,
    ):  # fmt: skip
        special = logarithm(np.array([0.0, -0.0, -1.0, math.inf, math.nan, 1.0]))
        assert special[:2].tolist() == [-math.inf, -math.inf]
        assert np.isnan(special[[2, 4]]).all()
        assert special[[3, 5]].tolist() == [math.inf, 0.0]


def test_logarithms_are_good_to_the_last_place_but_one():
    numbers = np.array([number for number in _numbers(2_000, 4) if 0 < number < math.inf])
    for logarithm, plain in (
        (elementwise.natural_logarithm, math.log),
        (elementwise.binary_logarithm, math.log2),
        (elementwise.decimal_logarithm, math.log10),
    ):
        expected = np.array([plain(number) for number in numbers.tolist()])
        assert np.allclose(logarithm(numbers), expected, rtol=4e-15, atol=1e-16)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("10 ^ -5", ["1e-05"]),
        ("2 ^ 0.5", ["1.4142135623730951"]),
        ("x > 10^-5", []),
        ("x == 10^-5", ['{__name__="x"} 1e-05']),
        ("x == on() ten ^ -5", ['{} 1e-05']),
        ("x == on() 10 ^ minus_five", ['{} 1e-05']),
        ("x == on() ten ^ minus_five", ['{} 1e-05']),
        ("x == on() ten ^ scalar(minus_five)", ['{} 1e-05']),
        ("two ^ -1", ["{} 0.5"]),
    ],
)  # fmt: skip
def test_a_power_is_the_same_between_scalars_and_vectors(query, expected):
    assert shown(instant(X, query)) == expected
