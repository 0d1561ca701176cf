"""Whether limits are shared, and what the gauge says about it."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from fakes.clock import FakeClock
from mesh_common.ids import new_id
from mesh_gateway.limits.rate_limit import Limit, RateLimiter
from mesh_gateway.metrics import LIMITS_LOCAL
from mesh_gateway.protocols.native.problems import ProblemDialect
from mesh_gateway.request_record import RequestRecord
from redis.exceptions import ConnectionError as RedisConnectionError

MANY = Limit("chat", 1_000)


class FakeRedis:
    """Answers, or has no connection. A call that has begun is answered when `may_answer` is set."""

    def __init__(self) -> None:
        self.is_full = False
        self.calls = 0
        self.has_begun = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    def register_script(self, script: str) -> Any:
        del script
        return self._hit

    async def ping(self) -> bool:
        self._connect()
        return True

    async def _hit(self, **arguments: Sequence[object]) -> tuple[int, tuple[int, int, int, int]]:
        del arguments
        self._connect()
        self.has_begun.set()
        await self.may_answer.wait()
        return 1, (0, 0, 1, 60_000)

    def _connect(self) -> None:
        self.calls += 1
        if self.is_full:
            raise RedisConnectionError("Too many connections")


@pytest.fixture
def redis() -> FakeRedis:
    return FakeRedis()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def limiter(redis: FakeRedis, clock: FakeClock) -> RateLimiter:
    parameter: Any = redis
    return RateLimiter(parameter, clock)


async def _charge(limiter: RateLimiter) -> None:
    await limiter.charge(MANY, str(new_id()), RequestRecord(trace_id="", started_s=0.0, dialect=ProblemDialect()))


async def test_answer_to_an_earlier_call_ends_local_limits(limiter: RateLimiter, redis: FakeRedis) -> None:
    """The gauge stayed at 1 for ever: the earlier call did not know that limits had become local meanwhile."""
    redis.may_answer.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(_charge(limiter))
        await redis.has_begun.wait()
        redis.is_full = True
        await _charge(limiter)
        while_full = LIMITS_LOCAL._value.get()
        redis.may_answer.set()

    assert (while_full, LIMITS_LOCAL._value.get()) == (1, 0)


async def test_limits_are_shared_again_without_a_request(limiter: RateLimiter, redis: FakeRedis) -> None:
    redis.is_full = True
    await _charge(limiter)
    await limiter.look_for_redis()
    while_full = LIMITS_LOCAL._value.get()

    redis.is_full = False
    await limiter.look_for_redis()

    assert (while_full, LIMITS_LOCAL._value.get()) == (1, 0)
    calls = redis.calls
    await _charge(limiter)
    assert redis.calls == calls + 1


async def test_redis_is_not_asked_while_limits_are_shared(limiter: RateLimiter, redis: FakeRedis) -> None:
    await _charge(limiter)
    await limiter.look_for_redis()

    assert redis.calls == 1


async def test_request_looks_for_redis_too(limiter: RateLimiter, redis: FakeRedis, clock: FakeClock) -> None:
    redis.is_full = True
    await _charge(limiter)
    redis.is_full = False
    clock.advance(timedelta(seconds=6))

    await _charge(limiter)

    assert LIMITS_LOCAL._value.get() == 0
