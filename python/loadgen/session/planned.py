"""What the built-in load strategies share: they are values, told to the engine as a load, and have a plan."""

from __future__ import annotations

from typing import Any, ClassVar

from loadgen.session.order import SampleOrder, name_of
from loadgen.session.plan import Plan

GROUP = 16
"""Requests that are due together go out in groups of this size, as in the engine; between them answers are read."""


class Planned:
    """A load that the engine can run by itself, and that an issuer of the user's own can be driven by."""

    fields: ClassVar[tuple[str, ...]]
    max_concurrency: int | None = None
    """At most this many in flight, on top of an open loop."""

    def load(self) -> dict[str, Any]:
        """Return the load as the engine is told it (``Load`` of ``rust/src/schedule/load.rs``)."""
        raise NotImplementedError

    def plan(
        self, seed: int, *, samples: int = 1, order: str | SampleOrder | type[SampleOrder] = "without_replacement"
    ) -> Plan:
        """Return what is sent when.

        Args:
            seed: Seed of arrivals and order.
            samples: How many samples there are.
            order: How they are drawn: a word, or a class of :mod:`loadgen.session.order`.

        Raises:
            ValueError: If there is no sample, or no such order.
        """
        return Plan(self.load(), seed=seed, samples=samples, order=name_of(order))

    def on_complete(self, request: int) -> None:
        """Do nothing: the issuer counts what is in flight."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.fields)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in self.fields)))

    def __repr__(self) -> str:
        given = ((name, getattr(self, name)) for name in self.fields)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given if value is not None)})"
