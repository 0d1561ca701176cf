"""The unit of work on SQLAlchemy's engine: roles, users and faults of statements."""

import pytest
from mesh_common.database.postgres import Database
from mesh_common.database.sqlalchemy_engine import open_engine
from mesh_common.errors import Unavailable
from mesh_common.ids import UserId, new_id
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import IntegrityError, ProgrammingError
from support.scratch import notes
from support.subjects import personal


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


async def test_a_fault_of_the_statement_is_no_unavailability(database: Database) -> None:
    with pytest.raises(IntegrityError):
        await _insert_null(database)


async def _insert_null(database: Database) -> None:
    user_id = new_user()
    async with database.as_subject(personal(user_id)) as connection:
        await connection.execute(insert(notes).values(user_id=user_id, text=None))


@pytest.mark.parametrize("url", ["mysql://a@b/c", "a@b/c", ""])
def test_another_scheme_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="postgresql://"):
        open_engine(url, {})


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT nothing FROM eval.notes",
        "SELECT 1 FROM eval.nothing",
        "SELECT eval.nothing()",
        "SELECT NULL::eval.nothing",
        "SELECT 1 FROM nowhere.notes",
        "INSERT INTO eval.notes (text) VALUES ('x') ON CONFLICT (text) DO NOTHING",
    ],
    ids=["column", "table", "function", "type", "schema", "unique index"],
)
async def test_what_the_next_migration_creates_is_unavailable_until_then(database: Database, statement: str) -> None:
    with pytest.raises(Unavailable):
        async with database.as_worker() as connection:
            await connection.execute(text(statement))
