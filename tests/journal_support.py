"""What the tests of journals share: how one is filled, and what is read of it."""

import json
from pathlib import Path
from typing import Any

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
