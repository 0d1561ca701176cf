"""PostgreSQL: the database of a service, and its two roles.

The login of a service has no privileges of its own (NOINHERIT). Each transaction takes the role `<svc>_app` with a
subject and sees only that subject's rows, or the role `<svc>_worker` for work across users.
"""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final

from mesh_common.database.asyncpg_driver import DRIVER_ERRORS
from mesh_common.database.connections import UNMIGRATED_CLASSES, Connections, sqlstate
from mesh_common.database.statements import AnyConnection, Statement
from mesh_common.database.text_rules import TEXT_SQL, text_fault
from mesh_common.database.unit_of_work import UnitOfWork
from mesh_common.errors import MeshError
from mesh_common.subject import Subject

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_TEXT: Final = Statement("database.text", TEXT_SQL)


class Database[C: AnyConnection = AsyncConnection]:
    """The connections of one service. Bounded, with deadlines for waiting, connecting and each statement."""

    def __init__(self, connections: Connections[C], schema: str) -> None:
        self.schema = schema
        self._connections = connections
        self._revision = Statement("database.revision", f"SELECT version_num FROM {schema}.alembic_version")  # noqa: S608
        self._is_text_checked = False

    def as_subject(self, subject: Subject) -> AbstractAsyncContextManager[C]:
        """One transaction that reads and writes the rows of this user in this organisation; commits at the end."""
        return UnitOfWork(self._connections, f"{self.schema}_app", subject)

    def as_worker(self) -> AbstractAsyncContextManager[C]:
        """One transaction across users: claims, queues, retention, login. Never for a request's own reads."""
        return UnitOfWork(self._connections, f"{self.schema}_worker", None)

    async def not_ready_reason(self, required_revision: str, timeout_s: float = 2.0) -> str | None:
        """None if the schema is at `required_revision` or newer, so that a release that was rolled back can start.

        Also checks the database's encoding and locale until they were right once: they do not change.
        """
        try:
            async with asyncio.timeout(timeout_s), self.as_worker() as connection:
                row = await self._revision.row(connection, {})
                if fault := await self._text_fault(connection):
                    return fault
        except (MeshError, TimeoutError) as error:
            is_missing = sqlstate(error.__cause__).startswith(UNMIGRATED_CLASSES)
            return "the schema is not migrated" if is_missing else "PostgreSQL cannot be reached"
        except DRIVER_ERRORS:
            return "the schema is not migrated"
        return None if row and int(row[0]) >= int(required_revision) else "the schema is older than the code"

    async def _text_fault(self, connection: C) -> str | None:
        if self._is_text_checked:
            return None
        [row] = await _TEXT.rows(connection, {})
        fault = text_fault(*row)
        self._is_text_checked = fault is None
        return fault
