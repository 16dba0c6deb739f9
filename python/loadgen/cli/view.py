"""What a view of a run that goes on is told, phase by phase."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from loadgen.session.phase_plan import PhasePlan

if TYPE_CHECKING:
    from loadgen.session.runner import Core


class View:
    """Shows nothing. The other views fill in what is drawn."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Leave the screen as a report expects it."""

    def note(self, text: str) -> None:
        """Have something said the next time that the view is drawn; callable from a signal's handler.

        Args:
            text: One line.
        """

    def begun(self, phase: PhasePlan, directory: Path) -> None:
        """A phase has begun."""

    def going(self, phase: PhasePlan, engine: Core) -> None:
        """A phase is going on."""

    def ended(self, phase: PhasePlan, end: dict[str, Any]) -> None:
        """A phase has ended."""
