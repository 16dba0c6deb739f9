"""Makes the picture of a report that README shows: what `make demo` prints, as rich draws it.

usage: report_picture.py        (with loadgen installed; about ten seconds)
"""

import io
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console

import loadgen
from loadgen.report import screen

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "report.svg"
COLUMNS = 100


def main() -> int:
    """Run the demonstration and write its report's picture, unless the machine was too busy for a good one."""
    with tempfile.TemporaryDirectory() as folder:
        result = loadgen.run(
            "mock:?ttft=lognormal:60ms,0.4&gap=normal:8ms,2ms&error_rate=0.01",
            rate=40,
            duration="10s",
            output_tokens=48,
            slo=["ttft:150ms", "tpot:12ms"],
            out=str(Path(folder) / "run"),
        )
        if result.performance.trust.verdict != "ok":
            print(f"this machine is too busy: {result.performance.trust.reasons}", file=sys.stderr)
            return 1
        PICTURE.write_text(drawn(result))
    return 0


def drawn(result: loadgen.SessionResult) -> str:
    """Draw a report as SVG; the directory that it was made in is left out, as it is gone."""
    console = Console(file=io.StringIO(), record=True, width=COLUMNS, highlight=False, force_terminal=True)
    for line in screen.lines(result, console):
        if not line.plain.lstrip().startswith(("report", "again")):
            console.print(line, overflow="crop", no_wrap=True, crop=True)
    svg = console.export_svg(title="loadgen run", unique_id="report")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace(
        "Fira Code", "ui-monospace, Menlo, Consolas"
    )


if __name__ == "__main__":
    sys.exit(main())
