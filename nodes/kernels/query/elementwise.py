"""Powers, logarithms and the like of single numbers, the same to the last bit on every processor.

numpy picks an implementation by the processor's vector registers, and these differ in the last bit: ``10 ^ -5`` would
be 0.00001 on one machine and less on the next. Here a function is C's (``math.pow`` and the like), one number after
the other; the three logarithms are Prometheus's own formulas (Go's math.Log, Log2 and Log10), of plain arithmetic
only, and agree with it to the bit. In the others Prometheus's last bit differs from C's for one number in five or so.

Each takes arrays that broadcast, and returns a new float64 array.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numba import njit, types
from numba.extending import register_jitable

from filoray.nodes.kernels.arrays import Floats, floats
from filoray.nodes.kernels.query.signatures import FLOATS, KERNEL_OPTIONS, OUT_FLOATS

# As Go's compiler rounds these constants: once, at the end.
_INVERSE_LN2 = 1.44269504088896340735992468100189214
_INVERSE_LN10 = 0.434294481903251827651128918916605082
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
_HALF_SQRT2 = 1.41421356237309504880168872420969807856967187537694807317667974 / 2.0


# Not kernels themselves: numba finds no kernel in its cache that has closed over another.
@register_jitable(error_model="numpy")
def _log(x: float) -> float:
    """FreeBSD's e_log.c, which Go's math.Log is."""
    if math.isnan(x) or x == math.inf:
        return x
    if x < 0.0:
        return math.nan
    if x == 0.0:
        return -math.inf
    fraction, exponent = math.frexp(x)
    if fraction < _HALF_SQRT2:
        fraction *= 2.0
        exponent -= 1
    f = fraction - 1.0
    k = float(exponent)
    s = f / (2.0 + f)
    s2 = s * s
    s4 = s2 * s2
    odd = s2 * (
        6.666666666666735130e-01
        + s4 * (2.857142874366239149e-01 + s4 * (1.818357216161805012e-01 + s4 * 1.479819860511658591e-01))
    )
    even = s4 * (3.999999999940941908e-01 + s4 * (2.222219843214978396e-01 + s4 * 1.531383769920937332e-01))
    rest = odd + even
    half_square = 0.5 * f * f
    return k * _LN2_HIGH - ((half_square - (s * (half_square + rest) + k * _LN2_LOW)) - f)


@register_jitable(error_model="numpy")
def _log2(x: float) -> float:
    fraction, exponent = math.frexp(x)
    if fraction == 0.5:
        return float(exponent - 1)
    return _log(fraction) * _INVERSE_LN2 + float(exponent)


@register_jitable(error_model="numpy")
def _log10(x: float) -> float:
    return _log(x) * _INVERSE_LN10


def _of_one(function: Callable[[float], float]) -> Callable[[Floats], Floats]:
    @njit(types.void(FLOATS, OUT_FLOATS), **KERNEL_OPTIONS)
    def kernel(values: Floats, out: Floats) -> None:
        for i in range(values.shape[0]):
            out[i] = function(values[i])

    def apply(values: Floats) -> Floats:
        out = np.empty(values.size)
        kernel(floats(values).reshape(-1), out)
        return out.reshape(values.shape)

    return apply


def _of_two(function: Callable[[float, float], float]) -> Callable[[Floats, Floats], Floats]:
    @njit(types.void(FLOATS, FLOATS, OUT_FLOATS), **KERNEL_OPTIONS)
    def kernel(left: Floats, right: Floats, out: Floats) -> None:
        for i in range(left.shape[0]):
            out[i] = function(left[i], right[i])

    def apply(left: Floats, right: Floats) -> Floats:
        left, right = np.broadcast_arrays(left, right)
        out = np.empty(left.size)
        kernel(floats(left).reshape(-1), floats(right).reshape(-1), out)
        return out.reshape(left.shape)

    return apply


power = _of_two(math.pow)
arc_tangent_of_two = _of_two(math.atan2)

natural_logarithm = _of_one(_log)
binary_logarithm = _of_one(_log2)
decimal_logarithm = _of_one(_log10)
exponential = _of_one(math.exp)
sine = _of_one(math.sin)
cosine = _of_one(math.cos)
tangent = _of_one(math.tan)
arc_sine = _of_one(math.asin)
arc_cosine = _of_one(math.acos)
arc_tangent = _of_one(math.atan)
hyperbolic_sine = _of_one(math.sinh)
hyperbolic_cosine = _of_one(math.cosh)
hyperbolic_tangent = _of_one(math.tanh)
hyperbolic_arc_sine = _of_one(math.asinh)
hyperbolic_arc_cosine = _of_one(math.acosh)
hyperbolic_arc_tangent = _of_one(math.atanh)
