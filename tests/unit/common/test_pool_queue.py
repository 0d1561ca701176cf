"""Who waits for a connection of a full pool, and how long."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fakes.agent.loop_time import in_jumping_time, loop_time_ms
from mesh_common.caller import Caller, acting
from mesh_common.database.waiting import PoolQueue
from mesh_common.errors import Unavailable
from prometheus_client import REGISTRY


class FakePool:
    """One connection, with callers queueing for it, and a clock that the test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.is_full = False
        self.freed = asyncio.Event()
        self.queue = PoolQueue("test", lambda: self.is_full, lambda: self.now_s)

    async def take(self) -> str:
        if self.is_full:
            await self.freed.wait()
        return "connection"

    async def taken(self) -> str:
        return await self.queue.take(self.take)


@contextmanager
def _request(*, is_background: bool = False) -> Iterator[None]:
    with acting(Caller("gateway", None, None, is_background=is_background)):
        yield


def _refused() -> float:
    return REGISTRY.get_sample_value("mesh_database_refused_total", {"pool": "test"}) or 0.0


async def _waits(pool: FakePool) -> bool:
    """Whether it is still waiting after a minute of the loop's time. Gets the connection then."""
    waiting = asyncio.ensure_future(pool.taken())
    await asyncio.wait([waiting], timeout=60)
    is_waiting = not waiting.done()
    pool.freed.set()
    assert await waiting == "connection"
    return is_waiting


@in_jumping_time
async def test_request_of_a_burst_waits_as_long_as_the_pool_allows() -> None:
    pool = FakePool()
    pool.is_full, pool.now_s = True, 0.9

    with _request():
        assert await _waits(pool)


@in_jumping_time
async def test_request_in_overload_is_refused_after_a_tenth_of_a_second() -> None:
    pool, before = FakePool(), _refused()
    pool.is_full, pool.now_s = True, 1.1

    with _request(), pytest.raises(Unavailable) as refused:
        await pool.taken()

    assert loop_time_ms() == 100
    assert (refused.value.reason, refused.value.retry_after_s) == ("DATABASE_BUSY", 1.0)
    assert _refused() == before + 1


@in_jumping_time
async def test_request_in_overload_gets_a_connection_that_is_freed_in_time() -> None:
    pool = FakePool()
    pool.is_full, pool.now_s = True, 1.1
    asyncio.get_running_loop().call_later(0.05, pool.freed.set)

    with _request():
        assert await pool.taken() == "connection"


@in_jumping_time
async def test_background_work_waits_in_overload() -> None:
    """The end of a run must be stored, and jobs lose nothing by waiting."""
    pool = FakePool()
    pool.is_full, pool.now_s = True, 60.0

    assert await _waits(pool)
    pool.freed.clear()
    with _request(is_background=True):
        assert await _waits(pool)


@in_jumping_time
async def test_overload_is_over_when_a_connection_is_free_again() -> None:
    pool = FakePool()
    pool.now_s = 100.0
    with _request():
        assert await pool.taken() == "connection"
        pool.is_full, pool.now_s = True, 100.9

        assert await _waits(pool)
