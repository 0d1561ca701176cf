"""Rate limits shared by all replicas through Redis; while Redis is unavailable, each replica counts alone.

A sliding-window counter: exact within the first minute, two numbers per key whatever the limit.
Headers follow draft-ietf-httpapi-ratelimit-headers-10.
"""

import asyncio
import hashlib
import math
import time
from dataclasses import dataclass
from typing import Any, Final

import structlog
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.util import WindowStats
from mesh_common.clock import Clock
from mesh_common.errors import RateLimited, Unavailable
from mesh_common.redis import redis_call
from redis.asyncio import Redis

from mesh_gateway.limits.redis_windows import SharedWindows
from mesh_gateway.metrics import LIMITS_LOCAL, REFUSALS
from mesh_gateway.request_record import RequestRecord

log = structlog.get_logger()

_WINDOW_S: Final = 60
# Each attempt to reach a dead Redis costs 0.25 s. One request every 5 s pays it; the others are counted locally.
_RETRY_REDIS_S: Final = 5.0
# Below the client's pool of 50, so that other calls find a connection, and few enough to connect within its 0.25 s: a
# burst must not look like a dead Redis. Sixteen concurrent calls are still thousands per second.
_MAX_CALLS: Final = 16
# As long as one call may take. Who waits longer is counted by this replica alone.
_WAIT_FOR_ROOM_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Limit:
    """`name` appears in headers, metrics and keys."""

    name: str
    per_minute: int

    def item(self) -> RateLimitItem:
        return RateLimitItemPerMinute(self.per_minute, namespace=f"mesh:{self.name}")


class RateLimiter:
    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis: Any = redis
        self._shared = SharedWindows(redis, key_prefix="mesh:limits")
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._clock = clock
        self._redis_after_s = float("-inf")
        self._is_local = False
        self._room = asyncio.Semaphore(_MAX_CALLS)

    async def watch(self) -> None:
        """While limits are local, tries Redis now and then, so that they are shared again without a request."""
        while True:
            await asyncio.sleep(_RETRY_REDIS_S)
            await self.look_for_redis()

    async def look_for_redis(self) -> None:
        if not self._is_local:
            return
        try:
            await redis_call(self._redis.ping())
        except Unavailable:
            self._redis_after_s = self._clock.monotonic_s() + _RETRY_REDIS_S
        else:
            self._share()

    async def charge(self, limit: Limit, identity: str, record: RequestRecord) -> None:
        """Counts one request and adds the limit's state to the response headers. Raises RateLimited."""
        item = limit.item()
        # Keys must not contain e-mail addresses in plain text.
        key = hashlib.sha256(identity.encode()).hexdigest()[:32]
        is_allowed, stats = await self._hit(item, key)
        reset_s = max(1, math.ceil(stats.reset_time - time.time()))
        _add_header(record, "RateLimit-Policy", f'"{limit.name}";q={limit.per_minute};w={_WINDOW_S}')
        _add_header(record, "RateLimit", f'"{limit.name}";r={max(0, stats.remaining)};t={reset_s}')
        if not is_allowed:
            REFUSALS.labels(limit.name).inc()
            raise RateLimited("Too many requests. Wait a moment.", retry_after_s=reset_s)

    async def _hit(self, item: RateLimitItem, key: str) -> tuple[bool, WindowStats]:
        try:
            async with asyncio.timeout(_WAIT_FOR_ROOM_S):
                await self._room.acquire()
        except TimeoutError:
            # Redis answers, but slowly. Without this, requests would queue for as long as more of them come.
            return await self._hit_here(item, key)
        try:
            return await self._hit_anywhere(item, key)
        finally:
            self._room.release()

    async def _hit_anywhere(self, item: RateLimitItem, key: str) -> tuple[bool, WindowStats]:
        now_s = self._clock.monotonic_s()
        if now_s < self._redis_after_s:
            return await self._hit_here(item, key)
        if self._is_local:
            # One request checks whether Redis is back; concurrent ones stay local.
            self._redis_after_s = now_s + _RETRY_REDIS_S
        try:
            result = await redis_call(self._shared.hit(item, key))
        except Unavailable:
            self._redis_after_s = now_s + _RETRY_REDIS_S
            self._report(is_local=True)
            return await self._hit_here(item, key)
        self._share()
        return result

    def _share(self) -> None:
        # A call that began before another one failed comes here too: its answer shows that Redis is there.
        self._redis_after_s = float("-inf")
        self._report(is_local=False)

    async def _hit_here(self, item: RateLimitItem, key: str) -> tuple[bool, WindowStats]:
        is_allowed = await self._local.hit(item, key)
        return is_allowed, await self._local.get_window_stats(item, key)

    def _report(self, *, is_local: bool) -> None:
        if is_local != self._is_local:
            self._is_local = is_local
            log.warning("rate_limits.changed", is_local=is_local)
            LIMITS_LOCAL.set(int(is_local))


def _add_header(record: RequestRecord, name: str, value: str) -> None:
    before = record.headers.get(name)
    record.headers[name] = f"{before}, {value}" if before else value
