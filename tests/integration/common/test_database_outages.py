"""A server that stops, crashes and comes back, for every driver and pool."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from mesh_admin.secrets import make_secrets
from mesh_common.database.migrate import migrate
from mesh_common.errors import Unavailable
from mesh_common.subject import Subject
from mesh_dev.postgres import EmbeddedPostgres
from support.databases import COUNT, KINDS, Opened, opened, rows
from support.mesh import TestMesh
from support.net import free_port
from support.scratch import SCHEMA, bootstrapped, settings_for, write_migrations
from support.subjects import some_subject


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path, free_port())
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
async def mesh(own: EmbeddedPostgres, tmp_path: Path) -> TestMesh:
    secrets = make_secrets()
    (tmp_path / "keys.json").write_text(secrets.service_jwks())
    made = await bootstrapped(own, secrets, tmp_path / "keys.json", "mesh")
    url, migrations = made.database_url(SCHEMA, "owner"), write_migrations(tmp_path / "m")
    await asyncio.to_thread(migrate, url, schema=SCHEMA, migrations=migrations)
    return made


async def pools(stack: AsyncExitStack, mesh: TestMesh, timeout_s: float) -> list[Opened]:
    """One of each kind."""
    settings = settings_for(mesh, "mesh", database_timeout_s=timeout_s)
    return [await stack.enter_async_context(opened(kind, settings, kind)) for kind in KINDS]


async def test_a_database_that_stops_is_unavailable_in_time_and_used_again_once_it_is_back(
    own: EmbeddedPostgres, mesh: TestMesh
) -> None:
    subject = some_subject()
    async with AsyncExitStack() as stack:
        all_pools = await pools(stack, mesh, timeout_s=1.0)
        for pool in all_pools:
            assert await pool.rows(subject, COUNT) == [(0,)]
        await own.kill()
        for pool in all_pools:
            for _ in range(3):
                await _is_unavailable_in_time(pool, subject)
        await own.start()

        for pool in all_pools:
            assert await pool.rows(subject, COUNT) == [(0,)]


async def _is_unavailable_in_time(pool: Opened, subject: Subject) -> None:
    started_s = time.monotonic()
    with pytest.raises(Unavailable):
        await pool.rows(subject, COUNT)
    assert time.monotonic() - started_s < 3


async def test_a_server_that_crashes_is_unavailable_until_it_has_recovered(mesh: TestMesh) -> None:
    """It announces this on every idle connection before it closes it, amid the response to the next statement."""
    async with AsyncExitStack() as stack:
        for pool in await pools(stack, mesh, timeout_s=2.0):
            for _ in range(3):
                await _crash_and_recover(pool, some_subject())


async def _crash_and_recover(pool: Opened, subject: Subject) -> None:
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(pool.as_subject(subject)) for _ in range(10)]
        [(backend,)] = await rows(connections[0], "SELECT pg_backend_pid()")
    os.kill(backend, signal.SIGKILL)
    async with asyncio.timeout(30):
        while True:
            found = await asyncio.gather(*(pool.rows(subject, COUNT) for _ in range(10)), return_exceptions=True)
            assert [one for one in found if one != [(0,)] and not isinstance(one, Unavailable)] == []
            if found == [[(0,)]] * 10:
                return
