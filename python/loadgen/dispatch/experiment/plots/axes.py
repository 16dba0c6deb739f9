"""How all plots of an experiment look: their style, axes, intervals and legends."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from loadgen.dispatch.experiment.plots.data import Data
from loadgen.dispatch.experiment.summary import Stats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, _FAINT = "#2b2f36", "#d9dde3"
STYLE = {
    "font.size": 10,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eceff3",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
_ENTRY_IN = 1.6


def scenario_axis(axes: Axes, data: Data) -> None:
    """Lay the scenarios along the bottom, each with its number of calls, and a logarithmic scale up the side."""
    calls = {record.scenario: record.calls for record in data.records}
    axes.set_xticks(range(len(data.scenarios)), [f"{name}\n{calls[name]}" for name in data.scenarios])
    axes.set_xlabel("scenario, and its number of calls")
    axes.grid(visible=False, axis="x")
    axes.margins(x=0.01)
    plain(axes.yaxis)


def whiskers(axes: Axes, x: float, stats: Stats, colour: str = INK) -> None:
    """Draw the 95 % interval of a mean, where there are runs enough for one."""
    if stats.ci95 is None:
        return
    low, high = stats.ci95
    # A logarithmic axis has no place below 0, where few and unequal runs may put an end: it stays at the least run.
    low = low if low > 0 else stats.min
    axes.errorbar(
        x,
        stats.mean,
        [[max(0.0, stats.mean - low)], [max(0.0, high - stats.mean)]],
        fmt="none",
        ecolor=colour,
        elinewidth=0.9,
        capsize=1.8,
    )


def legend(figure: Figure, axes: Axes) -> None:
    """One entry for each label, below the plot, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    columns = min(len(once), max(2, int(figure.get_size_inches()[0] / _ENTRY_IN)))
    figure.legend(list(once.values()), list(once.keys()), loc="outside lower center", ncols=columns)


def below(values: Iterable[float]) -> float:
    """Return a power of ten below all values, for the foot of logarithmic bars."""
    least = min((value for value in values if value > 0), default=1.0)
    return float(10 ** math.floor(math.log10(least * 0.5)))


def plain(axis: Any) -> None:
    """Write a logarithmic axis as people write numbers: 1, 2, 5, 10."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
