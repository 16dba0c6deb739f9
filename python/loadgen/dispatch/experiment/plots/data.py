"""What all plots of an experiment draw from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from loadgen.dispatch.experiment.record import Record
from loadgen.dispatch.experiment.settings import Strategy
from loadgen.dispatch.experiment.summary import Row, Summary


class Data(msgspec.Struct, frozen=True):
    """What all plots draw from.

    Args:
        records: The runs.
        summary: What they sum up to.
        strategies: Those that have runs, in the settings' order.
    """

    records: Sequence[Record]
    summary: Summary
    strategies: tuple[Strategy, ...]

    @property
    def scenarios(self) -> list[str]:
        """Those that have runs, in the settings' order."""
        return list(dict.fromkeys(row.scenario for row in self.summary.rows if row.scenario is not None))

    @property
    def others(self) -> tuple[Strategy, ...]:
        """All but the baseline."""
        return tuple(strategy for strategy in self.strategies if strategy.name != self.summary.baseline)

    def row(self, scenario: str, strategy: Strategy) -> Row | None:
        """Return a strategy's row in a scenario."""
        found = (row for row in self.summary.rows if (row.scenario, row.strategy) == (scenario, strategy.name))
        return next(found, None)

    def of(self, strategy: Strategy) -> Iterator[Record]:
        """Yield a strategy's good runs."""
        return (record for record in self.records if record.ok and record.strategy == strategy.name)
