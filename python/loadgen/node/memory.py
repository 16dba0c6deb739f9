"""What a pool knows of its nodes: speeds by what is asked, what was seen of each; kept in a small file if wished."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from loadgen import private_file
from loadgen.dispatch.rank import percentile
from loadgen.errors import ConfigError, DispatchError
from loadgen.node.health import Health
from loadgen.node.node import Node

FORMAT = 1

RECENT = 256
"""Responses of a node whose times are kept, the latest ones."""

MOST_WEIGHT = 20.0
"""What was measured counts as at most so many observations, so that a change is believed soon."""


class Speed(msgspec.Struct):
    """How long a node takes for an item.

    Args:
        service_s: Seconds for an item, of those that it works on.
        weight: How many observations that counts as.
        at: When it was measured, as Unix time in seconds.
        tokens: Tokens of an item, prompt and answer; 0 where nobody told.
        batch: How many items one request carried, where that is learned; else 0.
    """

    service_s: float
    weight: float
    at: float
    tokens: float = 0.0
    batch: int = 0

    def weight_at(self, now: float, half_life_s: float) -> float:
        """Return what it counts as by now: half as much after each half-life, but never less than one observation.

        Args:
            now: Unix time in seconds.
            half_life_s: Seconds.
        """
        age = max(0.0, now - self.at)
        return max(1.0, self.weight * math.exp2(-age / half_life_s))


class Seen:
    """What was seen of one node, in all that it was asked.

    Args:
        node: The node.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.requests = 0
        self.errors = 0
        self.dropped = 0
        self.served = 0
        self.in_flight = 0
        self.state = "unknown"
        """``up``, ``half-open``, ``down``, or ``unknown`` before anything was asked of it."""
        self.reason = ""
        """Why it is down."""
        self.recent: deque[float] = deque(maxlen=RECENT)
        """Seconds of its latest responses, queueing at the node included."""
        self.ping_s: float | None = None
        self.vram_bytes: int | None = None
        self.model_bytes: int | None = None
        self.speeds: dict[tuple[str, str], Speed] = {}
        """By what is asked (``embeddings``, ``chat``, a function's name) and the model."""

    def speed(self, kind: str, model: str) -> Speed | None:
        """Return how fast it is for something, if that was measured.

        Args:
            kind: What is asked.
            model: Of which model; empty where there is none.
        """
        return self.speeds.get((kind, model))

    def batch(self, kind: str, model: str) -> int:
        """Return the most items that a request carries: as was said, or as was learned; 1 before that.

        Args:
            kind: What is asked.
            model: Of which model.
        """
        if kind != "embeddings":
            return 1
        speed = self.speed(kind, model)
        learned = 1 if speed is None else max(1, speed.batch)
        return min(learned, self.node.most_batch) if self.node.learns_batch else self.node.most_batch

    def slots(self, kind: str, model: str) -> int:
        """Return how many items it works on at the same time, as far as that is known.

        Args:
            kind: What is asked.
            model: Of which model.
        """
        if kind == "embeddings" and self.node.learns_batch:
            return self.batch(kind, model)
        return self.node.room(kind) or 1

    def learn(
        self,
        kind: str,
        model: str,
        service_s: float,
        served: int,
        *,
        half_life_s: float,
        now: float,
        batch: int = 0,
    ) -> None:
        """Take what a batch measured.

        Args:
            kind: What was asked.
            model: Of which model.
            service_s: Seconds for an item, as the batch knew it at its end: earlier knowledge is in it already.
            served: How many items that comes from.
            half_life_s: In which what is known loses half of its weight.
            now: Unix time in seconds.
            batch: How many items a request carried, where that is learned; else 0.
        """
        before = self.speeds.get((kind, model))
        weight = served + (0.0 if before is None else before.weight_at(now, half_life_s))
        tokens = 0.0 if before is None else before.tokens
        self.speeds[kind, model] = Speed(service_s, min(MOST_WEIGHT, weight), now, tokens, batch)

    def take(self, health: Health) -> None:
        """Take what it said of itself."""
        self.state = "up" if health.up else "down"
        self.reason = health.reason
        self.ping_s = health.ping_s
        self.vram_bytes, self.model_bytes = health.vram_bytes, health.model_bytes

    @property
    def mean_s(self) -> float | None:
        """Mean of its latest responses, in seconds."""
        return sum(self.recent) / len(self.recent) if self.recent else None

    @property
    def p95_s(self) -> float | None:
        """The 95th percentile of its latest responses, in seconds: the least that 95 % of them don't exceed."""
        return percentile(sorted(self.recent), 95) if self.recent else None


class _SpeedLine(msgspec.Struct, frozen=True):
    kind: str
    model: str
    service_s: float
    weight: float
    at: float
    tokens: float = 0.0
    batch: int = 0


class _NodeLine(msgspec.Struct, frozen=True):
    url: str
    requests: int = 0
    errors: int = 0
    dropped: int = 0
    served: int = 0
    recent_s: list[float] = []
    speeds: list[_SpeedLine] = []


class _File(msgspec.Struct, frozen=True):
    loadgen_nodes: int
    nodes: list[_NodeLine]


class Memory:
    """What is known of all nodes of a pool.

    Args:
        nodes: The nodes.
        path: The file that keeps it from process to process; ``None`` for none.
        half_life_s: In which what was measured loses half of its weight.
        clock: Gives Unix time in seconds.

    Raises:
        ConfigError: If the file can't be read, or isn't one of these.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        path: str | None,
        *,
        half_life_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.seen = [Seen(node) for node in nodes]
        self.half_life_s = half_life_s
        self.clock = clock
        self._path = path
        self._others: list[_NodeLine] = []
        if path is not None:
            self._load(path)

    def times(self, kind: str, model: str) -> list[float | None]:
        """Return the seconds that each node takes for an item, where that was measured.

        Args:
            kind: What is asked.
            model: Of which model.
        """
        speeds = [seen.speed(kind, model) for seen in self.seen]
        return [None if speed is None else speed.service_s for speed in speeds]

    def slots(self, kind: str, model: str) -> list[int]:
        """Return how many items each node works on at the same time, as far as that is known.

        Args:
            kind: What is asked.
            model: Of which model.
        """
        return [seen.slots(kind, model) for seen in self.seen]

    def tokens(self, kind: str, model: str) -> float:
        """Return the tokens of an item, as the nodes counted them; 0 where none did.

        Args:
            kind: What is asked.
            model: Of which model.
        """
        speeds = [seen.speed(kind, model) for seen in self.seen]
        told = [speed.tokens for speed in speeds if speed is not None and speed.tokens > 0]
        return sum(told) / len(told) if told else 0.0

    def kinds(self) -> list[tuple[str, str]]:
        """Return what was measured of any node, the latest first."""
        latest: dict[tuple[str, str], float] = {}
        for seen in self.seen:
            for what, speed in seen.speeds.items():
                latest[what] = max(latest.get(what, 0.0), speed.at)
        return sorted(latest, key=lambda what: -latest[what])

    def save(self) -> None:
        """Write the file anew, private and as a whole; nothing where there is none.

        Raises:
            DispatchError: If it can't be written.
        """
        if self._path is None:
            return
        lines = [*(_line(seen) for seen in self.seen), *self._others]
        data = msgspec.json.encode(_File(FORMAT, lines)) + b"\n"
        path = Path(self._path)
        try:
            private_file.write(path, data)
        except OSError as error:
            raise DispatchError(
                f"can't write {path}: {error.strerror or error}", "name another file for what is learned of the nodes"
            ) from None

    def _load(self, path: str) -> None:
        try:
            data = Path(path).read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(f"can't read {path}: {error.strerror or error}", "name another state file") from None
        try:
            file = msgspec.json.decode(data, type=_File)
        except (msgspec.DecodeError, RecursionError):
            file = None
        if file is None or file.loadgen_nodes != FORMAT or not all(map(_is_usable, file.nodes)):
            raise ConfigError(f"{path} holds nothing that a pool learned", "name another state file, or remove it")
        by_url = {seen.node.shown: seen for seen in self.seen}
        for line in file.nodes:
            seen = by_url.get(line.url)
            if seen is None:
                self._others.append(line)  # of another pool: it stays as it is
                continue
            seen.requests, seen.errors, seen.dropped = line.requests, line.errors, line.dropped
            seen.served = line.served
            seen.recent.extend(line.recent_s)
            for one in line.speeds:
                seen.speeds[one.kind, one.model] = Speed(one.service_s, one.weight, one.at, one.tokens, one.batch)


def _line(seen: Seen) -> _NodeLine:
    return _NodeLine(
        url=seen.node.shown,
        requests=seen.requests,
        errors=seen.errors,
        dropped=seen.dropped,
        served=seen.served,
        recent_s=[round(seconds, 6) for seconds in seen.recent],
        speeds=[
            _SpeedLine(kind, model, speed.service_s, speed.weight, speed.at, speed.tokens, speed.batch)
            for (kind, model), speed in seen.speeds.items()
        ],
    )


def _is_usable(line: _NodeLine) -> bool:
    counts = (line.requests, line.errors, line.dropped, line.served)
    times = [*line.recent_s, *(number for speed in line.speeds for number in (speed.at, speed.tokens, speed.batch))]
    above = [number for speed in line.speeds for number in (speed.service_s, speed.weight)]
    return (
        all(count >= 0 for count in counts)
        and all(math.isfinite(number) and number >= 0 for number in times)
        and all(math.isfinite(number) and number > 0 for number in above)
    )
