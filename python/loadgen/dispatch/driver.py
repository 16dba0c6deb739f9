"""Does on an event loop what the policy decides: starts, cancels and settles calls, and tells it how they ended.

One timer, one task or thread an attempt, and one look at the policy for all that happened in a turn of the loop. What
is decided is in Rust (``rust/src/policy``); the engine and the simulator drive the same.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import time
from typing import Any, Protocol

from loadgen import _core
from loadgen.dispatch import live
from loadgen.dispatch.callee import Callee
from loadgen.dispatch.classify import Classifier, Outcome, limits_in
from loadgen.dispatch.current import CURRENT, Attempt
from loadgen.dispatch.limits import TimeLimits, given_up
from loadgen.dispatch.stall import Stalls
from loadgen.dispatch.threads import Job, Threads
from loadgen.dispatch.usage import usage_of

START, CANCEL, RESOLVE = range(3)
OK, FAILED, TIMED_OUT, CANCELLED, GAVE_UP = range(5)

_LEAVE_S = 0.05
"""How long a cancelled task may take to close its connection before it counts as abandoned."""

_LONGEST_S = 1e6
"""A wait that a callable asks for is cut to this, in seconds; the policy's own bound is far below."""

_abandoned: set[asyncio.Task[None]] = set()


class Work(Protocol):
    """What the calls are and where their values go; the driver calls it on its loop."""

    def take(self, item: int) -> tuple[Callee, Any, contextvars.Context]:
        """Return what an attempt at an item calls, with what, and a context of its own."""
        ...

    def settle(self, item: int, value: Any, error: BaseException | None) -> None:
        """Take an item's value, or why it has none: once for each item."""
        ...

    def broken(self, error: BaseException) -> None:
        """Learn that nothing more is done, and why."""
        ...


class Driver:
    """Runs one policy on the running loop. Its clock is the loop's, from 0 at the driver's start, in nanoseconds.

    Args:
        policy: The policy, to be driven by nobody else.
        work: The calls.
        classifier: What exceptions mean.
        threads: At most so many threads for calls that block, abandoned ones included.
        limits: How long calls may take; no limit if ``None``. The policy keeps to all but the silence within an answer.
    """

    def __init__(
        self,
        policy: _core.Policy,
        work: Work,
        classifier: Classifier,
        *,
        threads: int,
        limits: TimeLimits | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._policy = policy
        self._work = work
        self._classifier = classifier
        self._threads = Threads(self.loop, self._returned, threads)
        self._limits = TimeLimits() if limits is None else limits
        silence_s = self._limits.stall_s
        self._stalls = None if silence_s is None else Stalls(self.loop, silence_s, self._stalled)
        self._start_s = self.loop.time()
        self._context = contextvars.copy_context()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0
        self._now_least = 0
        self._is_woken = False
        self._is_closed = False
        self._forgets = False
        self._live: dict[int, asyncio.Task[None] | Job | None] = {}
        self._leaving: dict[int, asyncio.Task[None] | Job] = {}
        self._values: dict[int, Any] = {}  # of attempts that succeeded, until the policy says who won
        self._errors: dict[int, dict[int, BaseException]] = {}  # of items: what their attempts raised

    def now(self) -> int:
        """Return the nanoseconds since the start."""
        now = int((self.loop.time() - self._start_s) * 1e9)
        return now if now > self._now_least else self._now_least  # noqa: FURB136  # twice a call, and max() costs more

    def queue(self, count: int, key: int = 0, tokens: int = 0) -> None:
        """Have more items called; their numbers go on from the last.

        Args:
            count: How many.
            key: Whose hedges are judged together.
            tokens: What each is expected to use; 0 where nobody knows.
        """
        self._policy.queue(self.now(), count, key, tokens)
        self._wake()

    def forget(self) -> None:
        """Let the policy forget what is over, as soon as all that it has decided by then is done."""
        self._forgets = True
        self._wake()

    def cancel(self, item: int) -> None:
        """Give up an item: nobody wants it any more."""
        self._policy.cancel(self.now(), item)
        self._wake()

    def failure(self) -> str:
        """Return why the latest call failed that is still to be made again; empty if there is none."""
        latest = next(reversed(self._errors.values()), {})
        return "".join(live.reason(error) for error in [*latest.values()][-1:])

    def room(self, node: int, slots: int) -> None:
        """Have a node take so many items at the same time from now on.

        Args:
            node: Which, by its index in the policy.
            slots: How many; 0 for none, while it can't be used.
        """
        self._policy.room(self.now(), node, slots)
        self._wake()

    def end_of_items(self) -> None:
        """Say that no more items come."""
        self._policy.close(self.now())

    def first_byte(self, told: Attempt) -> None:
        """Learn that an attempt's first byte has come."""
        if told.id in self._live:
            self._policy.first_byte(self.now(), told.id)
            self.chunk(told)
            self._wake()

    def first_token(self, told: Attempt) -> None:
        """Learn that an attempt's first token has come."""
        if told.id in self._live:
            self._policy.first_token(self.now(), told.id)
            self.chunk(told)
            self._wake()

    def chunk(self, told: Attempt) -> None:
        """Learn that a piece of an attempt's answer has come."""
        if self._stalls is not None and told.id in self._live:
            self._stalls.heard(told)

    def close(self) -> None:
        """Cancel what is in flight, and do nothing more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._stalls is not None:
            self._stalls.close()
        for attempt in list(self._live):
            self._cancel(attempt)
        self._threads.close()
        self._values.clear()
        self._errors.clear()

    async def leave(self) -> int:
        """Close, and let what was cancelled end; what ignores it is left behind, it holds nobody up.

        Returns:
            How many calls go on although nobody wants them: on threads, or because they ignore being cancelled.
        """
        self.close()
        tasks = [task for task in self._leaving.values() if isinstance(task, asyncio.Task)]
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=_LEAVE_S)
            for task in left:
                _abandoned.add(task)  # the loop itself holds its tasks weakly
                task.add_done_callback(_abandoned.discard)
        return len(self._leaving)

    def _wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            self.loop.call_soon(self._pump, context=self._context)

    def _tick(self) -> None:
        self._timer = None
        self._now_least = self._due  # a timer may be early by less than the clock's resolution
        self._pump()

    def _pump(self) -> None:
        """Do all that is due, then sleep until something happens or the policy's next deadline."""
        self._is_woken = False
        if self._is_closed:
            return
        try:
            for kind, attempt, item, detail, node, _ in self._policy.poll(self.now()):
                if kind == START:
                    self._start(attempt, item, detail, node)
                elif kind == CANCEL:
                    self._cancel(attempt)
                else:
                    self._resolve(item, attempt, detail)
            if self._forgets:
                self._forgets = False
                self._policy.forget()
            self._arm()
        except BaseException as error:
            self._break(error)  # the loop would only log it, and the batch would wait for ever
            if not isinstance(error, Exception):
                raise

    def _arm(self) -> None:
        """See to it that the timer rings at the next deadline; one that rings too early does no harm."""
        due = self._policy.next_deadline()
        if due is None or self._is_closed:
            return
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self.loop.call_at(self._start_s + due / 1e9, self._tick, context=self._context)

    def _start(self, attempt: int, item: int, kind: int, node: int) -> None:
        callee, argument, context = self._work.take(item)
        told = Attempt(self, attempt, item, kind, node)
        if not callee.is_async:
            context.run(CURRENT.set, told)
            job = Job(told, callee, argument, context)
            self._live[attempt] = job
            self._threads.submit(job)
            return
        self._live[attempt] = None  # an eager task may be over before there is a task to keep
        task = self.loop.create_task(self._attend(told, callee, argument), context=context)
        if attempt in self._live:
            self._live[attempt] = task

    async def _attend(self, told: Attempt, call: Any, argument: Any) -> None:
        """Await one attempt. Its end is told here, at the task's edge."""
        CURRENT.set(told)
        try:
            value = await call(argument)
        except BaseException as error:
            is_ours = told.id in self._leaving
            if isinstance(error, asyncio.CancelledError) and not is_ours and _is_ending(self.loop):
                self._left(told)
                self._break(error)  # else the next in line would be called when nobody is left who could take its value
                raise
            self._raised(told, error)
            if is_ours and isinstance(error, asyncio.CancelledError):
                raise
            if not isinstance(error, (Exception, asyncio.CancelledError)):
                # An interrupt: it goes on to whoever runs the loop, and nobody asks this task for it.
                task = asyncio.current_task()
                assert task is not None
                task.add_done_callback(lambda done: done.exception())
                raise
        else:
            self._gave(told, value)

    def _returned(self, job: Job, value: Any, error: BaseException | None) -> None:
        """Take what a thread's call gave; a coroutine is a call that belonged on the loop."""
        job.told.catch_up()
        attempt = job.told.id
        if error is not None:
            self._raised(job.told, error)
        elif not inspect.iscoroutine(value):
            self._gave(job.told, value)
        elif attempt in self._live:
            job.callee.is_async = True
            rest = self._attend(job.told, lambda made: made, value)
            task = self.loop.create_task(rest, context=job.context)
            if attempt in self._live:
                self._live[attempt] = task
        else:
            self._leaving.pop(attempt, None)
            value.close()

    def _gave(self, told: Attempt, value: Any) -> None:
        is_wanted = self._left(told)
        if self._is_closed:
            return
        if is_wanted:
            self._values[told.id] = value
        now = self.now()
        try:
            tokens_in, tokens_out = told.tokens or usage_of(value)
            self._policy.ended(now, told.id, Outcome.OK, 0, None, tokens_in, tokens_out)
            headers = getattr(value, "headers", None)
            if headers is not None and (limits := limits_in(headers)) is not None:
                self._told(now, limits)
        except Exception as problem:  # noqa: BLE001 - a value that can't be looked at: it ends the batch
            self._break(problem)
        self._wake()

    def _raised(self, told: Attempt, error: BaseException) -> None:
        is_wanted = self._left(told)
        if self._is_closed:
            return
        if not isinstance(error, (Exception, asyncio.CancelledError)):
            self._break(error)
            return
        if is_wanted:
            # Without our own frame, which would keep the whole batch alive as long as the error.
            error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
            self._errors.setdefault(told.item, {})[told.id] = error
        try:
            self._tell(told, error)
        except BaseException as problem:  # noqa: BLE001 - a user's own rule of what is push-back: it ends the batch
            self._break(problem)

    def _tell(self, told: Attempt, error: BaseException) -> None:
        end = self._classifier.ending(error)
        wait_ns = None
        if end.retry_after_s is not None:
            # What is negative or no number says nothing.
            wait_ns = round(min(end.retry_after_s, _LONGEST_S) * 1e9) if end.retry_after_s >= 0 else None
        elif end.headers is not None:
            wait_ns = _core.retry_after(end.headers, time.time_ns())
        now = self.now()
        tokens_in, tokens_out = told.tokens or (0, 0)
        self._policy.ended(now, told.id, end.outcome, end.status, wait_ns, tokens_in, tokens_out, end.retryable)
        if end.headers is not None:
            self._told(now, end.headers)
        self._wake()

    def _told(self, now: int, headers: Any) -> None:
        """Pass on what an answer's headers tell of the service's rate limits."""
        hints = _core.rate_hints(headers, time.time_ns())
        if hints is not None:
            self._policy.told(now, requests=hints[0], tokens=hints[1])

    def _left(self, told: Attempt) -> bool:
        """Forget an attempt that is over; whether anybody still wanted it."""
        if self._stalls is not None:
            self._stalls.forget(told)
        if told.id in self._live:
            del self._live[told.id]
            return True
        self._leaving.pop(told.id, None)
        return False

    def _stalled(self, told: Attempt) -> None:
        """End an attempt whose answer began and then fell silent."""
        if told.id in self._live:
            self._errors.setdefault(told.item, {})[told.id] = self._limits.stalled()
            self._cancel(told.id)
            self._policy.ended(self.now(), told.id, Outcome.STALLED)
            self._wake()

    def _cancel(self, attempt: int) -> None:
        task = self._live.pop(attempt, None)
        if isinstance(task, Job):
            if self._threads.cancel(task):
                self._leaving[attempt] = task
        elif task is None:
            self._values.pop(attempt, None)  # it succeeded too, in the same turn as the copy that won
        elif not task.done():
            self._leaving[attempt] = task
            # One that is cancelled before its first step ends without a word of ours.
            task.add_done_callback(lambda _: self._leaving.pop(attempt, None))
            task.cancel()

    def _resolve(self, item: int, winner: int, verdict: int) -> None:
        raised = self._errors.pop(item, {}) if self._errors else {}
        if verdict == OK:
            self._work.settle(item, self._values.pop(winner), None)
            return
        stands = raised.get(winner)
        is_over = verdict == TIMED_OUT and self._limits.is_over(self._lasted(item))
        if stands is None or is_over:  # the last error is why there was no answer before its time was up
            stands = self._why(item, verdict, next(reversed(raised.values()), None))
        self._work.settle(item, None, stands)

    def _why(self, item: int, verdict: int, error: BaseException | None) -> BaseException:
        made: BaseException
        if verdict == CANCELLED:
            made = asyncio.CancelledError()
        elif verdict == TIMED_OUT:
            made = self._limits.exceeded(len(self._policy.attempts_of(item)), self._lasted(item))
        else:
            made = given_up()
        made.__cause__ = error
        return made

    def _lasted(self, item: int) -> float:
        """Return the seconds since the first attempt at an item was started."""
        *_, started, _, _, _, _ = self._policy.attempts_of(item)[0]
        return (self.now() - started) / 1e9

    def _break(self, error: BaseException) -> None:
        if not self._is_closed:
            self.close()
            self._work.broken(error)


def _is_ending(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether everything on a loop is being cancelled, as at the end of ``asyncio.run``."""
    return all(task.cancelling() for task in asyncio.all_tasks(loop))
