"""The compiled core. Strings are JSON unless said otherwise; a moment is in nanoseconds of the clock of ``now_ns``."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Literal, NoReturn, Self, TypeAlias, final

from typing_extensions import CapsuleType

__all__ = [
    "Bodies",
    "Counter",
    "Delays",
    "Engine",
    "EventBatch",
    "EventQueue",
    "EventReader",
    "MockServer",
    "Plan",
    "Policy",
    "RowReader",
    "SampleOrder",
    "Segment",
    "SegmentReader",
    "Series",
    "Sink",
    "TextReader",
    "__version__",
    "arrow_rows",
    "arrow_rows_schema",
    "clean_segments",
    "mock_faults",
    "now_ns",
    "policy_config",
    "random_regime",
    "rate_hints",
    "read_events",
    "read_hdr",
    "read_rows",
    "read_texts",
    "regime",
    "replay_policy",
    "retry_after",
    "row_columns",
    "segment_directories",
    "segments",
    "simulate",
    "simulate_nodes",
    "simulate_whole",
    "summarise",
]
__version__: str

_Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]

@final
class Bodies:
    """The request bodies of a phase, held by the core.

    Args:
        bodies: Each one JSON object without ``stream`` and ``stream_options``.
        holes: For each body, the byte offset within its prompt where a unique marker may be put.
        sessions: For each body, the number of its session, of 64 bits: those with the same go to the same node.
    """

    def __new__(
        cls, bodies: Sequence[bytes], holes: Sequence[int] | None = None, sessions: Sequence[int] | None = None
    ) -> Bodies: ...
    def __len__(self) -> int: ...

_Completion: TypeAlias = tuple[
    int,
    int,
    int,
    str,
    str,
    int,
    str,
    int | None,
    int | None,
    int,
    int,
    int,
    int,
    int | None,
    int | None,
    int,
    str | None,
    str | None,
    str | None,
    int | None,
    int | None,
]

@final
class Delays:
    """Iterates over the delays of an open loop in nanoseconds, at least 1, without end.

    They add up to the due times of the plan with the same load and seed. ``OverflowError`` after 584 years of them.

    Args:
        kind: ``constant``, ``poisson``, ``gamma`` or ``uniform``.
        rate: Mean arrivals a second, above 0 and at most 1e9.
        seed: The same seed gives the same delays.
        burstiness: Shape of gamma delays.
        low: Shortest uniform delay, in mean delays.
        high: Longest uniform delay, in mean delays; ``low + high`` is 2.
    """

    def __new__(
        cls,
        kind: str,
        rate: float,
        seed: int = 0,
        *,
        burstiness: float | None = None,
        low: float | None = None,
        high: float | None = None,
    ) -> Delays: ...
    def __iter__(self) -> Delays: ...
    def __next__(self) -> int: ...

@final
class Engine:
    """The load engine of one run: it creates ``run.log`` in the run's directory and starts its workers.

    Args:
        config: ``RunConfig`` of ``rust/src/engine/config.rs``.
    """

    def __new__(cls, config: str) -> Engine: ...
    def begin(self, phase: str, bodies: Bodies, others: dict[str, Bodies] | None = None) -> None:
        """Start a phase (``PhaseConfig`` of ``rust/src/engine/config.rs``) at once.

        Args:
            phase: Its configuration, as JSON.
            bodies: What it sends.
            others: The same samples in other APIs, by their names, for nodes that speak these.
        """

    def wait(self, timeout: float) -> str | None:
        """Wait up to ``timeout`` seconds for the phase's end; its account, or ``None`` while it goes on."""

    def segment(self) -> Segment:
        """Return the run's live metrics. The file is removed by ``finish``."""

    def live(self) -> str:
        """Return what a progress line shows."""

    def event_queue(self) -> EventQueue | None:
        """Return the finished frames of events, for a publisher; ``None`` unless the run is asked to publish them."""

    @property
    def is_issuing(self) -> bool:
        """Whether the newest phase may still issue requests; what was issued may be in flight for longer."""

    def stop(self, grace: float) -> None:
        """Stop issuing; requests in flight, of earlier phases too, may finish for ``grace`` seconds, 0 cancels them."""

    def stop_phase(self, phase: int, grace: float) -> None:
        """Stop the phase with this index in the session, and no other; what it has in flight has ``grace`` seconds."""

    def issued(self, phase: int) -> int:
        """Return how many requests the phase with this index has issued; exact once it has ended."""

    def start_ns(self, timeout: float = 0.0) -> int | None:
        """Wait up to ``timeout`` seconds for the newest phase's start, when its connections are there; that moment."""

    def issue(
        self,
        sample: int | None = None,
        planned_ns: int | None = None,
        *,
        node: int | None = None,
        body: bytes | None = None,
    ) -> int | None:
        """Send one request of a phase whose load is ``manual``, now.

        Args:
            sample: Index of the sample; ``None`` for the next one of the phase's order.
            planned_ns: When it should have been sent, if that isn't now.
            node: The node that it goes to, by its place in the run; ``None`` for the one whose turn it is.
            body: What is sent instead of the sample's body: a JSON object like that.

        Returns:
            The request's number in the session, or ``None`` when the phase takes no more.

        Raises:
            ValueError: If there is no such sample or node, or the body is none.
            RuntimeError: If the newest phase isn't a manual one.
        """

    def give_up(self, request: int) -> None:
        """Cut off a request of a manual phase that nobody waits for any more; one that has ended stays as it is.

        Args:
            request: Its number in the session.

        Raises:
            RuntimeError: If the newest phase isn't a manual one.
        """

    def policy_totals(self, phase: int) -> dict[str, int]:
        """Return what the policy of a phase with the load ``dispatch`` counts (``Totals`` of ``rust/src/policy``).

        Told some times a second, and exact once the phase has ended; zeros where no policy decides.

        Args:
            phase: Its index in the session.
        """

    def policy_nodes(self, phase: int) -> list[tuple[_Node | None, str]]:
        """Return what the policy of a phase knows of each node, and why the latest attempt that failed there did.

        The first as ``Policy.nodes`` gives it, ``None`` where nothing is spread by speed; the second empty if none
        failed. As current as ``policy_totals``; without a policy there are no nodes.

        Args:
            phase: Its index in the session.
        """

    def room(self, phase: int, node: int, slots: int) -> None:
        """Have a node take so many items of a phase at the same time, where a policy spreads them by speed.

        Args:
            phase: Its index in the session.
            node: The node, by its place in the run.
            slots: How many; 0 for none, while it can't be used.
        """

    def take_policy(self, phase: int) -> Policy | None:
        """Return the policy of a phase that has ended, with what it knows of each item and attempt, once.

        Its times are nanoseconds from the phase's start; item *i* is the phase's *i*-th request. ``None`` before the
        end, where no policy decided, and the second time.

        Args:
            phase: Its index in the session.
        """

    def end_issue(self) -> None:
        """Issue nothing more: the manual phase drains and ends."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while completions wait; the engine closes it."""

    def take_completions(self) -> list[_Completion]:
        """Return the requests that have ended since the last call, of phases whose ``completions`` aren't ``none``.

        Each is request, phase, sample, failure (``none`` for a good one), detail, status, finish, tokens in and out;
        what its attempt was for (0 first, 1 retry, 2 hedge), attempts, copies among them; the moments planned, sent,
        first token, done in monotonic nanoseconds; text, reasoning, error; the node that it came from, if it went to
        any; and the nanoseconds to wait before coming again, where an answer said so and answers are asked for. None is
        lost, and what a drained phase brought is there before ``wait`` tells its end.
        """

    def finish(self, status: str = "complete", reason: str = "") -> None:
        """End the workers and close the log, which keeps how the run ended. May be called again."""

@final
class Sink:
    """A run whose requests somebody else makes: the same log as the engine's, with stamps taken at each call.

    A stamp that is given (``ns``) counts instead, between the stamp before it and the call. Any thread may call.

    Args:
        config: ``RunConfig`` of ``rust/src/engine/config.rs``; its URL isn't looked at.
    """

    def __new__(cls, config: str) -> Sink: ...
    def begin(self, phase: str, bodies: Bodies) -> None:
        """Start a phase (``PhaseConfig``), whose load begins with ``start`` or the first ``issue``."""

    def start(self) -> int:
        """Begin the phase's load, if that hasn't happened; return the moment."""

    def issue(self, sample: int | None = None, planned_ns: int | None = None) -> tuple[int, int, int] | None:
        """Take the plan's next request, to be made now: request, sample, planned moment; ``None`` when there is none.

        Args:
            sample: The sample to send in place of the one whose turn it is.
            planned_ns: When it should have started, if that isn't now.
        """

    def body(self, request: int) -> bytes | None:
        """Return the body of a request in flight, the very bytes that the engine would send."""

    def sent(self, request: int, ns: int | None = None) -> bool:
        """The request is about to be sent. Returns whether it is in flight."""

    def chunk(self, request: int, tokens: int | None = None, output: bool = True, ns: int | None = None) -> bool:
        """A piece of its answer came. Returns whether it is in flight.

        Args:
            request: Which one.
            tokens: Tokens in the piece, where known; 0 is but the first byte.
            output: Whether the piece is output, or else reasoning.
            ns: When it came, if not now.
        """

    def complete(
        self,
        request: int,
        failure: str = "none",
        *,
        status: int = 0,
        finish: str = "",
        tokens_in: int | None = None,
        tokens_out: int | None = None,
        text: str = "",
        reasoning: str = "",
        error: str = "",
        ns: int | None = None,
    ) -> bool:
        """The request has ended. Returns whether it was in flight: otherwise the answer is counted as late."""

    def take_cancelled(self) -> list[int]:
        """Return the requests that the sink itself has ended since the last call: a drain or a stop ran out of time."""

    def end_issue(self) -> None:
        """Issue nothing more in this phase, which drains and ends."""

    def turn(self, due_ns: int) -> None:
        """The caller's loop has its turn, due at ``due_ns``: note what it cost, and for how long it was away."""

    def wait(self, timeout: float) -> str | None:
        """Wait up to ``timeout`` seconds for the phase's end; its account, or ``None`` while it goes on."""

    def event_queue(self) -> EventQueue | None:
        """Return the finished frames of events, for a publisher; ``None`` unless the run is asked to publish them."""

    def segment(self) -> Segment:
        """Return the run's live metrics. The file is removed by ``finish``."""

    def live(self) -> str:
        """Return what a progress line shows."""

    @property
    def late(self) -> int:
        """Answers so far to requests that were not in flight (any more)."""

    @property
    def is_issuing(self) -> bool:
        """Whether the newest phase may still issue requests; what was issued may be in flight for longer."""

    def stop(self, grace: float) -> None:
        """Stop issuing; requests in flight, of earlier phases too, may finish for ``grace`` seconds, 0 cancels them."""

    def stop_phase(self, phase: int, grace: float) -> None:
        """Stop the phase with this index in the session, and no other; what it has in flight has ``grace`` seconds."""

    def finish(self, status: str = "complete", reason: str = "") -> None:
        """Cancel what is in flight and close the log, which keeps how the run ended. May be called again."""

@final
class EventBatch:
    """Buffers the events of one source by topic until a flush is due. Any thread may use it.

    Args:
        source: Who records: a number of the recorder's own, from 32768 up in Python.
        send_threshold: A flush is due with so many events over all topics; 1 means no batching.
        max_age_ns: Or when the oldest one is this old; what makes time pass is the next event, or the caller's look
            at `oldest_ns`.
        max_bytes: Or with so many bytes.
        on_due: Called by whoever records the event with which a flush is due; what it raises is raised there.
        on_first: Called by whoever records the first event after :meth:`rest`, likewise.

    Raises:
        ValueError: If ``send_threshold`` or ``max_bytes`` is 0.
    """

    def __new__(
        cls,
        source: int,
        *,
        send_threshold: int = 1_000,
        max_age_ns: int = 10_000_000,
        max_bytes: int = 65_536,
        on_due: Callable[[], object] | None = None,
        on_first: Callable[[], object] | None = None,
    ) -> EventBatch: ...
    def rest(self) -> bool:
        """Have the next event call ``on_first``; until then nobody needs to look. ``False``: some are there already."""

    def close(self, refusal: Callable[[], NoReturn]) -> None:
        """Take no more events. What is buffered stays to be taken.

        Args:
            refusal: Raises what recording raises from now on.
        """

    def record(self, kind: int, request: int, ns: int, /) -> bool:
        """Add a mark: what happened to which request, and when. ``True``: a flush is due.

        Raises:
            ValueError: If ``kind`` is no event type.
        """

    def publish(
        self,
        kind: int,
        ns: int,
        request: int | None = None,
        session: str | None = None,
        conversation: str | None = None,
        turn: int | None = None,
        data: bytes | None = None,
        finish_reason: str | None = None,
    ) -> bool:
        """Add any event; ``data`` is one MessagePack value. ``True``: a flush is due.

        Raises:
            ValueError: If ``kind`` is no event type, or ``data`` not exactly one value.
        """

    def take(self) -> list[bytes]:
        """Return what is buffered as frames, in the order in which they must be sent, and forget it."""

    @property
    def buffered(self) -> int:
        """Events that are buffered."""

    @property
    def buffered_bytes(self) -> int:
        """Their bytes, without the heads of frames."""

    @property
    def oldest_ns(self) -> int | None:
        """The earliest stamp among them."""

@final
class EventQueue:
    """A run's finished frames on their way to whoever publishes them."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while frames wait."""

    def take(self, limit: int = 256) -> list[bytes]:
        """Take up to ``limit`` frames; those of the session come after everything that happened before them."""

    @property
    def dropped(self) -> int:
        """Events that found no room in the bounded rings so far."""

    def dropped_by_source(self) -> dict[int, int]:
        """Return them for each source that lost any."""

@final
class EventReader:
    """Iterates over the whole frames of an event log."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> bytes: ...
    @property
    def offset(self) -> int:
        """Where to go on reading later."""

    @property
    def damaged(self) -> int:
        """Bytes passed over because no frame could be made of them; an unfinished end is none of them."""

@final
class MockServer:
    """A mock server on threads of its own.

    Args:
        config: ``mock::Config``.
    """

    def __new__(cls, config: str) -> MockServer: ...
    @property
    def url(self) -> str:
        """Where it listens."""

    def truth(self, rows: bool = False) -> str:
        """Return what it really did; with ``rows`` of each request."""

    def reset_truth(self) -> None:
        """Forget what it did so far."""

    def stop(self) -> None:
        """Stop serving and end its threads. May be called again."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...

def mock_faults() -> list[tuple[str, str]]:
    """Return each fault's name and what it does."""

def summarise(dir: str | PathLike[str], options: str) -> str:
    """Derive a summary from the ``run.log`` of a run's directory."""

@final
class Plan:
    """What a phase sends when: the code that the engine's workers run.

    Args:
        load: ``Load`` of ``rust/src/schedule/load.rs``.
        order: ``sequential``, ``without_replacement``, ``with_replacement`` or ``single``.
        samples: How many samples there are.
        seed: Seed of arrivals and order.
    """

    def __new__(cls, load: str, order: str, samples: int, seed: int = 0) -> Plan: ...
    @property
    def length(self) -> int | None:
        """How many requests it has, ``None`` where it has no end; stages are walked to theirs at each call."""

    def block(self, start: int, count: int) -> tuple[bytes | None, bytes]:
        """Return offsets and samples of ``count`` requests from ``start``, fewer where the plan ends before.

        Both are little-endian u64; offsets are nanoseconds after the phase's start, ``None`` for a closed loop. A
        random process is walked up to ``start``, some 20 ns for each request skipped; going back starts at 0 again.
        """

_Action: TypeAlias = tuple[int, int, int, int, int, int]
_Item: TypeAlias = tuple[int, int, int, int | None, int | None, int, int, int]
_Attempt: TypeAlias = tuple[int, int, int, int, int, int, int | None, int | None, int, int]
_Node: TypeAlias = tuple[float | None, int, int, int, int, int, int, int]
_Trace: TypeAlias = tuple[list[int], list[int], list[float | None], list[int], list[int]]
_Quota: TypeAlias = tuple[int | None, int | None, int | None]

@final
class Policy:
    """Decides which item is called for when, and when its call is copied, tried again, dropped or given up.

    It has no clock: whoever drives it tells the time in nanoseconds of any clock that doesn't step back. Items and
    attempts are numbered from 0, in the order of queueing and of starting. What nobody knows (an attempt that was never
    started, an end told twice) changes nothing.

    Args:
        config: JSON as ``policy_config`` makes it.
        seed: The same seed and the same events give the same actions.
        record: Keep what is told and asked, for ``recording``.
    """

    def __new__(cls, config: str, seed: int = 0, *, record: bool = False) -> Policy: ...
    def queue(self, now: int, count: int, key: int = 0, tokens: int = 0) -> int:
        """Let ``count`` more items wait, and return the number of the first.

        Args:
            now: Nanoseconds.
            count: How many.
            key: Whose hedges are judged together.
            tokens: What each is expected to cost, 0 where unknown.
        """

    def close(self, now: int) -> None:
        """Tell that no more items come."""

    def first_byte(self, now: int, attempt: int) -> None:
        """Tell that an attempt's answer has begun."""

    def first_token(self, now: int, attempt: int) -> None:
        """Tell that an attempt's first token has come; where answers are streamed, this copy has won."""

    def ended(
        self,
        now: int,
        attempt: int,
        outcome: int = 0,
        status: int = 0,
        retry_after_ns: int | None = None,
        tokens_in: int = 0,
        tokens_out: int = 0,
        retryable: int = 0,
    ) -> None:
        """Tell how an attempt ended. After a cancel it is welcome, and only adds its cost.

        Args:
            now: Nanoseconds.
            attempt: Which.
            outcome: 0 answer, 1 pushed back, 2 failed, 3 timed out, 4 stalled, 5 broken after its first token,
                6 cancelled by somebody else than the policy, 7 no connection came about.
            status: HTTP status, 0 where there is none. The policy itself tells push-back by it.
            retry_after_ns: How long the service wished to wait.
            tokens_in: Tokens of the prompt, 0 where unknown.
            tokens_out: Tokens of the answer, 0 where unknown.
            retryable: Whether trying again can help: 0 by the status, 1 yes, 2 no.
        """

    def ended_poll(self, now: int, attempt: int, tokens_in: int = 0, tokens_out: int = 0) -> list[_Action]:
        """Tell that an attempt ended with an answer, and poll: both in one crossing."""

    def cancel(self, now: int, item: int) -> None:
        """Tell that nobody wants the item any more."""

    def told(self, now: int, *, requests: _Quota | None = None, tokens: _Quota | None = None) -> None:
        """Tell what an answer's headers said: limit a minute, what remains, nanoseconds until all is there again."""

    def room(self, now: int, node: int, slots: int) -> None:
        """Tell how many items a node takes at the same time from now on: 0 for none, while it is down.

        A node that learns how many items a request carries takes at most so many in one.
        """

    def poll(self, now: int) -> list[_Action]:
        """Return what is to be done now, in this order: to be called after each event and at the next deadline.

        Each is ``(0, attempt, item, kind, node, deadline_ns)``: start, with kind 0 first, 1 retry, 2 hedge, 3 probe;
        ``(1, attempt, -1, why, 0, 0)``: cancel, with why 0 lost, 1 timed out, 2 caller left, 3 call timed out; or
        ``(2, attempt, item, verdict, 0, 0)``: the item is done, with verdict 0 ok, 1 failed, 2 timed out, 3 cancelled,
        4 given up, and the attempt whose answer or error stands or -1. The last comes once for each item.
        """

    def next_deadline(self) -> int | None:
        """Return when to poll next, if nothing else happens; ``None`` while only an event can change anything."""

    def is_done(self) -> bool:
        """Return whether no more items come and all are done."""

    def forget(self) -> None:
        """Forget the oldest items that are done, and the oldest attempts that are over, up to the first that isn't.

        For a policy that never ends, and of whose calls nobody asks what they met. No decision depends on them.
        """

    def item(self, item: int) -> _Item:
        """Return when it was queued, key, tokens, verdict, winner, and its waits, in nanoseconds.

        The waits are in line while no permit was free, in line while a rate held everybody back, and of
        backing off.
        """

    def attempts_of(self, item: int) -> list[_Attempt]:
        """Return an item's attempts in the order of their start.

        Each is its number, kind, node, fate (0 to 6 as an outcome, 7 lost against a copy, 8 goes on), status; when it
        was started, its first byte came and it ended, in nanoseconds; tokens in and out.
        """

    def nodes(self) -> list[_Node]:
        """Return what is known of each node, where the policy has a ``route``; else none.

        Each is the seconds that an item takes there (``None`` if nothing was seen), attempts in flight, answered,
        failed and dropped, failures since the last answer, its state (0 up, 1 half-open, 2 down), and the most items
        that a request carries.
        """

    def totals(self) -> dict[str, int]:
        """Return what happened so far, by the names of ``Totals`` of ``rust/src/policy/totals.rs``."""

    def trace(self) -> _Trace:
        """Return times in nanoseconds, limits, rates a second or ``None``, attempts in flight, copies among them."""

    def recording(self) -> str | None:
        """Return what was told and asked as JSON, for ``replay_policy``; ``None`` without ``record``."""

def policy_config(
    strategy: str, max_concurrency: int, overrides: str | None = None, *, profile: str | None = None
) -> str:
    """Return the JSON of a policy, with every value spelled out.

    Args:
        strategy: ``sequential``, ``parallel``, ``adaptive_ceiling``, ``hedged`` or ``auto``.
        max_concurrency: Attempts in flight at most.
        overrides: A JSON object that is laid over the policy's own, key by key and to any depth; an object of another
            ``kind`` takes the place of the one that is there.
        profile: ``fmsr`` for the values of the published experiment.
    """

def simulate_nodes(
    nodes: str, items: int, seeds: Sequence[int], *, spread: str = '"auto"', known: bool = False
) -> tuple[float, list[tuple[float, int, int, int, list[int]]]]:
    """Run a batch over nodes of unequal speed in virtual time, by the policy that drives real ones.

    Args:
        nodes: JSON: a list of ``NodeService`` of ``rust/src/sim/nodes.rs``.
        items: How many there are.
        seeds: One batch for each.
        spread: JSON: ``"auto"``, ``"all"`` or ``{"fastest": 3}``.
        known: The nodes' mean times have been measured before.

    Returns:
        The least seconds that whole items allow; and for each seed the seconds to the last item's end, items answered,
        items not answered, copies, and the answers by node.

    Raises:
        ValueError: If nodes or spread can't be read, or are none that can be.
    """

def replay_policy(config: str, seed: int, recording: str) -> tuple[list[_Action], list[_Action]]:
    """Return the actions that come of a recording now, and those that came when it was made."""

def random_regime(seed: int) -> tuple[int, str]:
    """Return calls and service (JSON) drawn at random.

    Stalls 0 to 15 %, capacity 4 to 200, half of them with 1 to 50 calls a second, 20 to 400 calls.
    """

def regime(name: str) -> tuple[int, str]:
    """Return calls and service (JSON) of a regime of the published experiment, ``R0`` to ``R6``."""

_Batch: TypeAlias = tuple[int, int, int, int, int, int]

def simulate(config: str, service: str, items: int, seeds: Sequence[int]) -> list[_Batch]:
    """Make ``items`` calls of a service in virtual time as a policy says, once for each seed.

    The same seed gives the same service to every policy, call for call.

    Args:
        config: JSON as ``policy_config`` makes it.
        service: JSON as ``regime`` returns it (``Service`` of ``rust/src/sim/service.rs``).
        items: Calls of a batch.
        seeds: One for each batch.

    Returns:
        For each: wall time in nanoseconds, attempts, copies among them, calls that the service refused, items without
        an answer, and how often the limit was cut.
    """

def simulate_whole(config: str, service: str, items: int, seed: int = 0, *, record: bool = False) -> tuple[int, Policy]:
    """Make them once; return the wall time in nanoseconds, and the policy, which knows each item and attempt."""

@final
class RowReader:
    """Iterates over a log's rows, a batch of columns at a time: ``{name: (format, data, validity)}``.

    ``format`` is the width of a value (``C``, ``S``, ``I``, ``L``: 8 to 64 unsigned bits), ``data`` holds the values in
    little-endian order, ``validity`` Arrow's bitmap or ``None`` where every row has a value.
    """

    def __iter__(self) -> RowReader: ...
    def __next__(self) -> dict[str, tuple[str, bytes, bytes | None]]: ...

@final
class SampleOrder:
    """Iterates over sample indices without end.

    Args:
        kind: ``sequential``, ``without_replacement``, ``with_replacement`` or ``single``.
        n: How many samples there are, at least 1.
        seed: The same seed gives the same order.
    """

    def __new__(cls, kind: str, n: int, seed: int = 0) -> SampleOrder: ...
    def sample(self, i: int) -> int:
        """Return the sample of request ``i``, wherever the iteration stands."""

    def __iter__(self) -> SampleOrder: ...
    def __next__(self) -> int: ...

def read_events(dir: str | PathLike[str], topics: Sequence[str] | None = None, *, offset: int = 0) -> EventReader:
    """Open the ``events.log`` of a run.

    Args:
        dir: The run's directory.
        topics: Topics such as ``sample.issued``, or categories such as ``error.``; without any all.
        offset: Where to start: 0, or an earlier reader's ``offset``.

    Raises:
        OSError: If there is no such log, or it can't be read.
        ValueError: If it is no log, or a topic is none.
    """

def read_rows(
    dir: str | PathLike[str],
    *,
    phase: int | None = None,
    children: bool = True,
    token_counts: str | PathLike[str] | None = None,
) -> RowReader:
    """Open the rows of the ``run.log`` in a run's directory (docs/formats.md).

    Args:
        dir: The directory.
        phase: Only the rows of the phase with this number.
        children: With the rows' reads and attempts.
        token_counts: A file of the directory with a tokenizer's counts, which rows without usage then have.
    """

def arrow_rows(
    dir: str | PathLike[str], *, phase: int | None = None, token_counts: str | PathLike[str] | None = None
) -> CapsuleType:
    """Return the rows of a run, without their reads and attempts, as an ``arrow_array_stream`` capsule.

    Args:
        dir: The run's directory.
        phase: As for ``read_rows``.
        token_counts: As for ``read_rows``.
    """

def arrow_rows_schema() -> CapsuleType:
    """Return the schema of ``arrow_rows`` as an ``arrow_schema`` capsule."""

def row_columns() -> list[tuple[str, list[str] | None]]:
    """Return the names of a row's columns in order, each with the names of its codes where it has any."""

@final
class TextReader:
    """Iterates over the texts of a log: request, what it is, and its bytes."""

    def __iter__(self) -> TextReader: ...
    def __next__(self) -> tuple[int, Literal["error", "answer", "reasoning", "unkept"], bytes]: ...

def read_texts(dir: str | PathLike[str], which: Literal["errors", "answers"]) -> TextReader:
    """Open the texts of a run: ``errors`` of its ``run.log``, ``answers`` of its ``answers.log``."""

def now_ns() -> int:
    """Return the monotonic clock that all stamps are taken from, in nanoseconds."""

@final
class Segment:
    """The live metrics of a run of this process, in shared memory that other processes of this user may look into.

    The file is removed with the object; who has attached keeps what it saw.
    """

    @staticmethod
    def create(
        run: str, directories: Sequence[str | PathLike[str]] | None = None, *, reserve: int = 4_194_304
    ) -> Segment:
        """Make a segment; without shared memory it is this process's own. ``notes`` says what went otherwise.

        Args:
            run: The run's id, which names the file: 1 to 64 letters, digits, ``.``, ``_`` and ``-``.
            directories: Where to try, the best first; without any ``segment_directories()``.
            reserve: Bytes for series that there must be room for at once.

        Raises:
            ValueError: If the id can't name a file.
        """

    @staticmethod
    def attach(path: str | PathLike[str]) -> SegmentReader:
        """Look into the segment in a file.

        Raises:
            OSError: If it can't be opened, or is no segment, one of another version or byte order, cut or damaged;
                ``PermissionError`` if it isn't a file that this user alone may open.
        """

    @staticmethod
    def find(run: str, directories: Sequence[str | PathLike[str]] | None = None) -> SegmentReader:
        """Look into the segment of a run, wherever it is. Raises as ``attach`` does."""

    def counter(self, name: str, unit: str = "1", help: str = "", *, phase: int | None = None) -> Counter:
        """Register a counter.

        Raises:
            ValueError: If the phase has one of that name, or there is no room for the text or for one more entry.
        """

    def series(
        self,
        name: str,
        unit: str = "ns",
        help: str = "",
        *,
        phase: int | None = None,
        low: int = 1_000,
        high: int = ...,
    ) -> Series:
        """Register a series, which tells values from ``low`` to ``high`` (an hour) apart. Raises as ``counter``."""

    def begin(self, phase: int) -> None:
        """Say that a phase begins now."""

    def advance(self, state: str) -> None:
        """Go on to ``draining``, ``complete`` or ``interrupted``.

        Raises:
            ValueError: If that is no state, or one that lies behind.
        """

    def describe(self, about: str) -> None:
        """Say what the run is, to whoever looks at it: up to 3,896 bytes, once.

        Raises:
            ValueError: If that is more, empty, has control characters, or has been said before.
        """

    @property
    def about(self) -> str:
        """What was said of the run; empty before."""

    @property
    def state(self) -> str:
        """How the run stands."""

    @property
    def path(self) -> Path | None:
        """The file; ``None`` for memory of this process alone."""

    @property
    def notes(self) -> list[str]:
        """What went otherwise than wanted, in sentences."""

    def snapshot(self, *, percentiles: Sequence[float] | None = None, bins: int = 30, phase: int | None = None) -> str:
        """Return all counters and series at this moment (``Snapshot`` of ``rust/src/series/snapshot.rs``).

        Args:
            percentiles: 0 to 100, ascending; without any 50, 75, 90, 95, 99 and 99.9.
            bins: Bins of each histogram, at most.
            phase: Only this phase's entries, and those of the whole run.
        """

    def hdr(self, name: str, phase: int | None = None) -> bytes:
        """Return a series' histogram in HDR's V2 format, compressed; without a phase the newest of that name.

        Raises:
            LookupError: If there is none.
        """

    def remove(self) -> None:
        """Remove the file. May be called again."""

@final
class SegmentReader:
    """The live metrics of a run of any process of this user, each look checked before it is believed."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def run(self) -> str:
        """The run's id."""

    @property
    def about(self) -> str:
        """What was said of the run; empty as long as nobody has."""

    @property
    def alive(self) -> bool:
        """Whether the run's process lives. If not, and the state isn't a last one, it was killed."""

    @property
    def state(self) -> str:
        """How the run stands: ``live``, ``draining``, ``complete`` or ``interrupted``."""

    def snapshot(self, *, percentiles: Sequence[float] | None = None, bins: int = 30, phase: int | None = None) -> str:
        """As ``Segment.snapshot``. Raises as ``Segment.attach``, if the file was cut or damaged since."""

    def hdr(self, name: str, phase: int | None = None) -> bytes:
        """As ``Segment.hdr``. Raises as ``Segment.attach``, too, if the file was cut or damaged since."""

@final
class Counter:
    """A number that only grows."""

    def increment(self, n: int = 1, /) -> None:
        """Count ``n`` more."""

@final
class Series:
    """Values, of which exact statistics and a histogram are kept."""

    def record(self, value: int, /) -> None:
        """Record one value, in the series' unit, 0 or more."""

def segment_directories() -> list[Path]:
    """Return the directories that segments may lie in, the best first."""

def segments(directories: Sequence[str | PathLike[str]] | None = None) -> list[Path]:
    """Return the files of all segments, of live and dead runs."""

def clean_segments(directories: Sequence[str | PathLike[str]] | None = None) -> list[Path]:
    """Remove the segments of dead runs; which those were."""

def read_hdr(data: bytes) -> str:
    """Read a histogram in HDR's V2 format (``Imported`` of ``rust/src/series/hdr.rs``).

    Raises:
        ValueError: If it is none.
    """

def retry_after(headers: _Headers, wall_ns: int) -> int | None:
    """Return the nanoseconds that an answer's headers ask to wait; ``None`` where they don't, or can't be read.

    ``retry-after-ms``, ``retry-after`` (seconds or a date; 0 for a moment that is over) and the same from a provider
    behind LiteLLM's proxy, in this order. A wait may be absurdly long: bound it.

    Args:
        headers: A mapping, or pairs of name and value; in text or bytes.
        wall_ns: The Unix time now, which dates are measured from.

    Raises:
        TypeError: If a name or a value is neither text nor bytes.
    """

def rate_hints(
    headers: _Headers, wall_ns: int
) -> tuple[tuple[int | None, int | None, int | None], tuple[int | None, int | None, int | None]] | None:
    """Return the rate limits that an answer's headers tell, of requests and of tokens; ``None`` where they tell none.

    Each is the limit of a whole period, what is left of it, and the nanoseconds until all of it is there again, as
    ``x-ratelimit-*`` and ``anthropic-ratelimit-*`` say it; ``None`` where nothing is said.

    Args:
        headers: As in :func:`retry_after`.
        wall_ns: Likewise.

    Raises:
        TypeError: If a name or a value is neither text nor bytes.
    """
