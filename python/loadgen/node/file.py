"""``nodes.yaml``: the nodes of a pool, and how it spreads batches over them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from loadgen.config import file, values
from loadgen.config.known import hint
from loadgen.errors import ConfigError
from loadgen.node.node import Node, nodes_of

_KEYS = (
    "mode",
    "policy",
    "thresholds",
    "top_k",
    "half_life",
    "copies",
    "state",
    "deadline",
    "budget",
    "attempt_timeout",
    "call_timeout",
    "retry",
    "rpm",
    "tpm",
)


def read(path: str | os.PathLike[str]) -> tuple[tuple[Node, ...], dict[str, Any]]:
    """Read a pool's file.

    Args:
        path: YAML or TOML.

    Returns:
        The nodes, and the other keywords of :class:`loadgen.NodePool` as they were said.

    Raises:
        ConfigError: If it can't be read, or holds something else.
    """
    name = os.fspath(path)
    said = file.read(name)
    nodes = said.pop("nodes", None)
    if not isinstance(nodes, list):
        raise ConfigError(
            f"{name} has no list of nodes", "write one a line under nodes:, such as  - http://gpu-box:11434"
        )
    for key in said:
        if key not in _KEYS:
            raise ConfigError(f"{name} has the unknown key {key!r}", hint(key, ("nodes", *_KEYS)))
    state = said.get("state")
    if isinstance(state, str):  # beside the file, wherever it is read from
        said["state"] = str(Path(name).parent / values.path(state))
    try:
        return nodes_of(nodes), said
    except ConfigError as error:
        raise ConfigError(f"{name}: {error.message}", error.way_out) from None
