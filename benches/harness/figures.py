"""The arithmetic of the figures: slopes, spreads, percentiles, the regularity of arrivals."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.errors import BenchError


@dataclass(frozen=True)
class Work:
    """What one run cost, and what it did.

    Args:
        cpu_s: CPU seconds, user and system, of the whole process tree.
        units: Requests or events.
    """

    cpu_s: float
    units: int


def slope_us(short: Work, long: Work) -> float:
    """Return the CPU microseconds per unit between a short and a long run, so that start and end cancel out.

    Args:
        short: The short run.
        long: The long run; it must have done more.

    Raises:
        BenchError: If the long run did not do more than the short one.
    """
    if long.units <= short.units:
        raise BenchError(f"the long run did {long.units:,} units, the short one {short.units:,}: no slope to take")
    return (long.cpu_s - short.cpu_s) / (long.units - short.units) * 1e6


def undisturbed(short: Work, long: Work, again: Callable[[], tuple[Work, Work]]) -> tuple[Work, Work]:
    """Return two runs for a time, of which the long one did more; where it didn't, both are taken again.

    Neighbours had the machine then: they may have it once more, and hardly each time.

    Args:
        short: The short run.
        long: The long run.
        again: Takes both once more; the third time's are returned whatever they did.
    """
    for _ in range(3):
        if long.units > short.units:
            break
        short, long = again()
    return short, long


@dataclass(frozen=True)
class Spread:
    """Repeated measurements of one figure, in the order they were taken."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Make a spread of at least one value."""
        if not values:
            raise BenchError("nothing was measured")
        return cls(tuple(values))

    @property
    def median(self) -> float:
        """The median: what is judged."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        """Say the median, and from where to where the values lie if there are several."""
        if len(self.values) == 1:
            return number(self.median)
        low, high = min(self.values), max(self.values)
        return f"{number(self.median)} ({number(low)}{' to ' if low < 0 else '–'}{number(high)})"


def ratios(ours: Spread, theirs: Spread) -> Spread:
    """Return the ratio of each pair, which neighbours' noise disturbs less than the ratio of the medians."""
    return Spread.of([a / b for a, b in zip(ours.values, theirs.values, strict=True)])


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile: the report's own rule.

    Args:
        values: At least one value, in any order.
        percent: Above 0, at most 100.
    """
    if not values:
        raise BenchError("no values to take a percentile of")
    ordered = sorted(values)
    # Rounded first, so that 99.9 % of 1,000 is the 999th and not, by a last bit, the 1,000th.
    return ordered[max(1, math.ceil(round(percent / 100 * len(ordered), 9))) - 1]


def gap_cv(arrivals_ns: Sequence[int]) -> float:
    """Return the coefficient of variation of the gaps between arrivals: 1 for Poisson, 0 for a constant rate.

    Args:
        arrivals_ns: At least three moments, in any order.
    """
    if len(arrivals_ns) < 3:
        raise BenchError(f"{len(arrivals_ns)} arrivals are too few to judge their gaps")
    gaps = [b - a for a, b in itertools.pairwise(sorted(arrivals_ns))]
    return statistics.pstdev(gaps) / statistics.fmean(gaps)


def off_grid_us(arrivals_ns: Sequence[int], rate: float) -> float:
    """Return how far arrivals of a constant rate lie off their grid, median, in microseconds.

    The grid is laid through the median arrival, so a constant delay on the way doesn't count.

    Args:
        arrivals_ns: At least one moment, in any order.
        rate: Arrivals per second.
    """
    offsets = [moment - n * 1e9 / rate for n, moment in enumerate(sorted(arrivals_ns))]
    middle = statistics.median(offsets)
    return statistics.median(abs(offset - middle) for offset in offsets) / 1e3


def number(value: float) -> str:
    """Write a number with three significant digits, and with thousands separated."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"
