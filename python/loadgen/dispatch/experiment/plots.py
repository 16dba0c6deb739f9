"""The experiment's plots, drawn with matplotlib (the extra ``plots``) into PNG files, without a display."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from loadgen.dispatch.experiment.record import KEPT, Record
from loadgen.dispatch.experiment.settings import Settings, Strategy
from loadgen.dispatch.experiment.summary import CLAIM_S, Row, Stats, Summary
from loadgen.errors import ConfigError, DispatchError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _FAINT = "#2b2f36", "#d9dde3"
_STYLE = {
    "font.size": 10,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eceff3",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}
_DPI = 130
_ENTRY_IN = 1.6
_CALL_PHASES = {
    "queued": ("queued", "#cfd6df"),
    "limiter": ("waiting for the limit", "#9fb3c8"),
    "rate": ("waiting for the rate", "#6f8fb3"),
    "backoff": ("backing off", "#e0a02f"),
    "in_call": ("in the call", "#1f9e78"),
    "hedge": ("with a copy under way", "#c8553d"),
}
_WALL_PHASES = {
    "first_pass": ("until the last call began", "#5b8fd6"),
    "retries": ("until the last retry began", "#e0a02f"),
    "tail": ("nothing left to start", "#c8553d"),
}


class _Data(msgspec.Struct, frozen=True):
    """What all plots draw from.

    Args:
        records: The runs.
        summary: What they sum up to.
        strategies: Those that have runs, in the settings' order.
    """

    records: Sequence[Record]
    summary: Summary
    strategies: tuple[Strategy, ...]

    @property
    def scenarios(self) -> list[str]:
        """Those that have runs, in the settings' order."""
        return list(dict.fromkeys(row.scenario for row in self.summary.rows if row.scenario is not None))

    @property
    def others(self) -> tuple[Strategy, ...]:
        """All but the baseline."""
        return tuple(strategy for strategy in self.strategies if strategy.name != self.summary.baseline)

    def row(self, scenario: str, strategy: Strategy) -> Row | None:
        """Return a strategy's row in a scenario."""
        found = (row for row in self.summary.rows if (row.scenario, row.strategy) == (scenario, strategy.name))
        return next(found, None)

    def of(self, strategy: Strategy) -> Iterator[Record]:
        """Yield a strategy's good runs."""
        return (record for record in self.records if record.ok and record.strategy == strategy.name)


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
    data = _Data(records, summary, tuple(s for s in settings.strategies if s.name in present))
    drawn = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with rc_context(cast(Any, _STYLE)):  # its stub lists every key as a literal
            for name, plot in _PLOTS.items():
                figure = Figure(layout="constrained")
                if plot(figure, data):
                    path = directory / f"{name}.png"
                    figure.savefig(path, dpi=_DPI, facecolor="white")
                    drawn.append(path)
    except (OSError, ValueError) as error:
        raise DispatchError(f"can't draw the plots into {directory}: {error}", KEPT) from None
    return drawn


def _walls(figure: Figure, data: _Data) -> bool:
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
            _whiskers(axes, x, row.wall)
            if row.published_s is not None:
                label = "published" if not published else None
                axes.plot(x, row.published_s, "D", ms=4, mfc="white", mec=_INK, mew=1, label=label, zorder=4)
                published = True
    axes.set_yscale("log")
    axes.set_ylim(bottom=_below(row.wall.min for row in data.summary.rows if row.wall is not None))
    axes.set_ylabel("wall, s (mean, 95 % interval)")
    _scenario_axis(axes, data)
    axes.set_title(f"Wall time of a grid · {data.summary.callee}", loc="left")
    _legend(figure, axes)
    return True


def _whiskers(axes: Axes, x: float, stats: Stats, colour: str = _INK) -> None:
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


def _speedups(figure: Figure, data: _Data) -> bool:
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
            _whiskers(axes, x, speedup, strategy.colour)
    axes.axhline(1, color=_INK, lw=0.8, ls=":")
    axes.set_yscale("log")
    _plain(axes.yaxis)
    axes.set_ylabel(f"times faster than {data.summary.baseline}")
    axes.set_xticks(range(len(order)), [f"{scenario}\n{calls}" for calls, scenario in order])
    axes.set_xlabel("scenario, and its number of calls")
    axes.set_title("Speed-up, paired by run · mean, 95 % interval", loc="left")
    _legend(figure, axes)
    return True


def _calls(figure: Figure, data: _Data) -> bool:
    """Box plots of the single calls, beside the claim about them."""
    seconds = [
        [one / record.time_scale for record in data.of(strategy) for one in record.call_s if one is not None]
        for strategy in data.strategies
    ]
    if not any(seconds):
        return False
    figure.set_size_inches(7, 0.62 * len(seconds) + 1.6)
    axes = figure.add_subplot()
    boxes = axes.boxplot(
        seconds,
        orientation="horizontal",
        whis=(1, 99),
        widths=0.55,
        patch_artist=True,
        showfliers=False,
        medianprops={"color": _INK},
    )
    for box, strategy in zip(boxes["boxes"], data.strategies, strict=True):
        box.set(facecolor=strategy.colour, edgecolor=_INK, linewidth=0.8)
    for at, strategy in enumerate(data.strategies, start=1):
        row = next(row for row in data.summary.totals if row.strategy == strategy.name)
        if row.per_call is not None:
            axes.plot(row.per_call.p95, at, "|", ms=16, mew=2, color=_INK, label="p95" if at == 1 else None)
    axes.axvline(CLAIM_S, color="#b3261e", lw=1, ls="--", label=f"claimed p95 with hedging, {CLAIM_S:g} s")
    axes.set_xscale("log")
    _plain(axes.xaxis)
    axes.set_yticks(range(1, len(seconds) + 1), [strategy.label for strategy in data.strategies])
    axes.invert_yaxis()
    axes.set_xlabel("seconds of one call · box 25–75 %, whiskers 1–99 %")
    axes.set_title("Single calls", loc="left")
    _legend(figure, axes)
    return True


def _hardware(figure: Figure, data: _Data) -> bool:
    """What the callee's process tree used: mean as a bar, the highest sample as a mark."""
    known = {
        strategy: [r.hardware for r in data.of(strategy) if r.hardware is not None] for strategy in data.strategies
    }
    if not any(known.values()):
        return False
    figure.set_size_inches(10, 3.4)
    for panel, (name, title, scale) in enumerate(
        (("cpu", "cores busy", 1.0), ("rss", "resident memory, MB", 1e6), ("threads", "threads", 1.0)), start=1
    ):
        axes = figure.add_subplot(1, 3, panel)
        for at, (strategy, found) in enumerate(known.items()):
            if found:
                used = [getattr(one, name) for one in found]
                axes.bar(at, statistics.fmean(one.mean for one in used) / scale, 0.62, color=strategy.colour)
                axes.plot(at, max(one.max for one in used) / scale, "_", ms=16, mew=1.6, color=_INK)
        axes.set_xticks(range(len(known)), [strategy.label for strategy in known], rotation=30, ha="right")
        axes.grid(visible=False, axis="x")
        axes.set_title(title, loc="left")
    figure.suptitle("The callee's processes · mean of the samples, dash at the highest", x=0.01, ha="left")
    return True


def _phases(figure: Figure, data: _Data) -> bool:
    """Where the time went, of an average call and of an average wall."""
    rows = [
        (strategy, row)
        for strategy in data.strategies
        for row in data.summary.totals
        if row.strategy == strategy.name and row.phases is not None and row.calls is not None
    ]
    if not rows:
        return False
    figure.set_size_inches(11, 0.5 * len(rows) + 2.2)
    for panel, (phases, title) in enumerate(
        ((_CALL_PHASES, "an average call"), (_WALL_PHASES, "an average wall")), start=1
    ):
        axes = figure.add_subplot(1, 2, panel)
        for at, (_, row) in enumerate(rows):
            assert row.phases is not None
            assert row.calls is not None
            divisor = row.calls.mean if phases is _CALL_PHASES else 1.0
            left = 0.0
            values = {name: getattr(row.phases, name) / divisor for name in phases}
            whole = sum(values.values()) or 1.0
            for name, (label, colour) in phases.items():
                axes.barh(at, values[name] / whole, 0.62, left=left, color=colour, label=label if at == 0 else None)
                left += values[name] / whole
            axes.text(1.02, at, f"{whole:.3g} s", va="center")
        axes.set_yticks(range(len(rows)), [strategy.label for strategy, _ in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.16)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.grid(visible=False)
        axes.set_title(f"Where the time went: {title}", loc="left")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    return True


def _scaling(figure: Figure, data: _Data) -> bool:
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
    _plain(axes.yaxis)
    axes.set_xlabel("calls in the grid")
    axes.set_ylabel("wall, s (median; band: least to most)")
    axes.set_title("How the wall grows with the grid", loc="left")
    _legend(figure, axes)
    return True


def _heat(figure: Figure, data: _Data) -> bool:
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
                ink = "white" if norm(value) > 0.6 else _INK
                axes.text(n, at, f"{value:.1f}", ha="center", va="center", color=ink)
    axes.set_xticks(range(len(data.others)), [strategy.label for strategy in data.others])
    axes.set_yticks(range(len(data.scenarios)), data.scenarios)
    axes.grid(visible=False)
    axes.set_title(f"Times faster than {data.summary.baseline}", loc="left")
    axes.set_ylabel("scenario")
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    _plain(bar.ax.yaxis)
    return True


def _limits(figure: Figure, data: _Data) -> bool:
    """How the concurrency limit moved in the first run of the largest grid."""
    largest = max((record.calls for record in data.records if record.limits), default=0)
    chosen = [
        (strategy, record)
        for strategy in data.strategies
        for record in sorted(data.of(strategy), key=lambda r: (r.run, r.scenario))
        if record.calls == largest and record.limits
    ]
    first = {strategy.name: (strategy, record) for strategy, record in reversed(chosen)}
    if not first:
        return False
    from matplotlib.ticker import NullLocator

    figure.set_size_inches(8, 3.8)
    axes = figure.add_subplot()
    for strategy in data.strategies:
        if strategy.name not in first:
            continue
        record = first[strategy.name][1]
        scale = record.time_scale
        times = [at / scale for at, _ in record.limits] + [record.wall_s / scale]
        limits = [limit for _, limit in record.limits]
        axes.step(times, [*limits, limits[-1]], where="post", color=strategy.colour, label=strategy.label, lw=1.8)
        axes.plot(times[-1], limits[-1], "o", ms=5, color=strategy.colour)
    last = max(record.wall_s / record.time_scale for _, record in first.values())
    ticks = [0.0, *(m * 10.0**e for e in range(6) for m in (1, 2, 5) if m * 10.0**e <= last * 1.5)]
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("seconds")
    axes.set_ylabel("calls in flight at most")
    axes.set_title(f"The concurrency limit · {largest} calls, one run, the dot is its end", loc="left")
    _legend(figure, axes)
    return True


_PLOTS: dict[str, Callable[[Figure, _Data], bool]] = {
    "walls": _walls,
    "speedups": _speedups,
    "calls": _calls,
    "hardware": _hardware,
    "phases": _phases,
    "scaling": _scaling,
    "heat": _heat,
    "limits": _limits,
}


def _scenario_axis(axes: Axes, data: _Data) -> None:
    calls = {record.scenario: record.calls for record in data.records}
    axes.set_xticks(range(len(data.scenarios)), [f"{name}\n{calls[name]}" for name in data.scenarios])
    axes.set_xlabel("scenario, and its number of calls")
    axes.grid(visible=False, axis="x")
    axes.margins(x=0.01)
    _plain(axes.yaxis)


def _legend(figure: Figure, axes: Axes) -> None:
    """One entry for each label, below the plot, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    columns = min(len(once), max(2, int(figure.get_size_inches()[0] / _ENTRY_IN)))
    figure.legend(list(once.values()), list(once.keys()), loc="outside lower center", ncols=columns)


def _below(values: Iterable[float]) -> float:
    """Return a power of ten below all values, for the foot of logarithmic bars."""
    least = min((value for value in values if value > 0), default=1.0)
    return float(10 ** math.floor(math.log10(least * 0.5)))


def _plain(axis: Any) -> None:
    """Write a logarithmic axis as people write numbers: 1, 2, 5, 10."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def names() -> Iterable[str]:
    """Return the plots' names."""
    return _PLOTS.keys()
