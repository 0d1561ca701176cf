"""The unit of work: roles, users, and a database that is full or unavailable."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from mesh_admin.secrets import make_secrets
from mesh_common.database.migrate import migrate
from mesh_common.database.postgres import Database, Driver, Pool, open_database, with_driver
from mesh_common.errors import NotFound, Unavailable
from mesh_common.ids import UserId, new_id
from mesh_dev.postgres import EmbeddedPostgres
from prometheus_client import REGISTRY
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from support.cycles import cycles_left_by
from support.mesh import TestMesh
from support.net import free_port
from support.scratch import SCHEMA, bootstrapped, notes, open_scratch, settings_for, write_migrations
from support.subjects import elsewhere, personal, some_subject


def new_user() -> UserId:
    return UserId(new_id())


async def _write(database: Database, user_id: UserId, content: str = "note") -> None:
    async with database.as_subject(personal(user_id)) as connection:
        await connection.execute(insert(notes).values(user_id=user_id, text=content))


async def _count(database: Database, user_id: UserId) -> int:
    """Counts without a condition on the user."""
    async with database.as_subject(personal(user_id)) as connection:
        return (await connection.execute(select(func.count()).select_from(notes))).scalar_one()


async def test_a_user_sees_their_rows_alone(database: Database) -> None:
    mine, other = new_user(), new_user()
    await _write(database, mine)

    assert [await _count(database, mine), await _count(database, other)] == [1, 0]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_row_is_written_for_the_subject_and_shown_to_it_alone(
    database: Database, scratch_mesh: TestMesh, driver: Driver
) -> None:
    """The statement names neither the organisation nor, when it reads, the user."""
    subject = elsewhere(some_subject())
    async with open_scratch(scratch_mesh, "scratch", driver) as other:
        async with other.as_subject(subject) as connection:
            await connection.execute(insert(notes).values(user_id=subject.user_id, text="x"))
        async with database.as_worker() as connection:
            mine = select(notes.c.org_id).where(notes.c.user_id == subject.user_id)
            stored = (await connection.execute(mine)).scalars().all()

        counts = []
        for reader in (subject, personal(subject.user_id), elsewhere(subject)):
            async with other.as_subject(reader) as connection:
                counts.append((await connection.execute(select(func.count()).select_from(notes))).scalar_one())

    assert stored == [subject.organisation_id]
    assert counts == [1, 0, 0]


async def test_a_column_that_is_not_migrated_yet_is_unavailable(database: Database) -> None:
    """Like a missing table: a service may start before its migration, and works once that is done."""
    with pytest.raises(Unavailable):
        await _read_missing_column(database)


async def _read_missing_column(database: Database) -> None:
    async with database.as_worker() as connection:
        await connection.execute(text("SELECT not_yet FROM eval.notes"))


async def test_a_user_cannot_write_for_another(database: Database) -> None:
    with pytest.raises(ProgrammingError, match="row-level security"):
        await _insert_as(database, new_user(), new_user())


async def _insert_as(database: Database, actor: UserId, owner: UserId) -> None:
    async with database.as_subject(personal(actor)) as connection:
        await connection.execute(insert(notes).values(user_id=owner, text="x"))


async def test_the_worker_sees_all_users(database: Database) -> None:
    users = [new_user(), new_user()]
    for user_id in users:
        await _write(database, user_id)

    async with database.as_worker() as connection:
        found = (await connection.execute(select(notes.c.user_id).where(notes.c.user_id.in_(users)))).scalars()

    assert set(found) == set(users)


async def test_role_and_user_do_not_outlive_the_transaction(database: Database) -> None:
    await _write(database, new_user())

    async with database.engine.connect() as connection:
        with pytest.raises(ProgrammingError, match="permission denied"):
            await connection.execute(select(func.count()).select_from(notes))


async def test_an_error_in_the_block_rolls_back_and_comes_out_as_it_is(database: Database) -> None:
    user_id = new_user()

    with pytest.raises(NotFound):
        await _write_and_fail(database, user_id)

    assert await _count(database, user_id) == 0


async def _write_and_fail(database: Database, user_id: UserId) -> None:
    async with database.as_subject(personal(user_id)) as connection:
        await connection.execute(insert(notes).values(user_id=user_id, text="x"))
        raise NotFound("Not there.")


async def test_a_fault_of_the_statement_is_no_unavailability(database: Database) -> None:
    with pytest.raises(IntegrityError):
        await _insert_null(database)


async def _insert_null(database: Database) -> None:
    user_id = new_user()
    async with database.as_subject(personal(user_id)) as connection:
        await connection.execute(insert(notes).values(user_id=user_id, text=None))


async def test_a_pool_with_no_connection_left_is_unavailable(scratch_mesh: TestMesh, database: Database) -> None:
    assert database.schema == SCHEMA
    limits: dict[str, Any] = {"database_pool_size": 1, "database_max_overflow": 0, "database_timeout_s": 0.2}
    async with open_scratch(scratch_mesh, "scratch", **limits) as small, small.as_subject(personal(new_user())):
        with pytest.raises(Unavailable) as raised:
            await _count(small, new_user())

    assert raised.value.retry_after_s


async def test_each_pool_of_a_service_shows_its_own_connections(scratch_mesh: TestMesh) -> None:
    def in_use(pool: str) -> float | None:
        return REGISTRY.get_sample_value("mesh_database_pool_connections", {"pool": pool, "state": "in_use"})

    settings = settings_for(scratch_mesh, "scratch")
    async with (
        open_database(settings, schema=SCHEMA, pool=Pool("first", size=1)) as first,
        open_database(settings, schema=SCHEMA, pool=Pool("second", size=1)),
        first.as_subject(personal(new_user())),
    ):
        assert (in_use("first"), in_use("second")) == (1.0, 0.0)


async def test_an_unavailable_database_leaves_no_cycle(scratch_mesh: TestMesh) -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/scratch"
    async with open_database(settings_for(scratch_mesh, "scratch", database_url=url), schema=SCHEMA) as away:

        async def ask() -> None:
            with suppress(Unavailable):
                await _count(away, new_user())

        assert not await cycles_left_by(ask)


async def test_a_statement_that_takes_too_long_is_ended(scratch_mesh: TestMesh) -> None:
    async with open_scratch(scratch_mesh, "scratch", database_timeout_s=0.2) as database:
        started_s = time.monotonic()
        with pytest.raises((Unavailable, DBAPIError)):
            await _sleep_in_database(database)

    assert time.monotonic() - started_s < 5


async def _sleep_in_database(database: Database) -> None:
    async with database.as_worker() as connection:
        await connection.execute(text("SELECT pg_sleep(30)"))


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_an_idle_transaction_releases_its_locks(
    scratch_mesh: TestMesh, database: Database, driver: Driver
) -> None:
    """Its process may be frozen while others wait for the locks."""
    user_id = new_user()
    await _write(database, user_id)
    async with open_scratch(scratch_mesh, "scratch", driver, database_timeout_s=0.2) as frozen:
        with pytest.raises(Unavailable):
            await _lock_and_wait_for(frozen, user_id, lambda: _lock(database, user_id))


async def _lock_and_wait_for(database: Database, user_id: UserId, others: Callable[[], Awaitable[None]]) -> None:
    async with database.as_subject(personal(user_id)) as connection:
        await connection.execute(select(notes).with_for_update())
        await others()


async def _lock(database: Database, user_id: UserId) -> None:
    async with database.as_subject(personal(user_id)) as connection:
        await connection.execute(select(notes).with_for_update())


@pytest.mark.parametrize("url", ["mysql://a@b/c", "a@b/c", ""])
def test_another_scheme_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="postgresql://"):
        with_driver(url, "asyncpg")


async def test_a_connection_that_lies_broken_in_the_pool_is_replaced(scratch_mesh: TestMesh) -> None:
    """psycopg once left such a connection after a cancelled statement, on a machine without spare CPU."""
    settings = settings_for(scratch_mesh, "scratch", database_pool_size=1, database_max_overflow=0)
    async with open_database(settings, schema=SCHEMA, driver="psycopg") as database:
        async with database.as_worker() as connection:
            raw = await connection.get_raw_connection()
            driver = raw.driver_connection
        assert isinstance(driver, psycopg.AsyncConnection)
        driver.pgconn.send_query(b"SELECT pg_sleep(60)")

        await _write(database, new_user())


async def test_connections_that_the_server_closed_in_the_pool_are_replaced(
    database: Database, postgres: EmbeddedPostgres
) -> None:
    user_id = new_user()
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(database.as_subject(personal(user_id))) for _ in range(5)]
        backends = [(await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one() for connection in opened]
    admin = await asyncpg.connect(postgres.admin_url)
    for backend in backends:
        await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", backend)
    await admin.close()

    await _write(database, user_id)

    assert await _count(database, user_id) == 1


async def test_a_database_that_stops_is_unavailable_in_time_and_used_again_once_it_is_back(tmp_path: Path) -> None:
    own = EmbeddedPostgres(tmp_path, free_port())
    await own.start()
    try:
        await _goes_away_and_comes_back(own, tmp_path)
    finally:
        await own.stop()


async def _goes_away_and_comes_back(own: EmbeddedPostgres, folder: Path) -> None:
    secrets = make_secrets()
    (folder / "keys.json").write_text(secrets.service_jwks())
    mesh = await bootstrapped(own, secrets, folder / "keys.json", "mesh")
    await asyncio.to_thread(
        migrate, mesh.database_url(SCHEMA, "owner"), schema=SCHEMA, migrations=write_migrations(folder / "m")
    )
    user_id = new_user()
    async with open_scratch(mesh, "mesh", database_timeout_s=1.0) as database:
        await _write(database, user_id)
        await own.kill()
        for _ in range(3):
            started_s = time.monotonic()
            with pytest.raises(Unavailable):
                await _count(database, user_id)
            assert time.monotonic() - started_s < 3
        await own.start()

        assert await _count(database, user_id) == 1


async def test_a_server_that_crashes_is_unavailable_until_it_has_recovered(tmp_path: Path) -> None:
    """It announces this on every idle connection before it closes it, amid the response to the next statement."""
    own = EmbeddedPostgres(tmp_path, free_port())
    await own.start()
    try:
        secrets = make_secrets()
        (tmp_path / "keys.json").write_text(secrets.service_jwks())
        mesh = await bootstrapped(own, secrets, tmp_path / "keys.json", "mesh")
        url, migrations = mesh.database_url(SCHEMA, "owner"), write_migrations(tmp_path / "m")
        await asyncio.to_thread(migrate, url, schema=SCHEMA, migrations=migrations)
        async with open_scratch(mesh, "mesh", database_timeout_s=2.0) as database:
            for _ in range(3):
                await _crash_and_recover(database)
    finally:
        await own.stop()


async def _crash_and_recover(database: Database) -> None:
    user_id = new_user()
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(database.as_subject(personal(user_id))) for _ in range(10)]
        backend = (await opened[0].execute(text("SELECT pg_backend_pid()"))).scalar_one()
    os.kill(backend, signal.SIGKILL)
    async with asyncio.timeout(30):
        while True:
            found = await asyncio.gather(*(_count(database, user_id) for _ in range(10)), return_exceptions=True)
            assert [one for one in found if one != 0 and not isinstance(one, Unavailable)] == []
            if found == [0] * 10:
                return


@pytest.mark.parametrize("goes_on", [True, False], ids=["next statement", "commit"])
async def test_a_connection_that_breaks_in_an_open_transaction_is_unavailable(
    database: Database, postgres: EmbeddedPostgres, *, goes_on: bool
) -> None:
    user_id = new_user()

    with pytest.raises(Unavailable):
        await _break_inside(database, postgres, user_id, goes_on=goes_on)

    assert await _count(database, user_id) == 0


async def _break_inside(database: Database, postgres: EmbeddedPostgres, user_id: UserId, *, goes_on: bool) -> None:
    async with database.as_subject(personal(user_id)) as connection:
        await connection.execute(insert(notes).values(user_id=user_id, text="lost"))
        backend = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        admin = await asyncpg.connect(postgres.admin_url)
        await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", backend)
        await admin.close()
        if goes_on:
            await connection.execute(select(func.count()).select_from(notes))
