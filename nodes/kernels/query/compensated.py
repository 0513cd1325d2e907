"""Sums that keep what rounding loses (Kahan's summation as improved by Neumaier), exactly as Prometheus adds.

``add`` is Prometheus's rule to the bit. ``add_finite`` is the same for finite sums without its branches: both find
the exact rounding error of one addition, so they agree bit for bit as long as nothing overflows; after an
overflow ``add_finite`` leaves NaN in the compensation and the caller starts over with ``add``.
Inlined into kernels; nothing here is called from Python code outside of tests.
"""

from __future__ import annotations

import math

from numba import njit


@njit(cache=True, nogil=True)
def add(term: float, total: float, compensation: float) -> tuple[float, float]:
    """total + term, and the compensation that goes with it. An infinite sum has no compensation."""
    new_total = total + term
    if math.isinf(new_total):
        return new_total, 0.0
    if abs(total) >= abs(term):
        return new_total, compensation + ((total - new_total) + term)
    return new_total, compensation + ((term - new_total) + total)


@njit(cache=True, nogil=True)
def add_finite(term: float, total: float, compensation: float) -> tuple[float, float]:
    """As ``add`` while the sum stays finite, without a branch (Knuth's TwoSum)."""
    new_total = total + term
    part = new_total - total
    return new_total, compensation + ((total - (new_total - part)) + (term - part))
