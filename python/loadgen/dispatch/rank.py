"""Percentiles by nearest rank, as the report has them (docs/metrics.md): always a value that was seen."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least so many per cent of them don't exceed.

    Args:
        ordered: The values in order, at least one.
        percent: Up to 100.
    """
    # Rounded first, so that 99.9 % of 1,000 is the 999th and not, by a last bit, the 1,000th.
    return ordered[max(1, math.ceil(round(percent / 100 * len(ordered), 9))) - 1]
