"""What `auto` learned of an endpoint, kept from batch to batch: its limit and the rate that it admits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec

from loadgen import private_file
from loadgen.errors import ConfigError, DispatchError

FORMAT = 1


class Remembered(msgspec.Struct, frozen=True):
    """What was learned.

    Args:
        loadgen_remembered: The format's version.
        limit: How many calls at once the endpoint took.
        rate: How many calls a second it admitted; ``None`` where it never said stop.
    """

    loadgen_remembered: int
    limit: int
    rate: float | None = None


def load(path: str) -> dict[str, float] | None:
    """Return what the file holds, for the policy; ``None`` where there is no file yet.

    Raises:
        ConfigError: If the file can't be read, isn't one of these, or can't be made later.
    """
    try:
        held = Path(path).read_bytes()
    except FileNotFoundError:
        if not Path(path).parent.is_dir():
            raise ConfigError(f"can't keep {path}: its directory isn't there", "make it, or name another") from None
        return None
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror or error}", "name another file to remember in") from None
    try:
        found = msgspec.json.decode(held, type=Remembered)
    except (msgspec.DecodeError, ValueError, RecursionError):
        found = None
    if found is None or found.loadgen_remembered != FORMAT or not _is_usable(found):
        raise ConfigError(f"{path} holds nothing that a batch remembered", "name another file, or remove it")
    learned: dict[str, float] = {"limit": found.limit}
    return learned if found.rate is None else {**learned, "rate": found.rate}


def save(path: str, learned: Mapping[str, float]) -> None:
    """Keep what was learned: the file is replaced as a whole, and private.

    Args:
        path: The file; its directory exists.
        learned: The limit, and the rate where there is one, as :func:`load` returns them.

    Raises:
        DispatchError: If it can't be written.
    """
    data = msgspec.json.encode(Remembered(FORMAT, int(learned["limit"]), learned.get("rate"))) + b"\n"
    try:
        private_file.write(Path(path), data)
    except OSError as error:
        raise DispatchError(
            f"can't write {path}: {error.strerror or error}", "name another file to remember in"
        ) from None


def _is_usable(found: Remembered) -> bool:
    return 1 <= found.limit < 2**32 and (found.rate is None or (math.isfinite(found.rate) and found.rate > 0))
