"""What the tests of ``loadgen dispatch run`` share: a call of it, and a dispatcher that answers as it is told."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from click.testing import CliRunner, Result

from loadgen.cli import app
from loadgen.dispatch.live import Call
from loadgen.dispatch.requests import Answer
from loadgen.dispatch.result import AttemptStats, Batch, CallStats, PlainNode
from loadgen.errors import DispatchError

ANSWERS: dict[str, Callable[[int, Any], Any]] = {}
"""How each call is answered, by its index and body, as ``answer``; set by the fixture ``fake``."""


def call(*args: str) -> Result:
    return CliRunner().invoke(app, ["dispatch", "run", *args], prog_name="loadgen")


class Columns:
    """The statistics of a batch in which each call took a second, and call 1 was won by a copy."""

    def __init__(self, count: int) -> None:
        self.count = count

    def stats(self, position: int) -> CallStats | None:
        first = AttemptStats("first", 0, 200, "ok", 0.0, 1.0)
        attempts: tuple[AttemptStats, ...] = (first,)
        if position == 0:
            attempts = (
                AttemptStats("first", 0, 429, "rejected", 0.0, 0.1),
                AttemptStats("retry", 0, 200, "ok", 0.1, 1.0),
            )
        if position == 1:
            attempts = (
                AttemptStats("first", 0, 0, "lost", 0.0, 9.0),
                AttemptStats("hedge", 0, 200, "ok", 8.0, 9.0),
            )
        ended = attempts[-1].ended
        assert ended is not None
        return CallStats(0.0, 0.0, None, ended, attempts, len(attempts) - 1, {"limit": 0.0})

    def told(self, position: int) -> None:
        return None

    def totals(self) -> dict[str, Any]:
        return {"attempts": self.count + 1, "hedges": 1, "hedges_won": 1, "retries": 0, "push_backs": 2}

    def nodes(self) -> list[PlainNode]:
        return []

    def trace(self) -> dict[str, list[float]]:
        return {"limit": [4, 2, 3]}


class Fake:
    """Stands in for the dispatcher: answers each body by a function, and tells the trace."""

    def __init__(self, answer: Callable[[int, Any], Any], choices: Mapping[str, Any]) -> None:
        self.answer = answer
        self.choices = choices
        self.strategy = choices.get("strategy", "auto")
        self.asked: list[Any] = []
        self.wire: dict[str, Any] = {}

    def requests(self, bodies: Sequence[dict[str, Any]], **wire: Any) -> Batch[Any]:
        self.wire = wire
        self.asked = list(bodies)
        values: list[Any] = []
        errors: dict[int, BaseException] = {}
        for index, body in enumerate(self.asked):
            try:
                values.append(Answer(self.answer(index, body), finish="stop"))
            except (KeyboardInterrupt, DispatchError):
                raise
            except Exception as error:  # noqa: BLE001 - what a call raised is its outcome
                values.append(None)
                errors[index] = error
            failed = errors.get(index)
            self.choices["trace"](Call(1.0, index, index, failed is None, values[-1], failed, 1.0))
        return Batch(values, errors, Columns(len(values)), wall_s=9.0, strategy="hedged", restored={}, abandoned=0)


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]
