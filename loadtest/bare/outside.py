"""What both agent and memory reach: the database, and the provider."""

from typing import Any

import aiohttp
import asyncpg

from bare.settings import BareSettings


def open_pool(settings: BareSettings, size: int) -> Any:
    """asyncpg's own, without the statements that it would send each time a connection is given back."""
    return asyncpg.create_pool(settings.database_url, min_size=size, max_size=size, reset=_as_it_is)


async def _as_it_is(connection: Any) -> None:
    del connection


def open_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"content-type": "application/json"},
    )
