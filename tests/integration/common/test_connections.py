"""What every driver and pool does for a unit of work: subjects, roll-back, deadlines, metrics, and how it connects."""

import asyncio
from contextvars import ContextVar

import asyncpg
import pytest
from mesh_common.database.statements import Statement, to_json
from mesh_common.errors import NotFound, Unavailable
from mesh_common.subject import Subject
from prometheus_client import REGISTRY
from support.databases import COUNT, Kind, Opened, narrow, note_of, opened, rows, scratch_url
from support.mesh import TestMesh
from support.scratch import SCHEMA, settings_for
from support.subjects import elsewhere, personal, some_subject

pytestmark = pytest.mark.usefixtures("database")


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
    connection = await asyncpg.connect(scratch_url(scratch_mesh))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetchval(COUNT)
    finally:
        await connection.close()


async def test_a_password_that_is_refused_is_unavailable(kind: Kind, scratch_mesh: TestMesh) -> None:
    url = scratch_url(scratch_mesh).replace(scratch_mesh.secrets.passwords[f"{SCHEMA}_login_a"], "wrong")
    async with opened(kind, narrow(scratch_mesh, database_url=url, database_timeout_s=0.5)) as pool:
        with pytest.raises(Unavailable):
            await pool.rows(some_subject(), COUNT)


async def test_parameters_of_the_url_mean_the_same_to_all_drivers(kind: Kind, scratch_mesh: TestMesh) -> None:
    url = scratch_url(scratch_mesh, "?sslmode=disable&application_name=told")

    async with opened(kind, narrow(scratch_mesh, database_url=url)) as pool:
        assert await pool.rows(some_subject(), "SHOW application_name") == [("told",)]


async def test_server_without_tls_is_not_spoken_to_where_tls_is_demanded(kind: Kind, scratch_mesh: TestMesh) -> None:
    url = scratch_url(scratch_mesh, "?sslmode=require")

    async with opened(kind, narrow(scratch_mesh, database_url=url, database_timeout_s=0.5)) as pool:
        with pytest.raises(Unavailable):
            await pool.rows(some_subject(), COUNT)
