"""The sliding windows of `limits` in Redis, updated and read in one round trip: its two scripts run as one."""

import math
import time
from typing import Any, Final

from limits import RateLimitItem
from limits.aio.storage.redis.bridge import RedisBridge
from limits.util import WindowStats
from redis.asyncio import Redis

_SCRIPT: Final = f"""
local function acquire(KEYS, ARGV)
{RedisBridge.SCRIPT_ACQUIRE_SLIDING_WINDOW.decode()}
end
local function read(KEYS, ARGV)
{RedisBridge.SCRIPT_SLIDING_WINDOW.decode()}
end
return {{acquire(KEYS, ARGV), read(KEYS, {{ARGV[2]}})}}
"""


class SharedWindows:
    """Behaves as SlidingWindowCounterRateLimiter on RedisStorage: the same keys, counts and results.

    One difference: in the millisecond in which a window begins, the library reports that none of it is left.
    """

    def __init__(self, redis: Redis, *, key_prefix: str) -> None:
        self._script: Any = redis.register_script(_SCRIPT)
        self._key_prefix = key_prefix

    async def hit(self, item: RateLimitItem, key: str) -> tuple[bool, WindowStats]:
        """Whether one more hit is allowed, and the state of the window afterwards. Raises what redis-py raises."""
        # Braces keep both keys on one node of a cluster.
        current = f"{self._key_prefix}:{{{item.key_for(key)}}}"
        is_allowed, window = await self._script(
            keys=[f"{current}/-1", current], args=[item.amount, item.get_expiry(), 1]
        )
        return bool(is_allowed), _stats(item, *(max(0, int(value or 0)) for value in window))


def _stats(item: RateLimitItem, previous: int, previous_ttl_ms: int, current: int, current_ttl_ms: int) -> WindowStats:
    """How many hits are left, and when the next hit of either window expires."""
    window_ms = item.get_expiry() * 1_000
    used = math.floor(previous * previous_ttl_ms / window_ms + current)
    resets_ms = [0.0] if not previous and not current else []
    if previous:
        resets_ms.append(previous_ttl_ms % (window_ms / previous))
    if current:
        # The TTL is two windows when a window begins. Read at that very moment, a whole window is left, not none.
        resets_ms.append(min(current_ttl_ms, 2 * window_ms - 1) % window_ms)
    return WindowStats(time.time() + min(resets_ms) / 1_000, max(0, item.amount - used))
