"""The experiment's plots, drawn with matplotlib (the extra ``plots``) into PNG files, without a display."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from loadgen.dispatch.experiment.plots import grids, within
from loadgen.dispatch.experiment.plots.axes import STYLE
from loadgen.dispatch.experiment.plots.data import Data
from loadgen.dispatch.experiment.record import KEPT, Record
from loadgen.dispatch.experiment.settings import Settings
from loadgen.dispatch.experiment.summary import Summary
from loadgen.errors import ConfigError, DispatchError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 130
_PLOTS: dict[str, Callable[[Figure, Data], bool]] = {
    "walls": grids.walls,
    "speedups": grids.speedups,
    "calls": within.calls,
    "hardware": within.hardware,
    "phases": within.phases,
    "scaling": grids.scaling,
    "heat": grids.heat,
    "limits": within.limits,
}


def check() -> None:
    """Check that plots can be drawn at all.

    Raises:
        ConfigError: If matplotlib isn't installed.
    """
    if find_spec("matplotlib") is None:
        raise ConfigError("plots need matplotlib, which is not installed", "pip install 'loadgen[plots]'")


def draw(records: Sequence[Record], summary: Summary, settings: Settings, directory: Path) -> list[Path]:
    """Draw every plot that the records have something for.

    Args:
        records: The runs.
        summary: What they sum up to.
        settings: Strategies with their labels and colours.
        directory: Where the files go; it is made if it isn't there.

    Returns:
        The files.

    Raises:
        ConfigError: If matplotlib isn't installed.
        DispatchError: If a file can't be written; the records are kept.
    """
    check()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    present = {row.strategy for row in summary.totals if row.ok}
    data = Data(records, summary, tuple(s for s in settings.strategies if s.name in present))
    drawn = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with rc_context(cast(Any, STYLE)):  # its stub lists every key as a literal
            for name, plot in _PLOTS.items():
                figure = Figure(layout="constrained")
                if plot(figure, data):
                    path = directory / f"{name}.png"
                    figure.savefig(path, dpi=_DPI, facecolor="white")
                    drawn.append(path)
    except (OSError, ValueError) as error:
        raise DispatchError(f"can't draw the plots into {directory}: {error}", KEPT) from None
    return drawn


def names() -> Iterable[str]:
    """Return the plots' names."""
    return _PLOTS.keys()
