"""How long a request may wait for a connection of a pool.

Controlled delay (Nichols and Jacobson, ACM Queue 2012): a burst may wait, because its queue empties. A queue that does
not empty is overload, in which waiting helps nobody: a request is then refused almost at once and told when to return.
Background work, e.g. the end of a run, still waits as long as the pool allows.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from mesh_common.caller import is_serving
from mesh_common.errors import Unavailable
from mesh_common.process.metrics import DATABASE_REFUSED

# A turn holds a connection for 5 to 50 ms, so the queue of a burst empties within this time.
_BURST_S: Final = 1.0
# Some requests must get through: as many as the pool serves in this time, so that no connection stays idle.
_WAIT_IN_OVERLOAD_S: Final = 0.1
_RETRY_AFTER_S: Final = 1.0


class PoolQueue:
    """The queue for the connections of one pool."""

    def __init__(
        self, pool: str, is_full: Callable[[], bool], monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        """`pool` labels the metric. `is_full`: whether all connections are in use."""
        self._refused = DATABASE_REFUSED.labels(pool)
        self._is_full = is_full
        self._monotonic_s = monotonic_s
        self._had_room_at_s = monotonic_s()

    async def take[C](self, take: Callable[[], Awaitable[C]]) -> C:
        """A connection. Raises Unavailable for a request in overload, and what `take` raises."""
        now_s = self._monotonic_s()
        if not self._is_full():
            self._had_room_at_s = now_s
            return await take()
        if now_s - self._had_room_at_s < _BURST_S or not is_serving():
            return await take()
        try:
            async with asyncio.timeout(_WAIT_IN_OVERLOAD_S):
                return await take()
        except TimeoutError:
            self._refused.inc()
            raise Unavailable(
                "Too many requests right now. Try again.", reason="DATABASE_BUSY", retry_after_s=_RETRY_AFTER_S
            ) from None
