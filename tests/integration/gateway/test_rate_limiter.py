"""The limiter on a real Valkey that stops and starts again."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from mesh_common.errors import RateLimited
from mesh_common.ids import new_id
from mesh_common.redis import open_redis
from mesh_dev.valkey import EmbeddedValkey
from mesh_gateway.limits.rate_limit import Limit, RateLimiter
from mesh_gateway.protocols.native.problems import ProblemDialect
from mesh_gateway.request_record import RequestRecord
from pydantic import SecretStr
from support.net import free_port

ONE = Limit("chat", 1)


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path, free_port())
    await server.start()
    yield server
    await server.stop()


def _record() -> RequestRecord:
    return RequestRecord(trace_id="", started_s=0.0, dialect=ProblemDialect())


async def test_limits_are_local_while_redis_is_down_and_shared_when_it_is_back(
    own_valkey: EmbeddedValkey,
) -> None:
    clock = FakeClock()
    async with open_redis(SecretStr(own_valkey.url)) as redis:
        here, there = RateLimiter(redis, clock), RateLimiter(redis, clock)

        await own_valkey.stop()
        user = str(new_id())
        await here.charge(ONE, user, _record())
        await there.charge(ONE, user, _record())
        with pytest.raises(RateLimited):
            await here.charge(ONE, user, _record())

        await own_valkey.start()
        clock.advance(timedelta(seconds=6))
        user = str(new_id())
        await here.charge(ONE, user, _record())
        with pytest.raises(RateLimited):
            await there.charge(ONE, user, _record())


async def test_burst_beyond_the_connection_pool_is_still_counted_together(valkey: EmbeddedValkey) -> None:
    limit = Limit("chat", 150)
    user = str(new_id())
    async with open_redis(SecretStr(valkey.url)) as redis:
        limiter, other = RateLimiter(redis, FakeClock()), RateLimiter(redis, FakeClock())

        outcomes = await asyncio.gather(
            *(other.charge(limit, user, _record()) for _ in range(60)), return_exceptions=True
        )
        more = await asyncio.gather(
            *(limiter.charge(limit, user, _record()) for _ in range(100)), return_exceptions=True
        )

    assert outcomes == [None] * 60
    assert [type(one) for one in more].count(RateLimited) == 10


async def test_keys_hold_no_email_address(own_valkey: EmbeddedValkey) -> None:
    async with open_redis(SecretStr(own_valkey.url)) as redis:
        await RateLimiter(redis, FakeClock()).charge(ONE, "ada@example.com", _record())

        keys = [key.decode() async for key in redis.scan_iter()]

    assert keys
    assert not [key for key in keys if "ada" in key]
