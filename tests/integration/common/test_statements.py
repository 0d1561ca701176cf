"""Statements that bypass SQLAlchemy, within its unit of work."""

import asyncpg
import pytest
from mesh_common.database.postgres import Database
from mesh_common.database.statements import Statement
from mesh_common.ids import UserId, new_id
from sqlalchemy import text
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


async def test_one_row_was_asked_for_and_two_are_a_fault(database: Database) -> None:
    with pytest.raises(AssertionError, match="two returned 2 rows"):
        await _two(database)


async def _two(database: Database) -> None:
    async with database.as_worker() as connection:
        await Statement("two", "SELECT generate_series(1, 2)").row(connection, {})
