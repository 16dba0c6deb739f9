"""A batch whose calls the engine makes: the policy runs beside the sockets, and Python takes answers in batches."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loadgen import _core
from loadgen.dispatch import ended as at
from loadgen.dispatch import remember
from loadgen.dispatch.columns import PolicyColumns
from loadgen.dispatch.ended import Ended
from loadgen.dispatch.limits import TimeLimits, given_up
from loadgen.dispatch.native_columns import EngineColumns
from loadgen.dispatch.native_run import Destination, NativeRun
from loadgen.dispatch.own_thread import on_own_thread
from loadgen.dispatch.requests import Answer
from loadgen.dispatch.result import Batch
from loadgen.dispatch.running import aside, journalled, keep
from loadgen.dispatch.watching import Watching
from loadgen.dispatch.work import BatchItems
from loadgen.errors import ConfigError, DispatchError, RequestError

if TYPE_CHECKING:
    from loadgen.dispatch.running import Beside
    from loadgen.dispatch.strategy import Options


async def run_requests(
    options: Options,
    service: Destination,
    items: Sequence[Any],
    codec: type | None = Answer,
    beside: Beside | None = None,
    absent: Sequence[int] = (),
) -> Batch[Any]:
    """Make a batch of requests natively.

    Args:
        options: How they are dispatched.
        service: Where they go.
        items: What is asked: prompts, messages or bodies.
        codec: What a journal reads values as; ``None`` for what JSON makes of them.
        beside: What goes on beside it; if that fails, so does the batch.
        absent: Nodes that take nothing until ``beside`` gives them room, by their numbers.

    Raises:
        ConfigError: If something can't be used; nothing was sent.
        DispatchError: If the batch could not be carried on.
    """
    _check(options)
    return await journalled(
        options.journal,
        service.described,
        items,
        lambda opened, restored: _run(options, service, BatchItems(items, options, opened, restored), beside, absent),
        codec,
    )


def needs_python(options: Options) -> bool:
    """Return whether something is to be asked of Python within a call: then requests can't be made natively.

    Args:
        options: How they are dispatched.
    """
    rule = options.push_back
    rules = rule if isinstance(rule, (list, tuple)) else [rule]
    return rule is not None and not all(isinstance(one, int) for one in rules)


def _check(options: Options) -> None:
    """Refuse what would need Python within a call.

    Raises:
        ConfigError: If something does.
    """
    if needs_python(options):
        raise ConfigError(
            "push_back holds a function or an exception, and no Python runs within native requests",
            "give a list of statuses, or make the calls in a function of your own: run(call, items)",
        )


async def _run(
    options: Options, service: Destination, work: BatchItems, beside: Beside | None, absent: Sequence[int]
) -> Batch[Any]:
    if not work.called:
        idle = _core.Policy(options.config(0), options.seed)  # its counts are 0, as those of a batch of functions
        return work.batch(PolicyColumns(idle, work.called, work.twins), wall_s=0.0)
    remembered = None if options.remember is None else remember.load(options.remember)
    policy = json.loads(options.config(len(work.called), remembered))
    if "streaming" not in options.overrides:
        policy["streaming"] = service.told["stream"]
    # Very many take their time to render: the loop goes on meanwhile.
    bodies = await on_own_thread(lambda: service.bodies([work.items[position] for position in work.called]))
    run = await NativeRun.begin(service, _phase(options, policy, work, absent), bodies)
    limits = TimeLimits.of(policy)
    columns = EngineColumns(run, work)
    watching = Watching(options, work, columns, run)
    task = None if beside is None else aside(run.loop, beside(run), work)
    try:
        run.listen(lambda ended: _settle(work, columns, service, limits, ended), work.broken)
        watching.begin()
        await work.done()
        wall_s = run.now() / 1e9
    except GeneratorExit:
        raise  # the loop is gone: nothing can be awaited any more
    except BaseException as error:
        wall_s = run.now() / 1e9
        await _abort(run, watching, task)
        if isinstance(error, DispatchError):
            error.batch = work.so_far(error, columns, wall_s=wall_s)
        raise
    try:
        columns.policy = await run.end(task)
    except DispatchError as error:
        # Every call has its value or its error: that they can't be accounted for takes none of them away.
        warnings.warn(f"the batch is whole, but what its calls met is lost: {error}", RuntimeWarning, stacklevel=2)
    except BaseException:
        watching.abort()
        raise
    watching.end()
    if columns.policy is not None:
        keep(options, columns.policy)
    return work.batch(columns, wall_s=wall_s)


def _phase(options: Options, policy: dict[str, Any], work: BatchItems, absent: Sequence[int]) -> dict[str, Any]:
    """Return the batch as a phase in the engine's words (``PhaseConfig`` of ``rust/src/engine/config.rs``)."""
    load: dict[str, Any] = {"kind": "dispatch", "policy": policy, "absent": list(absent)}
    if options.key is not None or options.tokens is not None:
        load["keys"], load["tokens"] = work.marks()
    return {
        "name": "batch",
        "load": load,
        "requests": len(work.called),
        "drain_timeout_s": 1e9,  # its calls have time limits of their own
        "seed": options.seed,
        "completions": "answers",
        "stop_early": False,
    }


async def _abort(run: NativeRun, watching: Watching, beside: asyncio.Task[None] | None) -> None:
    """End what an error ended: its caller gets that one, whatever else goes wrong."""
    try:
        await run.end(beside)
    except DispatchError as error:
        warnings.warn(f"as the batch ended: {error}", RuntimeWarning, stacklevel=2)
    finally:
        watching.abort()


def _settle(work: BatchItems, columns: EngineColumns, service: Destination, limits: TimeLimits, ended: Ended) -> None:
    """Take what became of a request: its answer, or its error."""
    request = ended[at.REQUEST]
    columns.ended(ended)
    if ended[at.FAILURE] != "none":
        work.settle(request, None, _error(service, limits, ended))
        return
    try:
        value = service.value(ended)
    except RequestError as error:
        work.settle(request, None, error)
    else:
        work.settle(request, value, None)


def _error(service: Destination, limits: TimeLimits, ended: Ended) -> DispatchError:
    failure, detail = ended[at.FAILURE], ended[at.DETAIL]
    if failure == "timeout":
        return limits.exceeded(ended[at.ATTEMPTS], (ended[at.DONE_NS] - ended[at.PLANNED_NS]) / 1e9)
    if ended[at.NODE] is None:
        return given_up()
    words = service.words(ended)
    if failure == "stall" and limits.stall_s is not None:
        words = words or f"stall: the answer began, and nothing more of it came within {limits.stall_s:g} s"
    rule = "" if detail == "none" else f": {detail}"
    return RequestError(words or f"{failure}{rule}", failure=failure, status=ended[at.STATUS])
