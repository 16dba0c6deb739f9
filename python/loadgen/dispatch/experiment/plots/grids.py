"""The plots of whole grids: how long they took with each strategy, and how much faster that is."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from loadgen.dispatch.experiment.plots.axes import INK, below, legend, plain, scenario_axis, whiskers
from loadgen.dispatch.experiment.plots.data import Data

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def walls(figure: Figure, data: Data) -> bool:
    """Bars of the mean wall with its interval, one group a scenario, and what was published."""
    if not data.strategies:
        return False
    figure.set_size_inches(max(6.0, 1.1 * len(data.scenarios) + 2), 4.8)
    axes = figure.add_subplot()
    width = 0.84 / len(data.strategies)
    published = False
    for n, strategy in enumerate(data.strategies):
        for at, scenario in enumerate(data.scenarios):
            row = data.row(scenario, strategy)
            if row is None or row.wall is None:
                continue
            x = at + (n - (len(data.strategies) - 1) / 2) * width
            axes.bar(x, row.wall.mean, width * 0.92, color=strategy.colour, label=strategy.label)
            whiskers(axes, x, row.wall)
            if row.published_s is not None:
                label = "published" if not published else None
                axes.plot(x, row.published_s, "D", ms=4, mfc="white", mec=INK, mew=1, label=label, zorder=4)
                published = True
    axes.set_yscale("log")
    axes.set_ylim(bottom=below(row.wall.min for row in data.summary.rows if row.wall is not None))
    axes.set_ylabel("wall, s (mean, 95 % interval)")
    scenario_axis(axes, data)
    axes.set_title(f"Wall time of a grid · {data.summary.callee}", loc="left")
    legend(figure, axes)
    return True


def speedups(figure: Figure, data: Data) -> bool:
    """Lines of the speed-up over the baseline, scenarios by their number of calls, with the interval as a band."""
    found = [
        (calls, scenario)
        for scenario in data.scenarios
        for calls in [next((r.calls for r in data.records if r.scenario == scenario), 0)]
        if any((row := data.row(scenario, s)) is not None and row.speedup is not None for s in data.others)
    ]
    if not found:
        return False
    order = sorted(found, key=lambda pair: pair[0])
    figure.set_size_inches(max(6.0, 0.62 * len(order) + 3), 4.6)
    axes = figure.add_subplot()
    for n, strategy in enumerate(data.others):
        aside = 0.12 * (n - (len(data.others) - 1) / 2)
        points = [
            (at + aside, row.speedup)
            for at, (_, scenario) in enumerate(order)
            if (row := data.row(scenario, strategy)) is not None and row.speedup is not None
        ]
        label = strategy.label
        axes.plot([x for x, _ in points], [s.mean for _, s in points], "o-", ms=4, color=strategy.colour, label=label)
        for x, speedup in points:
            whiskers(axes, x, speedup, strategy.colour)
    axes.axhline(1, color=INK, lw=0.8, ls=":")
    axes.set_yscale("log")
    plain(axes.yaxis)
    axes.set_ylabel(f"times faster than {data.summary.baseline}")
    axes.set_xticks(range(len(order)), [f"{scenario}\n{calls}" for calls, scenario in order])
    axes.set_xlabel("scenario, and its number of calls")
    axes.set_title("Speed-up, paired by run · mean, 95 % interval", loc="left")
    legend(figure, axes)
    return True


def scaling(figure: Figure, data: Data) -> bool:
    """How the wall grows with the number of calls: the median of all runs of that many, and their span."""
    counts = sorted({record.calls for record in data.records if record.ok})
    if len(counts) < 2:
        return False
    figure.set_size_inches(7, 4.6)
    axes = figure.add_subplot()
    for strategy in data.strategies:
        walls: dict[int, list[float]] = {}
        for record in data.of(strategy):
            walls.setdefault(record.calls, []).append(record.wall_s / record.time_scale)
        xs = sorted(walls)
        medians = [statistics.median(walls[x]) for x in xs]
        axes.plot(xs, medians, "o-", ms=4, color=strategy.colour, label=strategy.label)
        lows, highs = [min(walls[x]) for x in xs], [max(walls[x]) for x in xs]
        axes.fill_between(xs, lows, highs, color=strategy.colour, alpha=0.10, lw=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    plain(axes.yaxis)
    axes.set_xlabel("calls in the grid")
    axes.set_ylabel("wall, s (median; band: least to most)")
    axes.set_title("How the wall grows with the grid", loc="left")
    legend(figure, axes)
    return True


def heat(figure: Figure, data: Data) -> bool:
    """Speed-up of each strategy in each scenario, as a map."""
    rows = [[data.row(scenario, strategy) for strategy in data.others] for scenario in data.scenarios]
    values = [[math.nan if row is None or row.speedup is None else row.speedup.mean for row in line] for line in rows]
    known = [value for line in values for value in line if not math.isnan(value)]
    if not known:
        return False
    from matplotlib.colors import LogNorm

    figure.set_size_inches(1.25 * len(data.others) + 2.6, 0.36 * len(data.scenarios) + 1.7)
    axes = figure.add_subplot()
    norm = LogNorm(min(1.0, *known), max(2.0, *known))
    image = axes.imshow(values, cmap="YlGnBu", norm=norm, aspect="auto")
    for at, line in enumerate(values):
        for n, value in enumerate(line):
            if not math.isnan(value):
                ink = "white" if norm(value) > 0.6 else INK
                axes.text(n, at, f"{value:.1f}", ha="center", va="center", color=ink)
    axes.set_xticks(range(len(data.others)), [strategy.label for strategy in data.others])
    axes.set_yticks(range(len(data.scenarios)), data.scenarios)
    axes.grid(visible=False)
    axes.set_title(f"Times faster than {data.summary.baseline}", loc="left")
    axes.set_ylabel("scenario")
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    plain(bar.ax.yaxis)
    return True
