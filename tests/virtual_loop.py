"""An event loop whose clock moves only when nothing is left to do: sleeps take no time, and are exact."""

import asyncio
import selectors
from typing import Any


class _Jump(selectors.SelectSelector):
    """Instead of waiting for a time-out, moves the clock to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "the loop waits for ever: nothing can happen any more"
        self.now_s += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; ``now_ns`` is its clock in nanoseconds."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now_s

    def now_ns(self) -> int:
        return round(self._jump.now_s * 1e9)


def run(main: Any) -> Any:
    """Run ``main(loop)`` on a virtual loop and return what it returns."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.close()
