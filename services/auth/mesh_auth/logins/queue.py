"""Logins that wait because as many others of the same account are in progress as may fail."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from mesh_common.caller import remaining_s
from mesh_common.errors import RateLimited

from mesh_auth.metrics import LOGINS, LOGINS_WAITING

# Other replicas have logins of the account too, so only the database knows when one has ended. Of those that wait for
# the same logins, only the first asks.
_POLL_S: Final = 0.05
# Each takes a task and its request. A person or an office has far fewer.
_MAX_WAITING: Final = 256


class TooManyPending(RateLimited):
    """Other logins counted under `key` are in progress, and their outcome decides whether this one may be tried."""

    def __init__(self, key: bytes) -> None:
        super().__init__("Too many logins to one account at the same time. Wait a moment.", retry_after_s=1.0)
        self.key = key


class LoginQueue:
    """The waiting logins of this replica. Those that wait for the same ones are tried in the order of their arrival."""

    def __init__(self, wait_s: float, *, max_waiting: int = _MAX_WAITING) -> None:
        self._wait_s = wait_s
        self._max_waiting = max_waiting
        self._turns: dict[bytes, _Turn] = {}
        self.waiting = 0

    async def admitted[T](self, admit: Callable[[], Awaitable[T]]) -> T:
        """Repeats `admit` while it raises TooManyPending. Lets that pass after `wait_s`, and if too many are waiting.

        `admit` is never interrupted: it might have counted the login already.
        """
        try:
            return await self._admitted(admit)
        except TooManyPending:
            LOGINS.labels("crowded").inc()
            raise

    async def _admitted[T](self, admit: Callable[[], Awaitable[T]]) -> T:
        try:
            return await admit()
        except TooManyPending as error:
            if self.waiting >= self._max_waiting:
                raise
            first = error
        deadline_s = asyncio.get_running_loop().time() + remaining_s(self._wait_s)
        async with self._turn(first, deadline_s):
            while True:
                try:
                    return await admit()
                except TooManyPending:
                    if asyncio.get_running_loop().time() + _POLL_S > deadline_s:
                        raise
                await asyncio.sleep(_POLL_S)

    @asynccontextmanager
    async def _turn(self, error: TooManyPending, deadline_s: float) -> AsyncIterator[None]:
        """Ends the wait for logins that came earlier. Raises `error` at the deadline."""
        turn = self._turns.setdefault(error.key, _Turn())
        turn.logins += 1
        self.waiting += 1
        LOGINS_WAITING.inc()
        try:
            try:
                async with asyncio.timeout_at(deadline_s):
                    await turn.lock.acquire()
            except TimeoutError:
                raise error from None
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            self.waiting -= 1
            LOGINS_WAITING.dec()
            turn.logins -= 1
            if not turn.logins:
                del self._turns[error.key]


class _Turn:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.logins = 0
