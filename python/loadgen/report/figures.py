"""Numbers as a person reads them: thousands apart, as many digits as say something, a unit on each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def whole(value: float | None) -> str:
    """Return a whole number with its thousands apart; a dash for none."""
    return "–" if value is None or math.isnan(value) else f"{round(value):,}"


def short(value: float | None) -> str:
    """Return a number with three or four digits that matter; a dash for none."""
    if value is None or math.isnan(value):
        return "–"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}" if size >= 999.5 else f"{value:.1f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return "0" if value == 0 else f"{value:.2f}" if size >= 0.1 else f"{value:.3f}" if size >= 0.001 else f"{value:.1e}"


def time_ms(value: float | None) -> str:
    """Return milliseconds as three digits that matter, with the unit that fits: µs, ms, s, min."""
    if value is None or math.isnan(value):
        return "–"
    number, unit = _fitting(value)
    return f"{_three(number)} {unit}"


def times_ms(values: Sequence[float | None]) -> list[str]:
    """Return milliseconds as they stand below each other at the right: exactly three digits, units in line."""
    known = [None if value is None or math.isnan(value) else _fitting(value) for value in values]
    room = max((len(time[1]) for time in known if time is not None), default=0)
    return ["–" if time is None else f"{_all_three(time[0])} {time[1]:<{room}}" for time in known]


def _fitting(value: float) -> tuple[float, str]:
    """Return milliseconds in the unit that fits, and the unit."""
    for least, factor, unit in ((119_950, 1 / 60_000, "min"), (999.5, 1e-3, "s"), (0.9995, 1, "ms")):
        if abs(value) >= least:
            return value * factor, unit
    return value * 1e3, "µs"


def _all_three(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 99.95 or value == 0 else f"{value:#.3g}"


def _three(value: float) -> str:
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 or value == 0 else f"{value:.3f}".rstrip("0").rstrip(".")


def clock(seconds: float) -> str:
    """Return a time span: ``250 ms``, ``5.1 s``, ``38 s``, ``2 min 05 s``, ``1 h 03 min``."""
    if seconds < 0.95:
        return time_ms(seconds * 1e3)
    if seconds < 10:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole_s = round(seconds)
    if whole_s < 120:
        return f"{whole_s} s"
    if whole_s < 7200:
        return f"{whole_s // 60} min {whole_s % 60:02} s" if whole_s % 60 else f"{whole_s // 60} min"
    return f"{whole_s // 3600} h {whole_s % 3600 // 60:02} min"


def so_far(seconds: float) -> str:
    """Return how long something has gone on, in whole seconds: ``0 s`` within the first one, where a clock tells µs."""
    return clock(int(seconds)) if seconds >= 1 else "0 s"


def share(value: float | None) -> str:
    """Return a share in per cent: ``98.7 %``; never ``100 %`` or ``0 %`` for what only comes close."""
    if value is None or math.isnan(value):
        return "–"
    percent = value * 100
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.1f}".removesuffix(".0") + " %"


def size(count: float) -> str:
    """Return a number of bytes: ``1.1 MB``, by powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("the last unit returns")


def decimals(values: Iterable[float | None]) -> int:
    """Return how many decimals a row of numbers needs so that its smallest one has three digits that matter."""
    found = [abs(value) for value in values if value is not None and not math.isnan(value) and value != 0]
    smallest = min(found, default=1.0)
    return 1 if smallest >= 10 else min(6, 2 - math.floor(math.log10(smallest)))


def many(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun.

    Args:
        count: How many.
        noun: Of what, in the singular.
        plural: Where that isn't the noun with an ``s``.
    """
    return f"{whole(count)} {noun if count == 1 else plural or f'{noun}s'}"
