"""``loadgen dispatch``: many calls at once, for their answers."""

from __future__ import annotations

from loadgen.cli.group import LazyGroup

_COMMANDS = {
    "run": "Make a batch or a grid of calls, and give their answers.",
    "bench": "Run strategies against each other on the published experiment, and sum up.",
    "simulate": "Tell what each strategy would take and cost, in virtual time.",
    "trace": "Run one scenario with one strategy, and tell of each call.",
}

command = LazyGroup(
    "dispatch",
    room="loadgen.cli.dispatch",
    words=_COMMANDS,
    no_args_is_help=True,
    help="Make many calls at once, for their answers.",
)
