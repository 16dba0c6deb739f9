"""``loadgen report``: report a run again, from its log; of a killed run, what completed."""

from __future__ import annotations

import sys

import click
import msgspec

from loadgen.cli import complete, show
from loadgen.cli.options import value_of
from loadgen.config import OPTIONS
from loadgen.report import again


def _report(run: str | None, percentiles: str | None, as_json: bool) -> int:
    wanted = value_of("--percentiles", percentiles, OPTIONS["percentiles"].read)
    result, warning = again.load(run, wanted)
    if warning:
        show.warning(warning)
    if as_json:
        content = msgspec.json.format(msgspec.json.encode(result.report), indent=1)
        sys.stdout.write(content.decode() + "\n")
        return 0
    from loadgen.report import screen

    screen.show(result)
    return 0


command = click.Command(
    "report",
    callback=_report,
    help="Report a run again, from its log.\n\n"
    "RUN is a directory, the beginning of a run's id, or nothing for the newest run. A run that was killed, or is "
    "still going, is reported as far as its log goes.",
    params=[
        click.Argument(["run"], required=False, metavar="[RUN]", shell_complete=complete.runs),
        click.Option(["--percentiles"], metavar="LIST", help="Percentiles to report, such as 50,90,99.99."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print report.json to standard output."),
    ],
)
