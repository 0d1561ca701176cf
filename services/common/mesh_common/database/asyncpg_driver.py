"""asyncpg: how to connect, its transactions and its errors."""

import asyncio
from contextlib import suppress
from typing import Any, Final

import asyncpg

from mesh_common.database.connections import ids_of, is_unavailable_state, session_settings, sqlstate
from mesh_common.subject import Subject

# Only ids and a role name from our own code are inserted. The simple protocol, which accepts two statements at once,
# has no parameters.
_BEGIN: Final = (
    "BEGIN; SELECT set_config('role', '{role}', true), set_config('mesh.user_id', '{user_id}', true),"
    " set_config('mesh.org_id', '{org_id}', true)"
)
DRIVER_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# A server that shuts down announces it on idle connections too. Until such a connection is closed, asyncpg takes the
# announcement for the response to a request and raises InternalClientError.
_DEAD: Final = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)
# After these, a statement may have no response yet, or the connection may be out of step with the protocol.
_CUT: Final = (asyncio.CancelledError, TimeoutError, GeneratorExit, asyncpg.InternalClientError)


def connect_args(timeout_s: float) -> dict[str, Any]:
    """Deadlines for connecting and for each statement, for `asyncpg.connect`."""
    return {"timeout": timeout_s, "command_timeout": timeout_s, "server_settings": session_settings(timeout_s)}


async def begin(connection: asyncpg.Connection, role: str, subject: Subject | None) -> None:
    org_id, user_id = ids_of(subject)
    await connection.execute(_BEGIN.format(role=role, user_id=user_id, org_id=org_id))


async def commit(connection: asyncpg.Connection) -> None:
    # If a statement failed and the caller continued, PostgreSQL answers with ROLLBACK and not with an error.
    if await connection.execute("COMMIT") != "COMMIT":
        raise AssertionError("a transaction was committed in which a statement had failed")


async def leave_transaction(connection: asyncpg.Connection, error: BaseException | None) -> None:
    """Rolls back unless committed. Terminates a connection on which a statement may still be running."""
    if isinstance(error, _CUT):
        connection.terminate()
    elif connection.is_in_transaction():
        await _roll_back(connection)


async def _roll_back(connection: asyncpg.Connection) -> None:
    """Terminates the connection if it cannot roll back."""
    with suppress(*DRIVER_ERRORS, OSError, TimeoutError):
        await connection.execute("ROLLBACK")
        return
    connection.terminate()


def is_dead(error: BaseException) -> bool:
    return isinstance(error, _DEAD)


def is_unavailable(error: BaseException) -> bool:
    if isinstance(error, (OSError, TimeoutError)):
        return True
    return isinstance(error, DRIVER_ERRORS) and (is_dead(error) or is_unavailable_state(sqlstate(error)))
