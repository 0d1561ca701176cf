"""Row-level security: a query without its user condition still touches no other user's rows."""

from collections.abc import Sequence

import pytest
from mesh_auth.domain import Revocation, SessionId
from mesh_auth.store.accounts import PostgresAuthDatabase
from mesh_auth.tables import entitlement_overrides, login_failures, metadata, usage
from mesh_common.clock import utc_now
from mesh_common.database.postgres import Database
from mesh_common.errors import Unauthenticated
from mesh_common.ids import UserId, new_id, parse_id
from sqlalchemy import Table, delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from support.auth import AuthUnderTest
from support.row_security import expected_of, who_sees
from support.subjects import personal

TABLES: Sequence[Table] = metadata.sorted_tables
# `login_failures` is keyed by hashes, and its rows are not any user's.
OF_USERS = [table for table in TABLES if table.name != login_failures.name]


@pytest.fixture(scope="module")
async def owner(auth: AuthUnderTest, auth_database: Database) -> UserId:
    """A user with a row in every table."""
    user = await auth.register()
    user_id = UserId(parse_id(user.id, "id"))
    await auth.login(user.email, client_address="198.51.100.7")
    async with PostgresAuthDatabase(auth_database).as_subject(personal(user_id)) as store:
        await store.add_revocation(personal(user_id), Revocation(SessionId(new_id()), utc_now().replace(year=2100)))
    async with auth_database.as_subject(personal(user_id)) as connection:
        await connection.execute(insert(entitlement_overrides).values(user_id=user_id))
        counts = {"input_tokens": 1, "output_tokens": 1, "cost_micro_usd": 1}
        await connection.execute(
            insert(usage).values(run_id=new_id(), user_id=user_id, model="m", ended_at=utc_now(), **counts)
        )
    return user_id


@pytest.fixture(scope="module")
async def stranger(auth: AuthUnderTest) -> UserId:
    return UserId(parse_id((await auth.register()).id, "id"))


async def count_of(database: Database, table: Table, user_id: UserId) -> int:
    async with database.as_worker() as connection:
        statement = select(func.count()).select_from(table).where(table.c.user_id == user_id)
        return int((await connection.execute(statement)).scalar_one())


async def test_every_table_of_the_schema_is_one_of_ours_and_secured(
    auth: AuthUnderTest, auth_database: Database
) -> None:
    """So that the tests below cannot miss a table. `alembic_version` holds no user data."""
    assert auth.settings.registration_open
    async with auth_database.as_worker() as connection:
        found = await connection.execute(
            text(
                "SELECT relname, relrowsecurity FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
                "WHERE n.nspname = 'auth' AND relkind = 'r'"
            )
        )
        secured = {row.relname: row.relrowsecurity for row in found}

    assert secured.pop("alembic_version") is False
    assert secured == {table.name: True for table in TABLES}


@pytest.mark.parametrize("table", OF_USERS, ids=lambda table: table.name)
async def test_a_row_is_visible_to_its_user_and_in_its_organisation(
    auth_database: Database, table: Table, owner: UserId
) -> None:
    """With organisation, user, both and neither, for reading and for writing."""
    seen = await who_sees(auth_database, table.name, owner)

    expected = expected_of("auth", table.name)
    assert seen == {kind: expected[kind] for kind in seen}
    assert len(seen) == (1 if table.name in {"organisations", "memberships"} else 3)


@pytest.mark.parametrize("table", OF_USERS, ids=lambda table: table.name)
async def test_select_without_condition_gives_own_rows_alone(
    auth_database: Database, table: Table, owner: UserId, stranger: UserId
) -> None:
    assert await count_of(auth_database, table, owner) > 0

    async with auth_database.as_subject(personal(stranger)) as connection:
        users = {row.user_id for row in await connection.execute(select(table.c.user_id))}

    assert users <= {stranger}


@pytest.mark.parametrize("table", OF_USERS, ids=lambda table: table.name)
async def test_update_and_delete_without_condition_leave_foreign_rows(
    auth_database: Database, table: Table, owner: UserId
) -> None:
    before = await count_of(auth_database, table, owner)
    nobody = UserId(new_id())

    async with auth_database.as_subject(personal(nobody)) as connection:
        updated = await connection.execute(update(table).values(user_id=nobody))
        deleted = await connection.execute(delete(table))

    assert (updated.rowcount, deleted.rowcount) == (0, 0)
    assert await count_of(auth_database, table, owner) == before


async def test_row_for_another_user_is_not_written(auth_database: Database, owner: UserId, stranger: UserId) -> None:
    with pytest.raises(DBAPIError, match="row-level security"):
        await _write_as(auth_database, stranger, owner)


async def _write_as(database: Database, actor: UserId, owner: UserId) -> None:
    async with database.as_subject(personal(actor)) as connection:
        await connection.execute(insert(entitlement_overrides).values(user_id=owner))


async def test_failed_logins_are_the_workers_alone(auth: AuthUnderTest, auth_database: Database) -> None:
    user = await auth.register()
    with pytest.raises(Unauthenticated):
        await auth.login(user.email, "wrong")

    async with auth_database.as_worker() as connection:
        stored = (await connection.execute(select(login_failures.c.key))).all()
    async with auth_database.as_subject(personal(UserId(parse_id(user.id, "id")))) as connection:
        seen = (await connection.execute(select(login_failures.c.key))).all()
        deleted = await connection.execute(delete(login_failures))

    assert stored
    assert (seen, deleted.rowcount) == ([], 0)
