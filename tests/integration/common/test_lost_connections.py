"""Connections that are cancelled, closed, confused or hang, for every driver and pool."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

import asyncpg
import pytest
from mesh_common.database.asyncpg_pool import AsyncpgPool
from mesh_common.database.postgres import Database
from mesh_common.database.statements import driver_of
from mesh_common.errors import NotFound, Unavailable
from mesh_common.subject import Subject
from mesh_dev.postgres import EmbeddedPostgres
from support.databases import COUNT, Kind, Opened, narrow, note_of, opened, rows, scratch_url
from support.mesh import TestMesh
from support.scratch import SCHEMA
from support.subjects import some_subject

pytestmark = pytest.mark.usefixtures("database")


async def test_a_cancelled_statement_costs_no_place_in_the_pool(kind: Kind, scratch_mesh: TestMesh) -> None:
    """Its response may still arrive, and must not be taken for the response to the next statement."""
    subject = some_subject()
    async with opened(kind, narrow(scratch_mesh)) as pool:
        for _ in range(3):
            sleeping = asyncio.ensure_future(pool.rows(subject, "SELECT pg_sleep(60)"))
            await _is_asleep(scratch_mesh)
            sleeping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sleeping
            await pool.rows(subject, note_of(subject))

        assert await pool.rows(subject, COUNT) == [(3,)]


async def _is_asleep(scratch_mesh: TestMesh) -> None:
    """Returns once a connection of the service executes pg_sleep."""
    asking = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    admin = await asyncpg.connect(scratch_url(scratch_mesh))
    try:
        async with asyncio.timeout(10):
            while not await admin.fetchval(asking):  # noqa: ASYNC110 - no event across processes
                await asyncio.sleep(0.01)
    finally:
        await admin.close()


async def test_connections_that_the_server_closed_in_the_pool_are_replaced(
    pool: Opened, postgres: EmbeddedPostgres
) -> None:
    subject = some_subject()
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(pool.as_subject(subject)) for _ in range(5)]
        backends = [(await rows(connection, "SELECT pg_backend_pid()"))[0][0] for connection in connections]
    await _terminate(postgres, backends)

    await pool.rows(subject, note_of(subject))

    assert await pool.rows(subject, COUNT) == [(1,)]


@pytest.mark.parametrize("goes_on", [True, False], ids=["next statement", "commit"])
async def test_a_connection_that_breaks_in_an_open_transaction_is_unavailable(
    pool: Opened, postgres: EmbeddedPostgres, *, goes_on: bool
) -> None:
    subject = some_subject()

    with pytest.raises(Unavailable):
        await _break_inside(pool, postgres, subject, goes_on=goes_on)

    assert await pool.rows(subject, COUNT) == [(0,)]


async def _break_inside(pool: Opened, postgres: EmbeddedPostgres, subject: Subject, *, goes_on: bool) -> None:
    async with pool.as_subject(subject) as connection:
        await rows(connection, note_of(subject))
        [(backend,)] = await rows(connection, "SELECT pg_backend_pid()")
        await _terminate(postgres, [backend])
        if goes_on:
            await rows(connection, COUNT)


async def _terminate(postgres: EmbeddedPostgres, backends: list[int]) -> None:
    admin = await asyncpg.connect(postgres.admin_url)
    try:
        for backend in backends:
            await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", backend)
    finally:
        await admin.close()


class ConfusedOnce(AsyncpgPool):
    """Its first connection takes an earlier message for the response, as after `terminating connection`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__(pool, timeout_s=5.0)
        self.begun: list[asyncpg.Connection] = []

    async def begin(self, connection: asyncpg.Connection, role: str, subject: Subject | None) -> None:
        self.begun.append(driver_of(connection))
        if len(self.begun) == 1:
            raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")
        await super().begin(connection, role, subject)


async def test_a_connection_that_expects_another_answer_is_replaced(scratch_mesh: TestMesh) -> None:
    async with asyncpg.create_pool(scratch_url(scratch_mesh), min_size=0, max_size=1) as pool:
        connections = ConfusedOnce(pool)
        async with Database(connections, SCHEMA).as_subject(some_subject()) as connection:
            assert await rows(connection, COUNT) == [(0,)]
            assert len(connections.begun) == 2


async def test_an_error_comes_out_as_it_is_from_a_connection_that_was_lost_before(
    pool: Opened, postgres: EmbeddedPostgres
) -> None:
    """The error of the block decides what the caller does, and a cancelled task must stay cancelled."""
    for error in (NotFound("Not there."), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            await _fail_after_a_loss(pool, postgres, error)


async def _fail_after_a_loss(pool: Opened, postgres: EmbeddedPostgres, error: BaseException) -> None:
    async with pool.as_subject(some_subject()) as connection:
        [(backend,)] = await rows(connection, "SELECT pg_backend_pid()")
        await _terminate(postgres, [backend])
        with suppress(Exception):
            await rows(connection, COUNT)
        raise error


class LostAfterCommit(AsyncpgPool):
    async def commit(self, connection: asyncpg.Connection) -> None:
        await super().commit(connection)
        connection.terminate()
        await asyncio.sleep(0.01)  # the loop reports the loss


async def test_a_transaction_that_was_committed_is_not_reported_as_failed(scratch_mesh: TestMesh) -> None:
    subject = some_subject()
    async with asyncpg.create_pool(scratch_url(scratch_mesh), min_size=0, max_size=1) as pool:
        async with Database(LostAfterCommit(pool, timeout_s=5.0), SCHEMA).as_subject(subject) as connection:
            await rows(connection, note_of(subject))

        async with Database(AsyncpgPool(pool, timeout_s=5.0), SCHEMA).as_subject(subject) as connection:
            assert await rows(connection, COUNT) == [(1,)]


async def test_a_server_that_hangs_ends_the_transaction_in_time(kind: Kind, scratch_mesh: TestMesh) -> None:
    """Its kernel still acknowledges what it is sent, so neither TCP nor the server's own timeouts notice."""
    async with opened(kind, narrow(scratch_mesh, database_timeout_s=0.5)) as pool:
        [(backend,)] = await pool.rows(some_subject(), "SELECT pg_backend_pid()")
        try:
            # psycopg needs 7 s on an idle machine: it asks the server to cancel, and waits for that.
            async with asyncio.timeout(60):
                with pytest.raises(Unavailable):
                    await _ask_after(pool, lambda: os.kill(backend, signal.SIGSTOP))
        finally:
            os.kill(backend, signal.SIGCONT)

        assert await pool.rows(some_subject(), COUNT) == [(0,)]


async def _ask_after(pool: Opened, happening: Callable[[], None]) -> None:
    """It happens after the transaction has begun."""
    async with pool.as_subject(some_subject()) as connection:
        happening()
        await rows(connection, COUNT)
