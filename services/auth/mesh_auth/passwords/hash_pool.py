"""The bounded thread pool that hashes passwords.

All hashing libraries release the GIL, so threads suffice: the event loop keeps serving tokens and keys while logins
are queued.
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

# Longest wait of a caller without a deadline.
_LIMIT_S: Final = 20.0
_RETRY_AFTER_S: Final = 1.0
# Assumed duration of a hash (Argon2id on this machine) before any has been timed, and the weight of each newer one.
_FIRST_HASH_S: Final = 0.02
_NEWEST_WEIGHT: Final = 0.1
# A tenth of the CPU weight of auth's other threads, so that token and usage calls run first while passwords are hashed.
# Other sessions and containers are weighted by their group first, so this barely affects them.
_NICENESS: Final = 10


@dataclass(frozen=True, slots=True)
class Bounds:
    """`workers` threads hash. At most `queue` passwords wait, and none for longer than an estimated `wait_s`."""

    workers: int
    queue: int
    wait_s: float


class HashPool:
    """Runs hashing jobs. A job that is still waiting when its caller gives up never runs."""

    def __init__(self, threads: ThreadPoolExecutor, bounds: Bounds, clock: Clock) -> None:
        self._threads = threads
        self._bounds = bounds
        self._clock = clock
        self._hash_s = _FIRST_HASH_S
        self.jobs = 0
        """Running or waiting."""

    def require_room(self) -> None:
        """Raises Unavailable if a new job would wait too long, or if too many jobs are waiting."""
        bounds = self._bounds
        waiting = max(0, self.jobs + 1 - bounds.workers)
        # Even a short queue takes long if other programs use the cores: eventually no job would meet its deadline.
        wait_s = waiting * self._hash_s / bounds.workers
        if waiting > bounds.queue or wait_s > bounds.wait_s:
            HASH_REFUSALS.labels("full").inc()
            raise Unavailable(
                "Too many people are logging in right now. Try again.",
                reason="LOGIN_CAPACITY",
                retry_after_s=max(_RETRY_AFTER_S, wait_s),
            )

    async def run[T](self, job: Callable[[], T]) -> T:
        """Raises Unavailable, or DeadlineExceeded at the caller's deadline."""
        self.require_room()
        try:
            with HASH_SECONDS.time(), tracer.start_as_current_span("auth.hash_password", record_exception=False):
                async with asyncio.timeout(remaining_s(_LIMIT_S)):
                    # Cancelling it removes a job that is still waiting from the queue.
                    return await asyncio.wrap_future(self._submit(job))
        except TimeoutError:
            HASH_REFUSALS.labels("deadline").inc()
            raise DeadlineExceeded("The service did not answer in time.") from None

    def _submit[T](self, job: Callable[[], T]) -> Future[T]:
        loop = asyncio.get_running_loop()
        timed = _Timed(job, self._clock)
        future = self._threads.submit(timed)
        self._count(1)
        # Counted until the thread is free again, which may be after the caller has given up.
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
    """A job and its duration, which is None until it has run."""

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
    threads = ThreadPoolExecutor(bounds.workers, thread_name_prefix="hash", initializer=_lower_priority)
    try:
        yield HashPool(threads, bounds, clock)
    finally:
        threads.shutdown(cancel_futures=True)


def _lower_priority() -> None:
    """Lowers the calling thread's priority. Only on Linux, where, contrary to POSIX, each thread has its own."""
    if sys.platform == "linux":
        os.nice(_NICENESS)
