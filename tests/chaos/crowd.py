"""Readers who ask for more than the database gives: overload from the outside, while the users' work goes on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import httpx
from mesh_dev.mesh_client import API, MeshClient

# Each request holds a connection to the database. The agents' pools together have half as many (`cluster`).
READERS: Final = 24
# A reader that is refused does not come back at once, as `Retry-After` asks.
_PAUSE_S: Final = 0.1


@asynccontextmanager
async def crowd(clients: Sequence[MeshClient]) -> AsyncIterator[None]:
    """Reads until the block ends. What is refused does not matter: only what it does to others."""

    async def read(number: int) -> None:
        while True:
            with suppress(httpx.HTTPError):
                response = await clients[number % len(clients)].http.get(f"{API}/threads")
                if response.is_success:
                    continue
            await asyncio.sleep(_PAUSE_S)

    readers = [asyncio.ensure_future(read(number)) for number in range(READERS)]
    try:
        yield
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
