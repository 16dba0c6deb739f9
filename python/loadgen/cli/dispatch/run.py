"""``loadgen dispatch run``: make a batch or a grid of calls, and give their answers."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import msgspec

from loadgen import config as configs
from loadgen.cli import answers, complete, show, stops, unfinished
from loadgen.cli.dispatch import asked, output
from loadgen.cli.dispatch.output import Written
from loadgen.cli.options import GroupedCommand, GroupedOption, flags
from loadgen.config import secret
from loadgen.dispatch import progress
from loadgen.dispatch.journal import Journal
from loadgen.dispatch.live import Call, Live
from loadgen.errors import ConfigError
from loadgen.report import batch as report
from loadgen.report import figures
from loadgen.session import prepare
from loadgen.speech import option

if TYPE_CHECKING:
    from loadgen.cli.dispatch.asked import Source
    from loadgen.config import Config
    from loadgen.dispatch import Batch, Dispatcher
    from loadgen.dispatch.result import CallResult
    from loadgen.report.batch import BatchSummary

_WIRE = (
    "api", "model", "output_tokens", "connect_timeout", "http2", "insecure", "cacert", "cert", "key", "proxy",
    "api_key_env", "api_key_file", "header", "extra_body",
)  # fmt: skip
"""Options of a run that say how requests are made; they mean the same here."""

_OF_ONE = {"workers": "parallel", "hedge_after": "hedged", "remember": "auto"}
"""Keywords that one strategy only has a use for."""

_STRATEGY = (
    "strategy", "max_concurrency", "workers", "hedge_after", "attempt_timeout", "call_timeout", "stall_timeout",
    "retry", "budget", "rpm", "tpm", "remember", "seed",
)  # fmt: skip
"""Keywords of the Dispatcher."""


class _Files(msgspec.Struct):
    """Where a batch reads from and writes to, as given."""

    template: str | None
    items: str | None
    rows: str | None
    cols: str | None
    out: str | None
    matrix: str | None
    journal: str | None


class _Kept:
    """Keeps each call as it is settled, so that what came before an interrupt isn't lost with the batch."""

    def __init__(self, source: Source, live: Live | None) -> None:
        self._source = source
        self._live = live
        self.calls: dict[int, Call] = {}

    def __call__(self, call: Call) -> None:
        self.calls[call.index] = call
        if self._live is not None:
            row, column = self._source.cell(call.index) or (None, self._source.name(call.index))
            self._live(msgspec.structs.replace(call, row=row, column=column))


def _one_url(ctx: click.Context, _: click.Parameter, urls: tuple[str, ...]) -> str | None:
    """Return the URL; of several, say what spreads a batch over them."""
    if urls[1:]:
        raise click.UsageError(
            f"a batch goes to one URL, not {len(urls)}\n`loadgen nodes run` spreads items over several servers", ctx
        )
    return urls[0] if urls else None


def _run(url: str | None, live: bool, as_json: bool, quiet: bool, max_error_rate: str | None, **given: Any) -> int:
    files = _Files(**{name: given.pop(name) for name in _Files.__struct_fields__})
    said = {name: given[name] for name in _WIRE if given[name] not in (None, ())}
    said |= {} if max_error_rate is None else {"max_error_rate": max_error_rate}
    options = configs.resolve(url, said, needs_load=False)
    show.warn_of_secrets(options.header)
    _check_files(files, given["remember"])
    source = _source(files, as_json)
    kept = _Kept(source, Live(sys.stderr) if live else None)
    shown = progress.KeptView(progress.view(not (quiet or live)))
    choices = {name: given[name] for name in _STRATEGY if given[name] is not None}
    choices |= {"journal": _journal(files, source, options), "trace": kept, "progress": shown}
    dispatcher = _dispatcher(choices)
    _say_idle(dispatcher.strategy, given)
    with stops.Stopping(signal.SIGINT, *stops.from_outside()) as stopping, show.warned():
        try:
            with _outputs(files, as_json) as write:
                summary = _call(dispatcher, source, options, given["stream"], kept, write)
        except KeyboardInterrupt:
            _say_stopped(source, kept, files, progress.in_vain(shown.latest))
            return stopping.status
    _show(summary, as_json, quiet, to_stdout=files.out is not None)
    in_vain = progress.in_vain(shown.latest)
    return _status(summary, options, files.journal, in_vain, why_shown=not (quiet or as_json))


def _call(
    dispatcher: Dispatcher,
    source: Source,
    options: Config,
    stream: bool,
    kept: _Kept,
    write: Callable[[Source, Sequence[Written]], None],
) -> BatchSummary:
    """Make the calls and write their answers; those that were there are written also when it breaks off."""
    with prepare.targets(options) as (sent_to,):
        model = prepare.listed_model(options) if source.needs_model else options.model
        bodies = asked.bodies(source, options, model)
        with unfinished.also_written(lambda: _write_kept(source, kept, write)):
            batch = dispatcher.requests(bodies, url=sent_to, model=model, stream=stream, **_wire(options))
        write(source, [output.answer(source, call) for call in batch])
        return summary_of(batch, source)


def _write_kept(source: Source, kept: _Kept, write: Callable[[Source, Sequence[Written]], None]) -> None:
    """Write the answers of a batch that broke off, if it had any."""
    if kept.calls:
        write(source, [_written(source, call) for _, call in sorted(kept.calls.items())])


def _source(files: _Files, as_json: bool) -> Source:
    if files.matrix is not None and files.rows is None:
        raise ConfigError("--matrix is of a grid", "give it with --rows FILE and --cols FILE")
    if as_json and files.out is None and files.matrix is None:
        raise ConfigError("--json prints the summary, and nothing says where the answers go", "--out FILE keeps them")
    return asked.read(files.template, files.items, files.rows, files.cols)


def _check_files(files: _Files, remember: str | None) -> None:
    answers.check_apart(
        {"--template": files.template, "--items": files.items, "--rows": files.rows, "--cols": files.cols},
        {"--journal": files.journal, "--remember": remember, "--out": files.out, "--matrix": files.matrix},
    )


def _dispatcher(choices: Mapping[str, Any]) -> Dispatcher:
    """Make the dispatcher; what the environment says holds where no flag says otherwise."""
    from loadgen.dispatch import Dispatcher

    return Dispatcher.from_env("LOADGEN_", **choices)


def _say_idle(strategy: str, given: Mapping[str, Any]) -> None:
    """Warn of flags that do nothing with a strategy; with another, which the environment may name, they would."""
    for name, of in _OF_ONE.items():
        if given[name] is not None and strategy != of:
            bound = "; --max-concurrency N is the most at once with any" if name == "workers" else ""
            show.warning(
                f"{option(name)} does nothing with the strategy {strategy}", f"it is for --strategy {of}{bound}"
            )


def _wire(options: Config) -> dict[str, Any]:
    """Return how requests are made; what is in their bodies isn't said again."""
    headers = {header.name: header.value for header in options.header}
    key = configs.api_key(options)
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    return {
        "api": options.api,
        "headers": headers,
        "http2": options.http2,
        "insecure": options.insecure,
        "cacert": options.cacert,
        "cert": options.cert,
        "key": options.key,
        "proxy": options.proxy,
        "connect_timeout": options.connect_timeout,
    }


def _journal(files: _Files, source: Source, options: Config) -> Journal | None:
    """Return the journal, which says in words of the command line what decides the answers."""
    if files.journal is None:
        return None
    return Journal(
        files.journal,
        config={
            "url": secret.shown_url(options.url),  # the one that was given: the server of `mock:` has another each time
            "template": source.template.digest,
            "output_tokens": options.output_tokens,
            "extra_body": None if options.extra_body is None else options.extra_body.stored,
        },
    )


@contextmanager
def _outputs(files: _Files, as_json: bool) -> Iterator[Callable[[Source, Sequence[Written]], None]]:
    """Open what is written to before anything is sent; without a file, answers go to standard output."""
    with answers.Replaced(files.out, "--out") as out, answers.Replaced(files.matrix, "--matrix") as matrix:

        def write(source: Source, calls: Sequence[Written]) -> None:
            if files.out is not None:
                out.put(output.lines(calls))
            elif files.matrix is None and not as_json:
                answers.to_stdout(output.lines(calls))
            if files.matrix is not None:
                matrix.put([output.matrix(source, {one.index: output.cell(one) for one in calls})])

        yield write


def _written(source: Source, call: Call) -> Written:
    """Return a call of an interrupted batch as it is written: what the trace told of it."""
    stats = {"ended": call.at_s, "seconds": call.seconds, "kind": call.kind}
    return output.written(source, call.index, call.value if call.ok else call.error, call.kind == "journal", stats)


def _say_stopped(source: Source, kept: _Kept, files: _Files, in_vain: str) -> None:
    done = sum(call.ok for call in kept.calls.values())
    way_on = unfinished.way_on(files.journal, files.out if kept.calls else None)
    why = f": {in_vain}" if in_vain else ""
    show.error(f"stopped when {done:,} of {len(source.calls):,} calls had an answer{why}", way_on)


def summary_of(batch: Batch[Any], source: Source) -> BatchSummary:
    """Sum up a batch that was made of a source."""
    totals, trace = batch.totals, batch.trace
    limits = trace.get("limit") or []
    names = {"sent": "attempts", "hedges": "hedges", "hedges_won": "hedges_won", "retries": "retries"}
    calls: list[report.Settled] = []
    limited = 0
    for call in batch:  # whose statistics are made when they are looked at
        calls.append(_settled(call))
        limited += sum(attempt.status == 429 for attempt in call.stats.attempts) if call.stats is not None else 0
    counts = report.Counts(
        **{ours: totals[name] for ours, name in names.items()},
        rate_limited=limited,
        overloaded=max(0, totals["push_backs"] - limited),
        limit=(int(limits[0]), int(limits[-1])) if limits else None,
    )
    return report.summary(batch.strategy, calls, counts, batch.wall_s, source.name)


def _settled(call: CallResult[Any]) -> report.Settled:
    reason = "" if call.error is None else output.reason(call.error)
    stats = call.stats
    if stats is None or stats.started is None:
        return report.Settled(call.ok, kind="journal" if call.restored else "first", reason=reason)
    alone = sum((one.ended or stats.ended) - one.started for one in stats.attempts if one.kind != "hedge")
    won = None if stats.winner is None else stats.attempts[stats.winner]
    return report.Settled(
        call.ok,
        seconds=stats.seconds,
        alone_s=alone,
        kind="first" if won is None else won.kind,
        won_s=None if won is None or won.ended is None else won.ended - stats.started,
        reason=reason,
    )


def _show(summary: BatchSummary, as_json: bool, quiet: bool, *, to_stdout: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(summary), indent=2).decode())
    elif not quiet:
        report.show(summary, sys.stdout if to_stdout else sys.stderr)


def _status(summary: BatchSummary, options: Config, journal: str | None, in_vain: str, *, why_shown: bool) -> int:
    if summary.failed == 0:
        return 0
    share = summary.failed / summary.calls
    if summary.ok and share <= options.max_error_rate:
        return 0
    allowed = f"; {figures.share(options.max_error_rate)} are allowed (--max-error-rate)" if summary.ok else ""
    why = in_vain
    if not (why or why_shown) and summary.failures:
        why = summary.failures[0].reason + (", …" if summary.failures[1:] else "")
    reason = f": {why}" if why else ""
    again = unfinished.again(journal, has_some=summary.ok > 0)
    show.error(f"{summary.failed:,} of {summary.calls:,} calls have no answer{allowed}{reason}", again)
    return 1


def _dispatch_flag(
    name: str, metavar: str, words: str, default: str = "", completer: complete.Completer | None = None
) -> click.Option:
    shown = f"  [default: {default}]" if default else ""
    return GroupedOption(
        [f"--{name}"], metavar=metavar, default=None, group="Strategy", help=words + shown, shell_complete=completer
    )


def _file(name: str, metavar: str, group: str, words: str) -> click.Option:
    return GroupedOption([f"--{name}"], type=click.Path(), metavar=metavar, group=group, help=words)


command = GroupedCommand(
    "run",
    callback=_run,
    help="Make a batch or a grid of calls, and give their answers in the order of the items.\n\n"
    "URL is a base such as http://127.0.0.1:8000 (the API's path is appended), unix:PATH, or mock: for a server within "
    "this process. A template is a prompt, or a body in JSON; {item}, {item.FIELD}, {row} and {col} stand for what "
    "differs. Answers are JSON lines on standard output, or in --out FILE.",
    epilog="LOADGEN_STRATEGY, LOADGEN_PARALLEL_WORKERS and LOADGEN_HEDGE_AFTER_S hold where no flag says otherwise. "
    "Exit status: 0 good, 1 it began and failed, 2 nothing was sent, 129 SIGHUP, 130 SIGINT, 143 SIGTERM.",
    params=[
        click.Argument(["url"], nargs=-1, metavar="URL", callback=_one_url),
        _file("template", "FILE", "Calls", "Prompt or JSON body with places to fill in.  [default: {item}]"),
        _file("items", "FILE", "Calls", "Items: JSONL, JSON, CSV or a line each."),
        _file("rows", "FILE", "Calls", "Rows of a grid, in the same forms; one call for each row and column."),
        _file("cols", "FILE", "Calls", "Columns of a grid."),
        _dispatch_flag(
            "strategy",
            "NAME",
            "sequential, parallel, adaptive_ceiling, hedged or auto.",
            "auto",
            complete.words(complete.strategies),
        ),
        _dispatch_flag("max-concurrency", "N", "At most N calls at once.", "the number of items, 1,000 at most"),
        _dispatch_flag("workers", "N", "How many at once with parallel.", "2"),
        _dispatch_flag("hedge-after", "D", "Silence after which hedged sends a copy.", "8s"),
        _dispatch_flag("attempt-timeout", "D", "Longest time of one attempt.", "90s"),
        _dispatch_flag("call-timeout", "D", "Longest time of a call with all its attempts.", "none"),
        _dispatch_flag("stall-timeout", "D", "Longest silence within an answer.", "none"),
        _dispatch_flag("retry", "N", "Attempts of a call in all, copies aside.", "4"),
        _dispatch_flag("budget", "SHARE", "Copies and retries allowed, as a share of the calls.", "20%"),
        _dispatch_flag("rpm", "N", "Requests a minute that the service allows.", "learned"),
        _dispatch_flag("tpm", "N", "Tokens a minute that the service allows.", "learned"),
        _file("remember", "FILE", "Strategy", "Keep what auto learns of the endpoint, for the next batch."),
        _dispatch_flag("seed", "N", "Seed of backoff and hedging.", "0"),
        *flags(_WIRE, {"api": ("chat", "completions")}),
        GroupedOption(
            ["--stream/--no-stream", "stream"],
            is_flag=True,
            default=False,
            group="Connection",
            help="Ask for streams: the first token then decides between copies.  [default: off]",
        ),
        _file("journal", "FILE", "Results", "Keep what finishes; run again with it, only the rest is called."),
        _file("out", "FILE", "Results", "Write the answers here instead of to standard output."),
        _file("matrix", "FILE", "Results", "Write a grid's answers as CSV."),
        *flags(("max_error_rate",)),
        GroupedOption(
            ["--live"], is_flag=True, group="Results", help="Print each call as it ends, instead of a progress bar."
        ),
        GroupedOption(
            ["--json", "as_json"],
            is_flag=True,
            group="Results",
            help="Print the summary as JSON, and nothing else, to standard output.",
        ),
        GroupedOption(["--quiet", "-q"], is_flag=True, group="Results", help="Print answers and errors only."),
    ],
)
