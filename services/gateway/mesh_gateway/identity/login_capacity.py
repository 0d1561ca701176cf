"""Logins are refused here while auth has no room to hash another password."""

from collections.abc import Awaitable
from typing import Final

from mesh_common.clock import Clock
from mesh_common.errors import Unavailable

from mesh_gateway.metrics import LOGINS_HELD_BACK

# auth's queue is some seconds long: it does not run empty meanwhile.
_PAUSE_S: Final = 0.25
_REASON: Final = "LOGIN_CAPACITY"


class LoginRoom:
    """What auth refused one login for it is not asked again for a quarter of a second, with the same answer to all.

    A refusal of auth's costs the gateway two rate limits and a call, and in a storm of logins those who chat wait for
    it: refusals are as many as there are people, and only what auth hashes is bounded.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._closed_until_s = 0.0
        self._message = ""
        self._retry_after_s: float | None = None

    def require(self) -> None:
        """Raises Unavailable when auth had none a moment ago."""
        if self._clock.monotonic_s() < self._closed_until_s:
            LOGINS_HELD_BACK.inc()
            raise Unavailable(self._message, reason=_REASON, retry_after_s=self._retry_after_s)

    async def heard[T](self, answer: Awaitable[T]) -> T:
        """auth's answer; a refusal for want of room closes this one."""
        try:
            return await answer
        except Unavailable as error:
            if error.reason == _REASON:
                self._closed_until_s = self._clock.monotonic_s() + _PAUSE_S
                self._message, self._retry_after_s = error.message, error.retry_after_s
            raise
