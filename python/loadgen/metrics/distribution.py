"""Histograms as other programs have them: HDR's V2 format, taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import msgspec

from loadgen import _core


class Distribution(msgspec.Struct, frozen=True):
    """How values are distributed, to so many digits.

    Args:
        low: The least value that it tells apart from 0.
        high: The greatest that it can hold.
        digits: Significant decimal digits.
        count: How many values it holds.
        counts: Each occupied bucket: its greatest value, and how many values fell into it; ascending.
    """

    low: int
    high: int
    digits: int
    count: int
    counts: list[tuple[int, int]]

    def at_most(self, bounds: Sequence[float]) -> list[int]:
        """Return how many values are at most each bound. A bucket counts where its least value does.

        Args:
            bounds: Ascending, in the values' unit.
        """
        least = [self._least(highest) for highest, _ in self.counts]
        sums = list(accumulate((n for _, n in self.counts), initial=0))
        found, at = [], 0
        for bound in bounds:
            while at < len(least) and least[at] <= bound:
                at += 1
            found.append(sums[at])
        return found

    def _least(self, value: int) -> int:
        """Return the least value of the bucket that a value is in. Source: HdrHistogram's index rule."""
        unit = max(1, self.low).bit_length() - 1
        # As many sub-buckets as tell `digits` digits apart everywhere: the power of 2 at or above 2 * 10**digits.
        width: int = (2 * 10**self.digits - 1).bit_length()
        shift = max(unit, value.bit_length() - width)
        return value >> shift << shift


_decode = msgspec.json.Decoder(Distribution).decode


def read_hdr(data: bytes) -> Distribution:
    """Take a histogram apart that this or another program wrote in HDR's V2 format, compressed or not.

    Args:
        data: Its bytes; where a program gives them as base64 text, decoded.

    Raises:
        ValueError: If it is none.
    """
    return _decode(_core.read_hdr(data))
