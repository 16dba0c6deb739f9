"""``loadgen nodes``: batches over machines of unequal speed."""

from __future__ import annotations

from loadgen.cli.group import LazyGroup

_COMMANDS = {
    "report": "Say how batches would be spread, and how long each mode would take.",
    "stats": "Show the nodes: state, health, speed, share of the work.",
    "run": "Have a file of texts embedded or answered, by all nodes.",
}

command = LazyGroup(
    "nodes",
    room="loadgen.cli.nodes",
    words=_COMMANDS,
    no_args_is_help=True,
    help="Batches over machines of unequal speed.",
)
