"""Argon2id in its own bounded pool of threads, and bcrypt for hashes that other systems left.

argon2-cffi and bcrypt let go of the GIL, so threads are enough; the event loop goes on serving tokens and keys
while logins queue up.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final

import argon2
import bcrypt
import structlog
from argon2.exceptions import InvalidHashError, VerificationError
from mesh_common.caller import remaining_s
from mesh_common.errors import DeadlineExceeded, Unavailable
from mesh_common.telemetry import tracer

from mesh_auth.domain import PasswordCheck
from mesh_auth.metrics import HASH_JOBS, HASH_REFUSALS, HASH_SECONDS

log = structlog.get_logger()

# OWASP Password Storage Cheat Sheet, second choice of its equal settings: 19 MiB, two passes, one lane; 20 ms here.
_MEMORY_KIB: Final = 19 * 1024
_TIME_COST: Final = 2
_PARALLELISM: Final = 1
_BCRYPT_PREFIXES: Final = ("$2a$", "$2b$", "$2y$")
_KNOWN_PREFIXES: Final = ("$argon2", *_BCRYPT_PREFIXES)
# What bcrypt reads; libraries before bcrypt 5 cut the rest off silently, and old hashes were made so.
_BCRYPT_MAX_BYTES: Final = 72
# Longest wait: what a full default queue takes on one slow core. A caller's deadline cuts it short.
_LIMIT_S: Final = 20.0
_RETRY_AFTER_S: Final = 1.0
# Nobody's password: unknown accounts are verified against its hash, so that they take the same time.
_DUMMY_PASSWORD: Final = "no account has this password"  # noqa: S105 - and none can: it has no account


class Argon2Hasher:
    """Hashes on the pool's threads, at most `max_jobs` running or waiting.

    One that still waits when its caller gives up is never hashed.
    """

    def __init__(self, pool: ThreadPoolExecutor, *, max_jobs: int, argon2id: argon2.PasswordHasher) -> None:
        self._pool = pool
        self._max_jobs = max_jobs
        self._argon2id = argon2id
        self._dummy_hash = argon2id.hash(_DUMMY_PASSWORD)
        self._jobs = 0

    async def hash(self, password: str) -> str:
        return await self._run(lambda: self._argon2id.hash(password))

    async def verify(self, password: str, password_hash: str | None) -> PasswordCheck:
        return await self._run(lambda: self._verify(password, password_hash))

    def _verify(self, password: str, password_hash: str | None) -> PasswordCheck:
        if password_hash is None or not password_hash.startswith(_KNOWN_PREFIXES):
            self._is_argon2_match(password, self._dummy_hash)
            return PasswordCheck(is_match=False)
        if password_hash.startswith(_BCRYPT_PREFIXES):
            return PasswordCheck(_is_bcrypt_match(password, password_hash), needs_rehash=True)
        is_match = self._is_argon2_match(password, password_hash)
        return PasswordCheck(is_match, needs_rehash=is_match and self._argon2id.check_needs_rehash(password_hash))

    def _is_argon2_match(self, password: str, password_hash: str) -> bool:
        try:
            return self._argon2id.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run[T](self, job: Callable[[], T]) -> T:
        if self._jobs >= self._max_jobs:
            HASH_REFUSALS.labels("full").inc()
            raise Unavailable(
                "Too many people are logging in right now. Try again.",
                reason="LOGIN_CAPACITY",
                retry_after_s=_RETRY_AFTER_S,
            )
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
        future = self._pool.submit(job)
        self._count(1)
        # Counted until the thread is free again, which may be after its caller left.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._count, -1))
        return future

    def _count(self, change: int) -> None:
        self._jobs += change
        HASH_JOBS.set(self._jobs)


def _is_bcrypt_match(password: str, password_hash: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode()[:_BCRYPT_MAX_BYTES], password_hash.encode())
    except ValueError:  # not a hash after all
        return False


@asynccontextmanager
async def open_hasher(*, workers: int, queue: int) -> AsyncIterator[Argon2Hasher]:
    argon2id = argon2.PasswordHasher(time_cost=_TIME_COST, memory_cost=_MEMORY_KIB, parallelism=_PARALLELISM)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="hash")
    try:
        yield Argon2Hasher(pool, max_jobs=workers + queue, argon2id=argon2id)
    finally:
        pool.shutdown(cancel_futures=True)
