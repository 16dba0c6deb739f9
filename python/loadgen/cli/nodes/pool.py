"""Which pool a command of ``loadgen nodes`` means: a file's, or of nodes named on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loadgen.errors import ConfigError

if TYPE_CHECKING:
    from loadgen.node import NodePool

FILE = "nodes.yaml"


def options() -> list[click.Parameter]:
    """Return the options that say which nodes, and how they are used."""
    from loadgen.node.call import KINDS

    return [
        click.Option(["--nodes", "file"], metavar="FILE", help=f"The nodes.  [default: {FILE}]"),
        click.Option(
            ["--node", "urls"], metavar="URL", multiple=True, help="A node, instead of a file; as many as wished."
        ),
        click.Option(["--mode"], metavar="MODE", help="auto, sequential, parallel or hybrid."),
        click.Option(["--policy"], metavar="NAME", help="auto, or thresholds for the published rules."),
        click.Option(["--state"], metavar="FILE", help="Where what is learned of the nodes is kept."),
        click.Option(["--model"], metavar="NAME", help="The model that is asked."),
        click.Option(["--kind"], type=click.Choice(KINDS), help="What is asked of it."),
    ]


def pool_of(file: str | None, urls: Sequence[str], **said: Any) -> NodePool:
    """Return the pool that is meant.

    Args:
        file: ``--nodes``.
        urls: Each ``--node``.
        **said: Keywords of the pool; those that are ``None`` aren't said.

    Raises:
        ConfigError: If both or none are given, or can't be used.
    """
    from loadgen.node import NodePool

    if urls and file is not None:
        raise ConfigError("--nodes is a file of nodes, and --node names some", "give one of the two")
    if urls:
        return NodePool(list(urls), **said)
    if file is None and not Path(FILE).exists():
        raise ConfigError(f"no nodes given, and there is no {FILE} here", "--nodes FILE, or --node URL for each")
    return NodePool.from_yaml(file or FILE, **said)
