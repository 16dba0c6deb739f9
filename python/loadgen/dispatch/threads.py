"""Threads for callables that block: as many as are needed up to a bound, none of which the interpreter waits for.

A thread can't be cancelled. A call that lost or timed out is abandoned: its thread goes on until the call returns, and
counts against the bound, so that a service which never answers can't fill the machine with threads.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loadgen.dispatch.callee import Callee
    from loadgen.dispatch.current import Attempt


class Job:
    """One attempt on a thread.

    Args:
        told: The attempt.
        callee: What is called.
        argument: What it is called with.
        context: The context variables it sees.
    """

    __slots__ = ("argument", "callee", "context", "has_begun", "is_cancelled", "told")

    def __init__(self, told: Attempt, callee: Callee, argument: Any, context: contextvars.Context) -> None:
        self.told = told
        self.callee = callee
        self.argument = argument
        self.context = context
        self.has_begun = False
        self.is_cancelled = False


Deliver = Callable[[Job, Any, BaseException | None], None]


class Threads:
    """The threads of one batch. They are started when a call finds none free.

    Args:
        loop: The loop on which results are delivered.
        deliver: Called on the loop with a job, its value and its exception.
        most: At most so many threads; what finds none waits for one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Deliver, most: int) -> None:
        self._loop = loop
        self._deliver = deliver
        self._most = most
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._ended: deque[tuple[Job, Any, BaseException | None]] = deque()
        self._lock = threading.Lock()
        self._idle = 0  # threads that wait for a job which nobody has promised them
        self._queued = 0  # jobs that no thread was free for
        self._count = 0
        self._is_woken = False
        self._is_closed = False

    def submit(self, job: Job) -> None:
        """Have a job done; called on the loop's thread."""
        with self._lock:
            is_new = not self._idle and self._count < self._most
            if is_new:
                self._count += 1
            elif self._idle:
                self._idle -= 1
            else:
                self._queued += 1
            number = self._count
        self._jobs.put(job)
        if is_new:
            threading.Thread(target=self._work, name=f"loadgen-call-{number}", daemon=True).start()

    def cancel(self, job: Job) -> bool:
        """Don't begin a job; one that has begun can't be stopped, and is delivered when its call returns.

        Returns:
            Whether it has begun.
        """
        with self._lock:
            job.is_cancelled = True
            return job.has_begun

    def close(self) -> None:
        """Let all threads end: idle ones now, the others when their calls return. Nothing is delivered any more."""
        with self._lock:
            self._is_closed = True
            count = self._count
        for _ in range(count):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            with self._lock:
                job.has_begun = not job.is_cancelled
            if job.has_begun:
                self._do(job)
            del job  # a job that waits for the next holds nothing of this one
            with self._lock:
                if self._queued:
                    self._queued -= 1
                else:
                    self._idle += 1

    def _do(self, job: Job) -> None:
        value, problem = None, None
        try:
            value = job.context.run(job.callee, job.argument)
        except BaseException as error:  # noqa: BLE001 - the thread's edge: it is told where the attempt ends
            problem = error
        with self._lock:
            if self._is_closed:
                return
            self._ended.append((job, value, problem))
            is_first, self._is_woken = not self._is_woken, True
            if not is_first:
                return
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop was closed under a call that had been abandoned
                self._is_closed = True

    def _drain(self) -> None:
        with self._lock:
            self._is_woken = False
            ended = list(self._ended)
            self._ended.clear()
        for job, value, problem in ended:
            self._deliver(job, value, problem)
