"""Row-level security over organisation and user, tried on the rows that a user has in one table."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from mesh_common.database.postgres import Database
from mesh_common.ids import UserId, new_id
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

SHARED: Final = new_id()
"""An organisation that is not the personal one of any user."""
_STRANGER: Final = new_id()
_UNIQUE_VIOLATION: Final = "23505"


@dataclass(frozen=True)
class Settings:
    """What a transaction names: `mesh.org_id` and `mesh.user_id`, or not."""

    org_id: UUID | None
    user_id: UUID | None


def settings_of(user_id: UserId) -> dict[str, Settings]:
    return {
        "personal organisation and user": Settings(user_id, user_id),
        "shared organisation and user": Settings(SHARED, user_id),
        "personal organisation and another user": Settings(user_id, _STRANGER),
        "shared organisation and another user": Settings(SHARED, _STRANGER),
        "personal organisation alone": Settings(user_id, None),
        "shared organisation alone": Settings(SHARED, None),
        "user alone": Settings(None, user_id),
        "another user alone": Settings(None, _STRANGER),
        "neither": Settings(None, None),
    }


# Release 0.1.0 names the user alone, and writes rows without an organisation.
_PERSONAL: Final = {"personal organisation and user", "user alone"}
EXPECTED: Final[Mapping[str, set[str]]] = {
    "of the personal organisation": _PERSONAL,
    "without an organisation": _PERSONAL,
    "of a shared organisation": {"shared organisation and user"},
}
# These rows are a person's account. The person acts in several organisations with it, so only the user counts.
_OF_PERSON: Final = frozenset(
    {
        "auth.credentials",
        "auth.entitlement_overrides",
        "auth.login_addresses",
        "auth.refresh_tokens",
        "auth.revocations",
        "auth.sessions",
        "auth.users",
    }
)
_THE_USER: Final = _PERSONAL | {"shared organisation and user"}


def expected_of(schema: str, table: str) -> Mapping[str, set[str]]:
    """By kind of row, the settings under which the table's rows must be visible."""
    return dict.fromkeys(EXPECTED, _THE_USER) if f"{schema}.{table}" in _OF_PERSON else EXPECTED


async def tables_of(database: Database) -> list[str]:
    """All tables with rows of users."""
    async with database.as_worker() as connection:
        found = await connection.execute(
            text(
                "SELECT table_name FROM information_schema.columns "
                "WHERE table_schema = :schema AND column_name = 'user_id' ORDER BY table_name"
            ),
            {"schema": database.schema},
        )
        return list(found.scalars())


async def who_sees(database: Database, table: str, user_id: UserId) -> dict[str, set[str]]:
    """By kind of row, the settings under which the app role reads the user's rows of `table`.

    Raises AssertionError if it may not write the same rows under the same settings, or may under others.
    """
    async with _undone(database) as connection:
        kinds = await _kinds(connection, database.schema, table, user_id)
    return {kind: await _seeing(database, table, user_id, org_id) for kind, org_id in kinds.items()}


async def _kinds(connection: AsyncConnection, schema: str, table: str, user_id: UserId) -> Mapping[str, UUID | None]:
    """The organisations that a row of the table can have. Organisations themselves and memberships have their own."""
    nullable = await connection.execute(
        text(
            "SELECT is_nullable FROM information_schema.columns "
            "WHERE table_schema = :schema AND table_name = :table AND column_name = 'org_id'"
        ),
        {"schema": schema, "table": table},
    )
    if nullable.scalar_one() == "NO":
        return {"of the personal organisation": user_id}
    return dict(zip(EXPECTED, (user_id, None, SHARED), strict=True))


async def _seeing(database: Database, table: str, user_id: UserId, org_id: UUID | None) -> set[str]:
    name = f"{database.schema}.{table}"
    async with _undone(database) as connection:
        await connection.execute(
            text(f"UPDATE {name} SET org_id = :org_id WHERE user_id = :user_id"),  # noqa: S608
            {"org_id": org_id, "user_id": user_id},
        )
        row = await connection.execute(
            text(f"SELECT to_jsonb(t)::text FROM {name} AS t WHERE user_id = :user_id LIMIT 1"),  # noqa: S608
            {"user_id": user_id},
        )
        copied = row.scalar_one()
        seeing = set()
        for label, settings in settings_of(user_id).items():
            await _take(connection, f"{database.schema}_app", settings)
            reads = await _reads(connection, name, user_id)
            assert reads == await _writes(connection, name, copied), (table, label)
            seeing |= {label} if reads else set()
        return seeing


async def _reads(connection: AsyncConnection, name: str, user_id: UserId) -> bool:
    statement = text(f"SELECT count(*) FROM {name} WHERE user_id = :user_id")  # noqa: S608 - our tables
    return bool((await connection.execute(statement, {"user_id": user_id})).scalar_one())


async def _writes(connection: AsyncConnection, name: str, row: str) -> bool:
    """Whether the policy admits a copy of the row. The copy is never stored, because it has the same primary key."""
    statement = text(
        f"INSERT INTO {name} OVERRIDING SYSTEM VALUE "
        f"SELECT (jsonb_populate_record(NULL::{name}, CAST(CAST(:row AS text) AS jsonb))).*"
    )
    await connection.execute(text("SAVEPOINT copy"))
    try:
        await connection.execute(statement, {"row": row})
    except DBAPIError as error:
        await connection.execute(text("ROLLBACK TO copy"))
        if getattr(error.orig, "sqlstate", None) == _UNIQUE_VIOLATION:
            return True
        if "row-level security" not in str(error):
            raise
        return False
    raise AssertionError(f"{name} has no key")


async def _take(connection: AsyncConnection, role: str, settings: Settings) -> None:
    values: dict[str, Any] = {
        "role": role,
        "org_id": str(settings.org_id or ""),
        "user_id": str(settings.user_id or ""),
    }
    await connection.execute(
        text(
            "SELECT set_config('role', :role, true), set_config('mesh.org_id', :org_id, true),"
            " set_config('mesh.user_id', :user_id, true)"
        ),
        values,
    )


class _Undo(Exception):
    pass


@asynccontextmanager
async def _undone(database: Database) -> AsyncIterator[AsyncConnection]:
    """A transaction of the worker role that leaves nothing."""
    with suppress(_Undo):
        async with database.as_worker() as connection:
            yield connection
            raise _Undo
