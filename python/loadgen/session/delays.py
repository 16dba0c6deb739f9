"""Delays between the starts of an open loop: endless, seeded, and the same numbers that the Rust plan has.

Each function returns an iterator over whole nanoseconds, at least 1. The delays add up to the due times of the plan
with the same load and seed, so that their sum doesn't drift. A constant plan starts at 0, a random one after its first
delay.
"""

from __future__ import annotations

from collections.abc import Iterator

from loadgen import _core
from loadgen.config import values
from loadgen.session.arrival import valid


def constant_delays(rate: float) -> Iterator[int]:
    """Return equal gaps.

    Args:
        rate: Arrivals a second, above 0 and at most 1e9.

    Raises:
        ValueError: If the rate is outside of these bounds.
    """
    return _core.Delays("constant", rate)


def poisson_delays(rate: float, seed: int) -> Iterator[int]:
    """Return the gaps of a Poisson process: exponential with mean ``1e9 / rate``.

    Args:
        rate: Mean arrivals a second, above 0 and at most 1e9.
        seed: The same seed gives the same gaps, here and in the Rust plan.

    Raises:
        ValueError: If the rate is outside of these bounds.

    Source:
        Schroeder, Wierman, Harchol-Balter, "Open versus closed", NSDI 2006.
    """
    return _core.Delays("poisson", rate, seed)


def gamma_delays(rate: float, burstiness: float, seed: int) -> Iterator[int]:
    """Return gamma gaps of mean ``1e9 / rate``; their coefficient of variation is ``1 / sqrt(burstiness)``.

    Args:
        rate: Mean arrivals a second, above 0 and at most 1e9.
        burstiness: The shape: 1 is Poisson, below 1 burstier, above 1 more even.
        seed: The same seed gives the same gaps, here and in the Rust plan.

    Raises:
        ValueError: If the rate is outside of its bounds, or the burstiness not above 0.

    Source:
        Marsaglia and Tsang, "A simple method for generating gamma variables", ACM TOMS 26(3), 2000.
    """
    return _core.Delays("gamma", rate, seed, burstiness=burstiness)


def uniform_delays(low: float | str, high: float | str, seed: int) -> Iterator[int]:
    """Return gaps that are uniform between two durations; their mean is ``(low + high) / 2``.

    Args:
        low: Shortest gap: seconds, or text such as ``"5ms"``; 0 or more.
        high: Longest gap, as ``low``; not below it, and above 0.
        seed: The same seed gives the same gaps, here and in the Rust plan.

    Raises:
        ValueError: If a duration can't be read, or the two are crossed.
    """
    least = valid("low", low, values.duration_or_zero)
    most = valid("high", high, values.duration)
    if least > most:
        raise ValueError(f"uniform delays must satisfy low ({low}) <= high ({high})")
    mean = (least + most) / 2
    return _core.Delays("uniform", 1 / mean, seed, low=least / mean, high=2 - least / mean)
