"""The bounded pool of threads that passwords are hashed on.

All the libraries that hash let go of the GIL, so threads are enough; the event loop goes on serving tokens and keys
while logins queue up.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from mesh_common.caller import remaining_s
from mesh_common.clock import Clock
from mesh_common.errors import DeadlineExceeded, Unavailable
from mesh_common.process.telemetry import tracer

from mesh_auth.metrics import HASH_JOBS, HASH_REFUSALS, HASH_SECONDS

# Longest wait of a caller that set no deadline.
_LIMIT_S: Final = 20.0
_RETRY_AFTER_S: Final = 1.0
# What a hash takes (Argon2id, here) until some have been timed, and how much each newer one counts then.
_FIRST_HASH_S: Final = 0.02
_NEWEST_WEIGHT: Final = 0.1
# A tenth of the weight of auth's other threads: whoever asks for a token or books usage goes first while passwords are
# hashed. Other sessions and containers are weighed by their group first, and feel little of it.
_NICENESS: Final = 10


@dataclass(frozen=True, slots=True)
class Bounds:
    """`workers` threads hash. At most `queue` passwords wait, and none that would wait longer than `wait_s`."""

    workers: int
    queue: int
    wait_s: float


class HashPool:
    """Runs jobs that hash. One that still waits when its caller gives up is never run."""

    def __init__(self, threads: ThreadPoolExecutor, bounds: Bounds, clock: Clock) -> None:
        self._threads = threads
        self._bounds = bounds
        self._clock = clock
        self._hash_s = _FIRST_HASH_S
        self.jobs = 0
        """Running or waiting."""

    def require_room(self) -> None:
        """Raises Unavailable when a job that came now would wait too long, or with too many."""
        bounds = self._bounds
        waiting = max(0, self.jobs + 1 - bounds.workers)
        # A short queue takes long where others have the cores: in the end none would be hashed before its deadline.
        wait_s = waiting * self._hash_s / bounds.workers
        if waiting > bounds.queue or wait_s > bounds.wait_s:
            HASH_REFUSALS.labels("full").inc()
            raise Unavailable(
                "Too many people are logging in right now. Try again.",
                reason="LOGIN_CAPACITY",
                retry_after_s=max(_RETRY_AFTER_S, wait_s),
            )

    async def run[T](self, job: Callable[[], T]) -> T:
        """Raises Unavailable, or DeadlineExceeded when the caller's time is up."""
        self.require_room()
        try:
            with HASH_SECONDS.time(), tracer.start_as_current_span("auth.hash_password", record_exception=False):
                async with asyncio.timeout(remaining_s(_LIMIT_S)):
                    # Its cancellation takes a job that still waits off the queue.
                    return await asyncio.wrap_future(self._submit(job))
        except TimeoutError:
            HASH_REFUSALS.labels("deadline").inc()
            raise DeadlineExceeded("The service did not answer in time.") from None

    def _submit[T](self, job: Callable[[], T]) -> Future[T]:
        loop = asyncio.get_running_loop()
        timed = _Timed(job, self._clock)
        future = self._threads.submit(timed)
        self._count(1)
        # Counted until the thread is free again, which may be after its caller left.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._end, timed.took_s))
        return future

    def _end(self, took_s: float | None) -> None:
        self._count(-1)
        if took_s is not None:
            self._hash_s += (took_s - self._hash_s) * _NEWEST_WEIGHT

    def _count(self, change: int) -> None:
        self.jobs += change
        HASH_JOBS.set(self.jobs)


class _Timed[T]:
    """A job, and how long it ran; None while it has not."""

    def __init__(self, job: Callable[[], T], clock: Clock) -> None:
        self._job = job
        self._clock = clock
        self.took_s: float | None = None

    def __call__(self) -> T:
        began_s = self._clock.monotonic_s()
        try:
            return self._job()
        finally:
            self.took_s = self._clock.monotonic_s() - began_s


@asynccontextmanager
async def open_hash_pool(bounds: Bounds, clock: Clock) -> AsyncIterator[HashPool]:
    threads = ThreadPoolExecutor(bounds.workers, thread_name_prefix="hash", initializer=_give_way)
    try:
        yield HashPool(threads, bounds, clock)
    finally:
        threads.shutdown(cancel_futures=True)


def _give_way() -> None:
    """Lowers the priority of the thread that calls it, where a thread has one of its own: on Linux, against POSIX."""
    if sys.platform == "linux":
        os.nice(_NICENESS)
