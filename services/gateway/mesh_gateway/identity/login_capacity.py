"""Refuses logins locally while auth has no capacity to hash another password."""

from collections.abc import Awaitable
from typing import Final

from mesh_common.clock import Clock
from mesh_common.errors import Unavailable

from mesh_gateway.metrics import LOGINS_HELD_BACK

# auth's queue holds several seconds of work, so it does not run empty during the pause.
_PAUSE_S: Final = 0.25
_REASON: Final = "LOGIN_CAPACITY"


class LoginRoom:
    """After auth refuses a login for lack of capacity, refuses all logins for a quarter of a second with its error.

    A refusal by auth costs the gateway two rate-limit checks and a call. During a login storm that work delays chats:
    auth limits how many passwords it hashes, but the number of refusals grows with the number of people.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._closed_until_s = 0.0
        self._message = ""
        self._retry_after_s: float | None = None

    def require(self) -> None:
        """Raises Unavailable if auth reported no capacity within the pause."""
        if self._clock.monotonic_s() < self._closed_until_s:
            LOGINS_HELD_BACK.inc()
            raise Unavailable(self._message, reason=_REASON, retry_after_s=self._retry_after_s)

    async def heard[T](self, answer: Awaitable[T]) -> T:
        """Passes auth's answer on; a refusal for lack of capacity starts the pause."""
        try:
            return await answer
        except Unavailable as error:
            if error.reason == _REASON:
                self._closed_until_s = self._clock.monotonic_s() + _PAUSE_S
                self._message, self._retry_after_s = error.message, error.retry_after_s
            raise
