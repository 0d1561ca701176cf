"""Statements that bypass SQLAlchemy, within its unit of work."""

import asyncio
from typing import Any

import asyncpg
import pytest
from mesh_common.database.postgres import Database
from mesh_common.database.statements import Statement, driver_of, to_json
from mesh_common.database.transactions import AsyncpgTransactions
from mesh_common.errors import Unavailable
from mesh_common.ids import UserId, new_id
from mesh_common.subject import Subject
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from support.mesh import TestMesh
from support.scratch import open_scratch
from support.subjects import personal

ADD = Statement("add", "INSERT INTO eval.notes (user_id, text) VALUES (:user_id, :text)")
TEXTS = Statement("texts", "SELECT text FROM eval.notes WHERE user_id = :user_id ORDER BY text")


def new_user() -> UserId:
    return UserId(new_id())


async def _texts(database: Database, user_id: UserId) -> list[str]:
    async with database.as_subject(personal(user_id)) as connection:
        return [row["text"] for row in await TEXTS.rows(connection, {"user_id": user_id})]


def test_a_name_is_one_parameter_wherever_it_occurs_and_a_cast_is_none() -> None:
    statement = Statement("s", "SELECT :a::text, :b, f(x => :a), '12'::int")

    assert statement.sql == "SELECT $1::text, $2, f(x => $1), '12'::int"


async def test_what_one_statement_writes_the_next_transaction_reads(database: Database) -> None:
    user_id = new_user()

    async with database.as_subject(personal(user_id)) as connection:
        written = await ADD.count(connection, {"user_id": user_id, "text": "note"})

    assert written == 1
    assert await _texts(database, user_id) == ["note"]


async def test_statements_and_sqlalchemy_share_one_transaction(database: Database) -> None:
    user_id = new_user()

    async with database.as_subject(personal(user_id)) as connection:
        await ADD.count(connection, {"user_id": user_id, "text": "note"})
        seen = (await connection.execute(text("SELECT count(*) FROM eval.notes WHERE text = 'note'"))).scalar_one()

    assert seen == 1


async def test_a_user_can_neither_write_nor_read_anothers_rows(database: Database) -> None:
    mine, other = new_user(), new_user()

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await _add(database, mine, other)
    await _add(database, other, other)
    async with database.as_subject(personal(mine)) as connection:
        seen = await TEXTS.rows(connection, {"user_id": other})

    assert seen == []


async def _add(database: Database, actor: UserId, owner: UserId) -> None:
    async with database.as_subject(personal(actor)) as connection:
        await ADD.count(connection, {"user_id": owner, "text": "note"})


async def test_json_goes_in_as_text_and_comes_out_as_a_value(database: Database) -> None:
    value = {"a": [1, "ä"], "b": None}

    async with database.as_worker() as connection:
        row = await Statement("json", "SELECT :value::jsonb AS value").row(connection, {"value": to_json(value)})

    assert row
    assert row["value"] == value


async def test_one_row_was_asked_for_and_two_are_a_fault(database: Database) -> None:
    with pytest.raises(AssertionError, match="two returned 2 rows"):
        await _two(database)


async def _two(database: Database) -> None:
    async with database.as_worker() as connection:
        await Statement("two", "SELECT generate_series(1, 2)").row(connection, {})


async def test_a_transaction_in_which_a_statement_failed_is_never_taken_for_committed(database: Database) -> None:
    user_id = new_user()

    with pytest.raises(AssertionError, match="a statement had failed"):
        await _go_on_after_a_failure(database, user_id)

    assert await _texts(database, user_id) == []


async def _go_on_after_a_failure(database: Database, user_id: UserId) -> None:
    async with database.as_subject(personal(user_id)) as connection:
        await ADD.count(connection, {"user_id": user_id, "text": "lost"})
        with pytest.raises(asyncpg.DivisionByZeroError):
            await Statement("wrong", "SELECT 1 / 0").rows(connection, {})


async def test_a_cancelled_statement_costs_its_connection_and_no_place_in_the_pool(scratch_mesh: TestMesh) -> None:
    """Its response may still arrive, and must not be taken for the response to the next statement."""
    user_id = new_user()
    async with open_scratch(scratch_mesh, "scratch", database_pool_size=1, database_max_overflow=0) as small:
        for _ in range(3):
            begun = asyncio.Event()
            sleeping = asyncio.ensure_future(_sleep(small, begun))
            await begun.wait()
            sleeping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sleeping
            await _add(small, user_id, user_id)

        assert await _texts(small, user_id) == ["note"] * 3


async def _sleep(database: Database, begun: asyncio.Event) -> None:
    async with database.as_worker() as connection:
        driver = driver_of(connection)
        asyncio.get_running_loop().call_soon(begun.set)
        await driver.execute("SELECT pg_sleep(60)")


async def test_a_server_that_does_not_answer_in_time_is_unavailable_and_its_connection_is_replaced(
    scratch_mesh: TestMesh,
) -> None:
    limits: dict[str, Any] = {"database_pool_size": 1, "database_max_overflow": 0, "database_timeout_s": 0.3}
    async with open_scratch(scratch_mesh, "scratch", **limits) as small:
        with pytest.raises(Unavailable):
            await _sleep(small, asyncio.Event())

        assert await _texts(small, new_user()) == []


async def test_a_statement_runs_on_asyncpg_alone(scratch_mesh: TestMesh) -> None:
    async with open_scratch(scratch_mesh, "scratch", "psycopg") as database:
        with pytest.raises(TypeError, match="asyncpg"):
            await _texts(database, new_user())


class ConfusedOnce(AsyncpgTransactions):
    """Its first connection takes an earlier message for the response, as after `terminating connection`."""

    def __init__(self) -> None:
        self.drivers: list[asyncpg.Connection] = []

    async def begin(self, connection: AsyncConnection, role: str, subject: Subject | None) -> None:
        self.drivers.append(driver_of(connection))
        if len(self.drivers) == 1:
            raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")
        await super().begin(connection, role, subject)


async def test_a_connection_that_expects_another_answer_is_replaced(database: Database) -> None:
    transactions = ConfusedOnce()

    found = await _texts(Database(database.engine, database.schema, transactions), new_user())

    confused, used = transactions.drivers
    assert found == []
    assert confused.is_closed()
    assert used is not confused
