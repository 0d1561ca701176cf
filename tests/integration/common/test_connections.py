"""What every driver and pool does for a unit of work: subjects, roll-back, deadlines, and connections that break."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from contextvars import ContextVar
from typing import Any

import asyncpg
import pytest
from mesh_common.database.asyncpg_pool import AsyncpgPool
from mesh_common.database.postgres import Database
from mesh_common.database.statements import Statement, driver_of, to_json
from mesh_common.errors import NotFound, Unavailable
from mesh_common.subject import Subject
from mesh_dev.postgres import EmbeddedPostgres
from prometheus_client import REGISTRY
from support.databases import KINDS, Kind, Opened, opened, rows
from support.mesh import TestMesh
from support.scratch import SCHEMA, settings_for
from support.subjects import elsewhere, personal, some_subject

pytestmark = pytest.mark.usefixtures("database")

COUNT = "SELECT count(*) FROM eval.notes"


def note_of(subject: Subject) -> str:
    return f"INSERT INTO eval.notes (user_id, text) VALUES ('{subject.user_id}', 'note')"  # noqa: S608 - an id


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
async def pool(kind: Kind, scratch_mesh: TestMesh) -> AsyncIterator[Opened]:
    async with opened(kind, settings_for(scratch_mesh, "scratch")) as it:
        yield it


def narrow(scratch_mesh: TestMesh, **changes: Any) -> Any:
    """Settings of a pool with one connection."""
    return settings_for(scratch_mesh, "scratch", database_pool_size=1, database_max_overflow=0, **changes)


async def test_a_row_is_written_for_the_subject_and_shown_to_it_alone(pool: Opened) -> None:
    """The statements name neither the organisation nor, when they read, the user."""
    subject = elsewhere(some_subject())

    await pool.rows(subject, note_of(subject))
    counts = [await pool.rows(reader, COUNT) for reader in (subject, personal(subject.user_id), elsewhere(subject))]

    assert counts == [[(1,)], [(0,)], [(0,)]]


async def test_role_and_user_do_not_outlive_the_transaction(kind: Kind, scratch_mesh: TestMesh) -> None:
    """With the connection that the subject before has used."""
    before, after = some_subject(), some_subject()
    async with opened(kind, narrow(scratch_mesh)) as pool:
        await pool.rows(before, note_of(before))

        [(user_id, count)] = await pool.rows(after, f"SELECT current_setting('mesh.user_id'), ({COUNT})")

    assert (user_id, count) == (str(after.user_id), 0)


async def test_an_error_in_the_block_rolls_back_and_comes_out_as_it_is(pool: Opened) -> None:
    subject = some_subject()

    with pytest.raises(NotFound):
        await _write_and_fail(pool, subject)

    assert await pool.rows(subject, COUNT) == [(0,)]


async def _write_and_fail(pool: Opened, subject: Subject) -> None:
    async with pool.as_subject(subject) as connection:
        await rows(connection, note_of(subject))
        raise NotFound("Not there.")


async def test_a_transaction_in_which_a_statement_failed_is_never_taken_for_committed(pool: Opened) -> None:
    subject = some_subject()

    with pytest.raises(AssertionError, match="a statement had failed"):
        await _go_on_after_a_failure(pool, subject)

    assert await pool.rows(subject, COUNT) == [(0,)]


async def _go_on_after_a_failure(pool: Opened, subject: Subject) -> None:
    async with pool.as_subject(subject) as connection:
        await rows(connection, note_of(subject))
        with pytest.raises(Exception, match="division by zero"):
            await rows(connection, "SELECT 1 / 0")


async def test_a_column_that_is_not_migrated_yet_is_unavailable(pool: Opened) -> None:
    """Like a missing table: a service may start before its migration, and works once that is done."""
    with pytest.raises(Unavailable):
        await pool.rows(some_subject(), "SELECT not_yet FROM eval.notes")


async def test_a_pool_with_no_connection_left_is_unavailable(kind: Kind, scratch_mesh: TestMesh) -> None:
    async with (
        opened(kind, narrow(scratch_mesh, database_timeout_s=0.2)) as pool,
        pool.as_subject(some_subject()),
    ):
        with pytest.raises(Unavailable) as raised:
            await pool.rows(some_subject(), COUNT)

    assert raised.value.retry_after_s


async def test_each_pool_of_a_service_shows_its_own_connections(kind: Kind, scratch_mesh: TestMesh) -> None:
    def in_use(pool: str) -> float | None:
        return REGISTRY.get_sample_value("mesh_database_pool_connections", {"pool": pool, "state": "in_use"})

    async with (
        opened(kind, narrow(scratch_mesh), "first") as first,
        opened(kind, narrow(scratch_mesh), "second"),
        first.as_subject(some_subject()),
    ):
        assert (in_use("first"), in_use("second")) == (1.0, 0.0)


async def test_a_statement_that_takes_too_long_is_ended_and_its_connection_is_usable_or_replaced(
    kind: Kind, scratch_mesh: TestMesh
) -> None:
    async with opened(kind, narrow(scratch_mesh, database_timeout_s=0.3)) as pool, asyncio.timeout(5):
        with pytest.raises(Unavailable):
            await pool.rows(some_subject(), "SELECT pg_sleep(30)")

        assert await pool.rows(some_subject(), COUNT) == [(0,)]


async def test_an_idle_transaction_releases_its_locks(kind: Kind, scratch_mesh: TestMesh, pool: Opened) -> None:
    """Its process may be frozen while others wait for the locks."""
    subject = some_subject()
    await pool.rows(subject, note_of(subject))
    async with opened(kind, settings_for(scratch_mesh, "scratch", database_timeout_s=0.2)) as frozen:
        with pytest.raises(Unavailable):
            await _lock_while_another_waits(frozen, pool, subject)


async def _lock_while_another_waits(frozen: Opened, other: Opened, subject: Subject) -> None:
    lock = "SELECT text FROM eval.notes FOR UPDATE"
    async with frozen.as_subject(subject) as connection:
        await rows(connection, lock)
        await other.rows(subject, lock)


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
    admin = await asyncpg.connect(_url(scratch_mesh))
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
    async with asyncpg.create_pool(_url(scratch_mesh), min_size=0, max_size=1) as pool:
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
    async with asyncpg.create_pool(_url(scratch_mesh), min_size=0, max_size=1) as pool:
        async with Database(LostAfterCommit(pool, timeout_s=5.0), SCHEMA).as_subject(subject) as connection:
            await rows(connection, note_of(subject))

        async with Database(AsyncpgPool(pool, timeout_s=5.0), SCHEMA).as_subject(subject) as connection:
            assert await rows(connection, COUNT) == [(1,)]


async def test_a_server_that_hangs_ends_the_transaction_in_time(kind: Kind, scratch_mesh: TestMesh) -> None:
    """Its kernel still acknowledges what it is sent, so neither TCP nor the server's own timeouts notice."""
    async with opened(kind, narrow(scratch_mesh, database_timeout_s=0.5)) as pool:
        [(backend,)] = await pool.rows(some_subject(), "SELECT pg_backend_pid()")
        try:
            async with asyncio.timeout(20):
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


async def test_pools_own_tasks_do_not_belong_to_its_first_caller(kind: Kind, scratch_mesh: TestMesh) -> None:
    """They live as long as the pool, and what they log would name the caller's run."""
    caller: ContextVar[str] = ContextVar("caller", default="nobody")
    async with opened(kind, narrow(scratch_mesh)) as pool:
        caller.set("first")
        await pool.rows(some_subject(), COUNT)

        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert {task.get_context().get(caller, "nobody") for task in others} <= {"nobody"}


async def test_json_goes_in_as_text_and_comes_out_as_a_value(scratch_mesh: TestMesh) -> None:
    value = {"a": [1, "ä", 1.5], "b": None}
    echo = Statement("json", "SELECT :value::jsonb AS value, :value::json AS same")

    for kind in ("sqlalchemy", "asyncpg"):
        async with opened(kind, narrow(scratch_mesh)) as pool, pool.as_subject(some_subject()) as connection:
            row = await echo.row(connection, {"value": to_json(value)})

        assert row
        assert dict(row) == {"value": value, "same": value}


async def test_a_login_has_no_privileges_of_its_own(scratch_mesh: TestMesh) -> None:
    connection = await asyncpg.connect(_url(scratch_mesh))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetchval(COUNT)
    finally:
        await connection.close()


def _url(scratch_mesh: TestMesh, parameters: str = "") -> str:
    return scratch_mesh.database_url(SCHEMA).replace("/mesh", f"/scratch{parameters}")


async def test_a_password_that_is_refused_is_unavailable(kind: Kind, scratch_mesh: TestMesh) -> None:
    url = _url(scratch_mesh).replace(scratch_mesh.secrets.passwords[f"{SCHEMA}_login_a"], "wrong")
    async with opened(kind, narrow(scratch_mesh, database_url=url, database_timeout_s=0.5)) as pool:
        with pytest.raises(Unavailable):
            await pool.rows(some_subject(), COUNT)


async def test_parameters_of_the_url_mean_the_same_to_all_drivers(kind: Kind, scratch_mesh: TestMesh) -> None:
    url = _url(scratch_mesh, "?sslmode=disable&application_name=told")

    async with opened(kind, narrow(scratch_mesh, database_url=url)) as pool:
        assert await pool.rows(some_subject(), "SHOW application_name") == [("told",)]


async def test_server_without_tls_is_not_spoken_to_where_tls_is_demanded(kind: Kind, scratch_mesh: TestMesh) -> None:
    url = _url(scratch_mesh, "?sslmode=require")

    async with opened(kind, narrow(scratch_mesh, database_url=url, database_timeout_s=0.5)) as pool:
        with pytest.raises(Unavailable):
            await pool.rows(some_subject(), COUNT)
