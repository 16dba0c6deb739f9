"""Runs an experiment on a fake callee, in a process of its own.

usage: experiment_process.py DIR RUNS [kill-after N]
"""

import os
import signal
import sys
from pathlib import Path

from experiment_fakes import FakeCallee, fetch, small
from loadgen.dispatch.experiment.runner import Experiment, Plan, Progress


def main(out: str, runs: str, kill_after: str | None = None) -> None:
    """Run it; with ``kill_after``, be killed in the middle of the line after that many records."""

    def told(progress: Progress) -> None:
        if kill_after is None or progress.record is None:
            return
        if progress.done == int(kill_after):
            with (Path(out) / "sim" / "runs.jsonl").open("ab") as file:
                file.write(b'{"run":1,"scenario":"1')
            os.kill(os.getpid(), signal.SIGKILL)

    summed = Experiment(FakeCallee(), Path(out), small(), Plan(runs=int(runs)), told=told, fetch=fetch).run()
    print(sum(row.runs for row in summed.rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
