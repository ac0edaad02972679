"""Probabilities that are too small for a float, by their logarithms."""

from __future__ import annotations

import math

from scipy.special import betaln, log_ndtr

_STEPS = 10_000
_ROUNDING = 1e-15
_TINY = 1e-300


def log10_two_sided(statistic: float, freedom: int | None) -> float:
    """Give the logarithm of a two-sided p value.

    Parameters
    ----------
    statistic : float
        The t value, or z.
    freedom : int or None
        Degrees of freedom of t; None for z.

    Returns
    -------
    float
        Base 10.

    Notes
    -----
    For t it is the incomplete beta function I_x(freedom / 2, 1 / 2) with
    ``x = freedom / (freedom + t^2)``, by its continued fraction [1]_, which converges where
    ``x < (a + 1) / (a + b + 2)``: for t^2 > 3, and so wherever p is small.

    References
    ----------
    .. [1] NIST Digital Library of Mathematical Functions, 8.17.22.

    Examples
    --------
    >>> round(log10_two_sided(1.959963984540054, None), 6)
    -1.30103
    """
    if freedom is None:
        return float((math.log(2) + log_ndtr(-abs(statistic))) / math.log(10))
    a, b = freedom / 2, 0.5
    square = statistic**2
    x = freedom / (freedom + square)
    # log x and log(1 - x), without cancellation
    front = -a * math.log1p(square / freedom) - b * math.log1p(freedom / square)
    fraction = _continued_fraction(a, b, x)
    return float((front - math.log(a) - betaln(a, b) + math.log(fraction)) / math.log(10))


def _continued_fraction(a: float, b: float, x: float) -> float:
    """Evaluate 1 / (1 + d_1 / (1 + d_2 / (1 + ...))) by Lentz's method."""
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _nonzero(1 + term * d)
            c = _nonzero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < _ROUNDING:
            break
    return value


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
