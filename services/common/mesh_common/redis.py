"""Redis/Valkey: a client with short calls that never reuses a connection with an unread reply.

If a call were cancelled midway, the next caller would get its reply (the known incident of March 2023). Every call is
therefore shielded and has a short timeout: it ends with a reply or a dropped connection, never by cancellation.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, Final

from pydantic import SecretStr
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from mesh_common.errors import Unavailable

# The slowest healthy call takes less than 5 ms. After this timeout Redis counts as down, and chat works without it.
_TIMEOUT_S = 0.25
_MAX_CONNECTIONS = 50


class _Renewed(Connection):
    """Connects anew if the connection ended unnoticed while it was idle.

    uvloop then raises RuntimeError, before anything is sent. redis-py takes it for an error of the program.
    """

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's signature
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError:
            await self.disconnect(nowait=True)
            await super().send_packed_command(command, check_health)


class _RenewedSSL(_Renewed, SSLConnection):
    pass


_RENEWED: Final[dict[type[AbstractConnection], type[AbstractConnection]]] = {
    Connection: _Renewed,
    SSLConnection: _RenewedSSL,
}


@asynccontextmanager
async def open_redis(url: SecretStr, *, max_connections: int = _MAX_CONNECTIONS) -> AsyncIterator[Redis]:
    """A client that is closed at the end of the block. It connects at the first call."""
    # In a burst, calls wait for a connection. Refusing them would look like a dead Redis.
    pool = BlockingConnectionPool.from_url(
        url.get_secret_value(),
        timeout=_TIMEOUT_S,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        max_connections=max_connections,
        retry=Retry(NoBackoff(), 0),
    )
    pool.connection_class = _RENEWED.get(pool.connection_class, pool.connection_class)
    client = Redis.from_pool(pool)
    try:
        yield client
    finally:
        await client.aclose()


async def redis_call[T](call: Awaitable[T]) -> T:
    """The reply. Raises Unavailable if Redis does not answer in time."""
    running = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        running.add_done_callback(_retrieve_error)
        # The call ends within the client's short timeout, so waiting here keeps it from outliving its caller.
        await asyncio.wait({running})
        raise
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable("Redis is not reachable.", reason="REDIS_UNAVAILABLE") from error


def _retrieve_error(running: "asyncio.Future[Any]") -> None:
    """Retrieves the error, because asyncio logs errors that are never retrieved."""
    if not running.cancelled():
        running.exception()
