"""LISTEN: notifications arrive, and a lost connection is replaced."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from mesh_common.database.listener import Listener
from mesh_dev.postgres import EmbeddedPostgres

CHANNEL = "work"
BACKEND = "SELECT pid FROM pg_stat_activity WHERE application_name = 'listens'"


class Listening:
    """A listener in the background, and the connection of an operator."""

    def __init__(self, admin: asyncpg.Connection) -> None:
        self.admin = admin
        self.woken = asyncio.Event()

    async def notify_until_woken(self) -> None:
        """The listener may not listen yet, or not again."""
        self.woken.clear()
        async with asyncio.timeout(20):
            while not self.woken.is_set():
                await self.admin.execute(f"NOTIFY {CHANNEL}")
                await asyncio.sleep(0.05)

    async def backend(self) -> int:
        """The process of the server that serves the listener."""
        return int(await self.admin.fetchval(BACKEND))


@pytest.fixture
async def listening(postgres: EmbeddedPostgres) -> AsyncIterator[Listening]:
    async with _admin(postgres) as admin:
        it = Listening(admin)
        url = f"{postgres.admin_url}?application_name=listens"
        listener = Listener(url, CHANNEL, it.woken.set, ping_every_s=0.2, timeout_s=1.0)
        running = asyncio.ensure_future(listener.run())
        try:
            yield it
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def _admin(postgres: EmbeddedPostgres) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres.admin_url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_notification_wakes_at_once(listening: Listening) -> None:
    await listening.notify_until_woken()
    listening.woken.clear()

    await listening.admin.execute(f"NOTIFY {CHANNEL}")

    async with asyncio.timeout(5):
        await listening.woken.wait()


async def test_a_connection_that_the_server_closes_is_replaced(listening: Listening) -> None:
    await listening.notify_until_woken()

    await listening.admin.fetchval("SELECT pg_terminate_backend($1, 5000)", await listening.backend())

    await listening.notify_until_woken()


async def test_a_server_that_is_gone_without_a_word_is_noticed(listening: Listening) -> None:
    """The connection stays open but nothing answers, as behind a pulled cable."""
    await listening.notify_until_woken()
    backend = await listening.backend()

    os.kill(backend, signal.SIGSTOP)
    try:
        await listening.notify_until_woken()
    finally:
        os.kill(backend, signal.SIGCONT)
