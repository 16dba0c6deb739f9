"""What the tests of the command line share: a call of it, and what it says that is no progress."""

from click.testing import CliRunner, Result

from loadgen.cli import app


def call(*args: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(args), prog_name="loadgen", input=stdin)


def errors(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if not line.startswith("performance: ")]
