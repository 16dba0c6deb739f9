"""A dispatch policy as a load: as many requests at once as it lets start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from loadgen import _core
from loadgen.config import values
from loadgen.session.arrival import valid
from loadgen.session.issuer import Issuer
from loadgen.session.planned import GROUP, Planned

_START = 0
"""The code of a policy's action that starts an attempt (``_core.pyi``)."""

_LONGEST_S = 3_600.0
"""The longest that a policy lets an attempt take."""


class AdaptiveStrategy(Planned):
    """As many requests at once as a dispatch strategy lets start: it finds the server's knee, and holds it.

    The native engine runs the very policy that a :class:`~loadgen.Dispatcher` runs, retries and copies included; each
    request is one row, of the attempt that gave its outcome. With a transport of the user's own each request is one
    attempt, and the limit learns from how long they take.

    Args:
        max_concurrency: Most attempts in flight, above 0.
        strategy: ``adaptive_ceiling``, ``hedged``, ``auto`` (the default), or one that learns nothing.
        policy: What differs from the strategy, by the keys of the policy's configuration, such as
            ``{"retry": {"attempts": 1}}``. The attempts' time limit and whether they are streamed are the phase's.

    Raises:
        ValueError: If an argument is out of bounds, or there is no such strategy or key.
    """

    fields = ("max_concurrency", "strategy", "policy")

    def __init__(
        self, max_concurrency: int, strategy: str = "auto", *, policy: Mapping[str, Any] | None = None
    ) -> None:
        self.max_concurrency: int = valid("max_concurrency", max_concurrency, values.count32)
        self.strategy = strategy
        self._policy = msgspec.json.encode(policy or {}).decode()
        self._config = _core.policy_config(strategy, self.max_concurrency, self._policy)

    @property
    def policy(self) -> dict[str, Any] | None:
        """What differs from the strategy; ``None`` where nothing does."""
        return msgspec.json.decode(self._policy) or None

    @property
    def words(self) -> str:
        """The load as a report says it."""
        return f"adaptive ({self.strategy}), {self.max_concurrency:,} in flight at most"

    def __hash__(self) -> int:
        return hash((type(self), self._config))

    def load(self) -> dict[str, Any]:
        """Return the load as the engine is told it."""
        return {"kind": "dispatch", "policy": msgspec.json.decode(self._config)}

    def load_of(self, *, stream: bool, timeout_s: float, stall_timeout_s: float, nodes: int = 1) -> dict[str, Any]:
        """Return the load of a phase as the engine is told it.

        Args:
            stream: Whether its answers are streamed: then the first token decides between copies.
            timeout_s: Seconds for an attempt, unless the policy says otherwise.
            stall_timeout_s: Seconds of silence within an answer, likewise.
            nodes: How many targets there are, likewise.
        """
        load, own = self.load(), self.policy or {}
        settings = {"streaming": stream, "attempt_timeout_s": timeout_s, "stall_timeout_s": stall_timeout_s}
        settings |= {"nodes": nodes} if nodes > 1 else {}
        load["policy"].update({name: value for name, value in settings.items() if name not in own})
        return load

    async def execute(self, issuer: Issuer) -> int:
        """Issue as many as the limit lets, until the issuer takes no more.

        Args:
            issuer: The phase.
        """
        import asyncio

        policy = _core.Policy(self._alone(), issuer.seed)
        attempts: dict[int, int] = {}  # by request
        issued = queued = 0
        while not issuer.stopped:
            now = issuer.now_ns() - issuer.start_ns
            if issued == queued:
                # One waits at any time, and goes as soon as the limit lets it.
                policy.queue(now, 1)
                queued += 1
            started = [action[1] for action in policy.poll(now) if action[0] == _START]
            for attempt in started:
                request = issuer.issue()
                if request is None:
                    return issued
                attempts[request] = attempt
                issued += 1
                if issued % GROUP == 0:
                    await asyncio.sleep(0)
            if not started and not await self._news(issuer, policy, attempts):
                break
        return issued

    async def _news(self, issuer: Issuer, policy: _core.Policy, attempts: dict[int, int]) -> bool:
        """Wait until the policy may let another start; ``False`` where the issuer takes no more."""
        if not attempts:
            return await issuer.until(issuer.start_ns + (policy.next_deadline() or 0))
        done = await issuer.completed()
        if done is None:
            return False
        if (ended := attempts.pop(done, None)) is not None:
            policy.ended(issuer.now_ns() - issuer.start_ns, ended)
        return True

    def _alone(self) -> str:
        """Return the policy for requests that nobody can copy, repeat or cut short: the issuer ends them."""
        overrides: dict[str, Any] = {
            **(self.policy or {}),
            "hedge": {"kind": "none"},
            "breaker": None,
            "attempt_timeout_s": _LONGEST_S,
        }
        return _core.policy_config(self.strategy, self.max_concurrency, msgspec.json.encode(overrides).decode())
