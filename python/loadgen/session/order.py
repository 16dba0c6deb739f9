"""In which order samples are sent: endless, seeded, and a function of seed and index alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from loadgen import _core


class SampleOrder:
    """An endless order over ``n`` samples: the base of the four that there are.

    ``next(order)`` gives the next sample's index, ``order[i]`` that of request ``i``. It is the order that the engine
    sends in under the same seed, whatever the number of its workers.

    Args:
        n: How many samples there are, at least 1.
        seed: The same seed gives the same order.

    Raises:
        ValueError: If there is no sample.
        TypeError: If it is made itself, rather than one of the four.
    """

    name: ClassVar[str]
    """The order in the engine's words."""

    def __init__(self, n: int, seed: int = 0) -> None:
        if not hasattr(self, "name"):
            raise TypeError(f"{type(self).__name__} is no order itself: make one of {', '.join(_classes())}")
        self.n = n
        self.seed = seed
        self._samples = _core.SampleOrder(self.name, n, seed)

    def __iter__(self) -> Iterator[int]:
        return self._samples

    def __next__(self) -> int:
        return next(self._samples)

    def __getitem__(self, i: int) -> int:
        return self._samples.sample(i)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n}, seed={self.seed})"


class Sequential(SampleOrder):
    """0, 1, 2, … and again; the seed changes nothing."""

    name = "sequential"


class WithoutReplacement(SampleOrder):
    """Every sample once, shuffled, and shuffled anew for each further epoch (Fisher and Yates)."""

    name = "without_replacement"


class WithReplacement(SampleOrder):
    """Each request draws evenly from all samples, whatever was sent before."""

    name = "with_replacement"


class Single(SampleOrder):
    """Always sample 0: every request is the same."""

    name = "single"


ORDERS: dict[str, type[SampleOrder]] = {
    order.name: order for order in (Sequential, WithoutReplacement, WithReplacement, Single)
}


def name_of(order: str | SampleOrder | type[SampleOrder]) -> str:
    """Return an order in the engine's words.

    Args:
        order: The word itself, one of the four classes, or an order made by one.

    Raises:
        ValueError: If there is no such order.
    """
    name = order if isinstance(order, str) else getattr(order, "name", None)
    if name not in ORDERS:
        raise ValueError(f"there is no order {order!r}: take one of {', '.join(ORDERS)}")
    return str(name)


def _classes() -> list[str]:
    return [order.__name__ for order in ORDERS.values()]
