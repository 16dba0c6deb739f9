"""What the tests of journals share: how one is filled, what is read of it, and what a server was asked meanwhile."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loadgen import _core
from loadgen.dispatch.journal import Journal


def fill(path: Path, values: dict[Any, Any], config: dict[str, Any] | None = None) -> None:
    with Journal(path).open(config) as journal:
        for item, value in values.items():
            journal.finished(item, value)


def restored(path: Path, items: list[Any], config: dict[str, Any] | None = None) -> dict[int, Any]:
    with Journal(path).open(config) as journal:
        return {index: entry.value for index, entry in journal.restore(items).items()}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def finished(journal: Path) -> int:
    """Return how many calls a journal that is being written has as finished."""
    return journal.read_bytes().count(b'"value":') if journal.exists() else 0


def requests(server: _core.MockServer) -> int:
    """Return how many requests a server was sent."""
    return int(json.loads(server.truth())["requests"])


def wait_for(holds: Callable[[], bool], most_s: float = 60.0) -> None:
    """Wait until something holds, or fail."""
    end = time.monotonic() + most_s
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.01)
