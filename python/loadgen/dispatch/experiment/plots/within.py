"""The plots of what went on within grids: single calls, where their time went, the callee's processes, the limit."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from loadgen.dispatch.experiment.plots.axes import INK, legend, plain
from loadgen.dispatch.experiment.plots.data import Data
from loadgen.dispatch.experiment.summary import CLAIM_S

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


def calls(figure: Figure, data: Data) -> bool:
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
        medianprops={"color": INK},
    )
    for box, strategy in zip(boxes["boxes"], data.strategies, strict=True):
        box.set(facecolor=strategy.colour, edgecolor=INK, linewidth=0.8)
    for at, strategy in enumerate(data.strategies, start=1):
        row = next(row for row in data.summary.totals if row.strategy == strategy.name)
        if row.per_call is not None:
            axes.plot(row.per_call.p95, at, "|", ms=16, mew=2, color=INK, label="p95" if at == 1 else None)
    axes.axvline(CLAIM_S, color="#b3261e", lw=1, ls="--", label=f"claimed p95 with hedging, {CLAIM_S:g} s")
    axes.set_xscale("log")
    plain(axes.xaxis)
    axes.set_yticks(range(1, len(seconds) + 1), [strategy.label for strategy in data.strategies])
    axes.invert_yaxis()
    axes.set_xlabel("seconds of one call · box 25–75 %, whiskers 1–99 %")
    axes.set_title("Single calls", loc="left")
    legend(figure, axes)
    return True


def phases(figure: Figure, data: Data) -> bool:
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


def hardware(figure: Figure, data: Data) -> bool:
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
                axes.plot(at, max(one.max for one in used) / scale, "_", ms=16, mew=1.6, color=INK)
        axes.set_xticks(range(len(known)), [strategy.label for strategy in known], rotation=30, ha="right")
        axes.grid(visible=False, axis="x")
        axes.set_title(title, loc="left")
    figure.suptitle("The callee's processes · mean of the samples, dash at the highest", x=0.01, ha="left")
    return True


def limits(figure: Figure, data: Data) -> bool:
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
    legend(figure, axes)
    return True
