"""Tables of ``loadgen nodes``: columns as wide as they need be, numbers to the right."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from loadgen.node.report import Report, ReportRow
from loadgen.node.result import NodeBatch
from loadgen.node.stats import NodeStats, Stats
from loadgen.shown import plain

_GIB = 1 << 30
_TEXT = ("url", "state")
_STATS = (
    "node", "url", "state", "health", "ping", "speed", "mean", "p95", "requests", "errors", "in flight", "share", "",
)  # fmt: skip


def rows_of(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: Collection[str] = (),
    spare: Sequence[str] = (),
    width: int | None = None,
) -> list[str]:
    """Return a table's lines.

    Args:
        head: The columns' names.
        rows: Cells, as many in each row.
        left: Which columns are text; the first and the last one always are.
        spare: Which columns may go where the room is short, the first of them first, or where they are empty.
        width: The room; ``None`` where there is no bound.
    """
    from rich.cells import cell_len

    everything = [list(head), *(list(row) for row in rows)]
    widths = [max(cell_len(row[column]) for row in everything) for column in range(len(head))]
    fits = width is None or sum(widths) + 2 * (len(head) - 1) < width
    here = {name: at for at, name in enumerate(head) if name in spare}
    blank = (name for name, at in here.items() if not any(row[at] for row in rows))
    gone = next((name for name in spare if name in here), None) if not fits else next(blank, None)
    if gone is not None:
        at = here[gone]
        narrower = [[*row[:at], *row[at + 1 :]] for row in everything]
        return rows_of(narrower[0], narrower[1:], left=left, spare=spare, width=width)

    def cell(text: str, column: int) -> str:
        beside = " " * (widths[column] - cell_len(text))
        return text + beside if head[column] in left or column in (0, len(head) - 1) else beside + text

    return [" " + "  ".join(cell(text, column) for column, text in enumerate(row)).rstrip() for row in everything]


def stats_lines(stats: Stats, *, verbose: bool = False, width: int | None = None) -> list[str]:
    """Return what is known of a pool, as a table.

    Args:
        stats: What is known.
        verbose: With what each health score is made of.
        width: As for :func:`rows_of`.
    """
    what = " · ".join(plain(part) for part in (stats.kind, stats.model) if part) or "nothing asked yet"
    lines = [f" mode {stats.mode}, policy {stats.policy}; speeds of {what}", ""]
    rows = [_stats_row(node) for node in stats.nodes]
    lines += rows_of(_STATS, rows, left=_TEXT, spare=("url", "in flight", "mean", "ping"), width=width)
    if verbose:
        lines += ["", " health = base × state × answered² × steady × near"]
        parts = ("node", "base", "state", "answered²", "steady", "near", "health", "")
        lines += rows_of(parts, [_score_row(node) for node in stats.nodes])
    return lines


def _stats_row(node: NodeStats) -> list[str]:
    errors = f"{node.errors:,} ({100 * node.error_share:.1f} %)" if node.errors else "0"
    return [
        plain(node.name),
        _url(node.name, node.url),
        node.state,
        f"{node.health:.0f}",
        "–" if node.ping_s is None else f"{node.ping_s * 1e3:.1f} ms",
        _rate(node.speed),
        _seconds(node.mean_s),
        _seconds(node.p95_s),
        f"{node.requests:,}",
        errors,
        f"{node.in_flight:,}",
        f"{100 * node.share:.0f} %",
        ", ".join(_notes(node)),
    ]


def _notes(node: NodeStats) -> list[str]:
    notes = []
    if node.model_bytes is not None and node.vram_bytes is not None:
        notes.append(f"{node.vram_bytes / _GIB:.1f} of {node.model_bytes / _GIB:.1f} GiB in VRAM")
    elif node.gpu:
        notes.append("GPU")
    if node.batch > 1 or node.learns_batch:
        notes.append(f"{node.batch:,} a request" + (", learned" if node.learns_batch else ""))
    if node.flag:
        notes.append(f"! {node.flag}")
    if node.reason:
        notes.append(plain(node.reason))
    return notes


def _score_row(node: NodeStats) -> list[str]:
    score = node.score
    parts = (score.state, score.answered, score.steady, score.near)
    return [plain(node.name), f"{score.base:.0f}", *(f"{part:.2f}" for part in parts), f"{score.value:.0f}", ""]


def report_lines(report: Report, *, width: int | None = None) -> list[str]:
    """Return how batches would be spread, as a table.

    Args:
        report: How.
        width: As for :func:`rows_of`.
    """
    what = " · ".join(plain(part) for part in (report.kind, report.model) if part) or "nothing asked yet"
    head = (
        "batch",
        "mode",
        "reason",
        "workers",
        "nodes",
        "auto",
        "sequential",
        "parallel",
        "hybrid",
        "best",
        "saved",
        "",
    )
    rows = [_report_row(row) for row in report.rows]
    table = rows_of(head, rows, left=("mode", "reason"), spare=("reason", "workers"), width=width)
    lines = [f" speeds of {what}", "", *table, ""]
    lines += [f" {row.batch:,}: {plain(row.decision.detail)}" for row in report.rows]
    if report.unmeasured:
        names = ", ".join(map(plain, report.unmeasured))
        others = "" if report.rows and report.rows[0].times is None else ", so the times are without"
        lines += ["", f" not measured yet{others}: {names}. --probe has each node do one item; a batch measures better"]
    return lines


def _report_row(row: ReportRow) -> list[str]:
    chosen, times = row.decision, row.times
    seconds = (None,) * 4 if times is None else (times.auto, times.sequential, times.parallel, times.hybrid)
    return [
        f"{row.batch:,}",
        chosen.mode,
        chosen.reason,
        f"{chosen.workers:,}",
        f"{len(chosen.nodes):,}",
        *map(_seconds, seconds),
        row.recommendation or "–",
        _seconds(row.saved_s),
        "",
    ]


def batch_lines(batch: NodeBatch[object], *, width: int | None = None) -> list[str]:
    """Return what each node did of a batch, as a table, and what it took.

    Args:
        batch: The batch.
        width: As for :func:`rows_of`.
    """
    head = ("node", "url", "state", "speed", "done", "failed", "share", "")
    rows = [
        [
            plain(one.name),
            _url(one.name, one.url),
            one.state,
            _rate(one.speed),
            f"{one.served:,}",
            f"{one.failed:,}",
            f"{100 * one.share:.0f} %",
            plain(one.reason),
        ]
        for one in batch.work
    ]
    lost = f", {len(batch.errors):,} without a value" if batch.errors else ""
    restored = sum(call.restored for call in batch)
    had = f", {restored:,} from the journal" if restored else ""
    return [
        *rows_of(head, rows, left=_TEXT, spare=("url",), width=width),
        "",
        f" {len(batch):,} items: {batch.mode} ({batch.reason}) {_seconds(batch.wall_s)}{had}{lost}",
        f" {plain(batch.detail)}",
    ]


def compared(report: Report, batch: NodeBatch[object]) -> str:
    """Return the lines that compare what each mode would take for a batch, by the speeds of its nodes.

    Empty while not every node is measured, and where one can't be used any more: what all of them would take tells
    nothing of a batch that the others did.

    Args:
        report: Of the batch's size.
        batch: The batch.
    """
    row = report.rows[0]
    if row.times is None or report.unmeasured or any(one.state != "up" for one in batch.work):
        return ""
    times = row.times
    auto, alone, even, mixed = map(_seconds, (times.auto, times.sequential, times.parallel, times.hybrid))
    modes = f"auto (pull, tail copied) {auto} · sequential {alone} · parallel, even split {even} · hybrid {mixed}"
    return f" {row.batch:,} items, expected: {modes}\n Time saved {_seconds(row.saved_s)}, against the next best"


def _url(name: str, url: str) -> str:
    return "" if name == url else plain(url)


def _rate(speed: float | None) -> str:
    if speed is None:
        return "–"
    return f"{speed:.0f} /s" if speed >= 100 else f"{speed:.3g} /s"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 1e-9:
        return "0 s"
    return f"{seconds * 1e3:.0f} ms" if seconds < 0.1 else f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
