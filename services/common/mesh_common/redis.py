"""Redis/Valkey: a client whose calls are short, and whose connections are never reused half-read.

A call cancelled half-way would hand its reply to the next caller (the field's incident of March 2023), so every
call runs shielded to its own short timeout: it ends by answer or by a dropped connection, never by cancellation.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from mesh_common.errors import Unavailable

# What the slowest healthy call takes is below 5 ms; after this Redis counts as away and chat goes on without it.
_TIMEOUT_S = 0.25
_MAX_CONNECTIONS = 50


@asynccontextmanager
async def open_redis(url: SecretStr) -> AsyncIterator[Redis]:
    """A client while open; connects at the first call."""
    client = Redis.from_url(
        url.get_secret_value(),
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        max_connections=_MAX_CONNECTIONS,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        yield client
    finally:
        await client.aclose()


async def redis_call[T](call: Awaitable[T]) -> T:
    """The reply. Raises Unavailable when Redis does not answer in time."""
    running = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        running.add_done_callback(_hear)
        # Ends within the client's own short timeout, so that nothing outlives its caller.
        await asyncio.wait({running})
        raise
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable("Redis is not reachable.", reason="REDIS_UNAVAILABLE") from error
    finally:
        del running  # it holds its error, whose traceback holds this frame: a cycle


def _hear(running: "asyncio.Future[Any]") -> None:
    """Asks for the error: asyncio logs what nobody asked for."""
    if not running.cancelled():
        running.exception()
