"""Student's t: how wide the interval of a mean is when few runs were made."""

from __future__ import annotations

import math
from functools import lru_cache

_TINY = 1e-300
_CLOSE = 1e-15
_TERMS = 10_000


@lru_cache(maxsize=256)
def quantile(share: float, freedom: int) -> float:
    """Return the point below which a share of Student's t distribution lies.

    Args:
        share: From 0.5 to below 1; 0.975 for a two-sided 95 % interval.
        freedom: Degrees of freedom, at least 1: one less than the number of runs.

    Source:
        Abramowitz & Stegun, Handbook of Mathematical Functions, 26.7.1: the share beyond ±t is I(n/(n+t²); n/2, 1/2).
    """
    if freedom < 1 or not 0.5 <= share < 1:
        raise ValueError(f"t of share {share} with {freedom} degrees of freedom: 0.5 <= share < 1, 1 <= freedom")
    beyond = 2 * (1 - share)
    low, high = 0.0, 1.0
    while _beyond(high, freedom) > beyond:
        low, high = high, high * 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if _beyond(middle, freedom) > beyond:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beyond(t: float, freedom: int) -> float:
    """Return the share of the distribution beyond ±t."""
    return beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I(x; a, b).

    Args:
        x: From 0 to 1.
        a: Above 0.
        b: Above 0.

    Source:
        Abramowitz & Stegun, 26.5.8 (continued fraction) and 26.5.2 (symmetry), by Lentz's method (Press et al.,
        Numerical Recipes, 3rd ed., section 5.2).
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away(1 + term * d)
            c = _away(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < _CLOSE:
            break
    return value


def _away(value: float) -> float:
    """Keep a divisor away from 0."""
    return value if abs(value) > _TINY else _TINY
