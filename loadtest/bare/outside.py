"""Code shared by agent and memory: their gRPC server, and their connections to the database and the provider."""

from collections.abc import Callable
from typing import Any

import aiohttp
import asyncpg
import grpc
from mesh_common.process.collector import resume_collector

from bare.settings import BareSettings


def open_pool(settings: BareSettings, size: int) -> Any:
    """asyncpg's pool, without the statements that it would send whenever a connection is returned."""
    return asyncpg.create_pool(settings.database_url, min_size=size, max_size=size, reset=_without_reset)


async def _without_reset(connection: Any) -> None:
    del connection


def open_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"content-type": "application/json"},
    )


async def serve(servicer: Any, add_to: Callable[[Any, grpc.aio.Server], None], address: str) -> None:
    """Serves until the process ends."""
    server = grpc.aio.server()
    add_to(servicer, server)
    server.add_insecure_port(address)
    await server.start()
    resume_collector()
    await server.wait_for_termination()
