"""Our single round trip gives the same results as the library's two, on the same keys."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.util import WindowStats
from mesh_common.ids import new_id
from mesh_common.redis import open_redis
from mesh_dev.valkey import EmbeddedValkey
from mesh_gateway.limits.redis_windows import SharedWindows
from pydantic import SecretStr
from redis.asyncio import Redis

PREFIX = "mesh:limits"
WINDOW_MS = 60_000


@dataclass(frozen=True)
class Both:
    """Our limiter and the library's, on the same key of the same server."""

    redis: Redis
    ours: SharedWindows
    library: SlidingWindowCounterRateLimiter
    item: RateLimitItem
    key: str

    async def leave_of_window(self, ms: int) -> None:
        """Simulates the passing of time: the current window ends in `ms`."""
        await self.redis.pexpire(f"{PREFIX}:{{{self.item.key_for(self.key)}}}", WINDOW_MS + ms)

    async def hit_by_library(self) -> tuple[bool, WindowStats]:
        return await self.library.hit(self.item, self.key), await self.library.get_window_stats(self.item, self.key)

    async def hit_by_us(self) -> tuple[bool, WindowStats]:
        return await self.ours.hit(self.item, self.key)


@pytest.fixture
async def both(valkey: EmbeddedValkey) -> AsyncIterator[Both]:
    async with open_redis(SecretStr(valkey.url)) as redis:
        pool: Any = redis.connection_pool
        storage = RedisStorage("redis://", implementation="redispy", key_prefix=PREFIX, connection_pool=pool)
        yield Both(
            redis,
            SharedWindows(redis, key_prefix=PREFIX),
            SlidingWindowCounterRateLimiter(storage),
            RateLimitItemPerMinute(4, namespace="mesh:chat"),
            str(new_id()),
        )


async def test_both_count_on_the_same_keys(both: Both) -> None:
    answers = [await hit() for hit in (both.hit_by_us, both.hit_by_library) * 3]

    assert [is_allowed for is_allowed, _ in answers] == [True] * 4 + [False] * 2
    assert [stats.remaining for _, stats in answers] == [3, 2, 1, 0, 0, 0]


@pytest.mark.parametrize("left_ms", [59_000, 45_000, 10_000, 1_000, -1_000, -25_000, -59_000])
async def test_a_passing_window_counts_as_in_the_library(both: Both, left_ms: int) -> None:
    """After its end a window becomes the previous one, whose weight decreases with time.

    The times avoid the border between two counts, because the two limiters are read a millisecond apart.
    """
    for _ in range(3):
        await both.hit_by_us()
    await both.leave_of_window(left_ms)

    _, stats = await both.hit_by_us()
    of_library = await both.library.get_window_stats(both.item, both.key)

    assert stats.remaining == of_library.remaining
    assert stats.reset_time == pytest.approx(of_library.reset_time, abs=0.5)


async def test_the_first_hit_begins_a_whole_window(both: Both) -> None:
    _, stats = await both.hit_by_us()

    assert stats.reset_time == pytest.approx(time.time() + WINDOW_MS / 1_000, abs=5)


async def test_a_hit_that_no_window_allows_leaves_it_as_it_is(both: Both) -> None:
    nothing = RateLimitItemPerMinute(0, namespace="mesh:chat")

    is_allowed, stats = await both.ours.hit(nothing, both.key)

    assert (is_allowed, stats.remaining) == (False, 0)
    assert not await both.redis.keys(f"*{both.key}*")
