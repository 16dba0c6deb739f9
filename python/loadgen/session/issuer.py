"""What a strategy issues through: the one door between a load and whoever sends its requests."""

from __future__ import annotations

from typing import Protocol


class Issuer(Protocol):
    """A phase, as its strategy sees it. All times are nanoseconds of one monotonic clock."""

    @property
    def in_flight(self) -> int:
        """Requests issued and not completed, those of an earlier phase that still occupy a slot included."""

    @property
    def seed(self) -> int:
        """The phase's seed: whatever a strategy draws comes from it."""

    @property
    def start_ns(self) -> int:
        """When the phase started."""

    @property
    def stopped(self) -> bool:
        """Whether the phase takes no more requests."""

    def now_ns(self) -> int:
        """Return the time."""

    def issue(self, sample: int | None = None, planned_ns: int | None = None) -> int | None:
        """Send a request now.

        Args:
            sample: Index of its sample; ``None`` takes the next of the phase's order.
            planned_ns: When it should have been sent; ``None`` is now.

        Returns:
            The request's id, or ``None`` where the phase takes no more: a limit is reached, or it was stopped.
        """

    async def until(self, ns: int) -> bool:
        """Wait for a time; at once where it has passed. ``False`` where the phase was stopped meanwhile."""

    async def completed(self) -> int | None:
        """Wait for a completion and return its request's id; ``None`` where the phase is stopped and none can come.

        It returns whenever ``in_flight`` has gone down since the last call, whoever's request that was.
        """
