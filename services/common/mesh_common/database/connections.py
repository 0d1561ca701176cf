"""What a unit of work needs of a driver and its pool."""

from typing import Final, Protocol
from uuid import UUID

from mesh_common.subject import Subject

# A schema, a column, a type, a function, a table or a unique index that the next migration creates.
UNMIGRATED_CLASSES: Final = ("3F000", "42703", "42704", "42883", "42P01", "42P10")
# Class 08: connection; 40: rolled back by a deadlock; 53: resources; 57: the operator stopped us.
# https://www.postgresql.org/docs/18/errcodes-appendix.html
# Class 28: a password that is being rotated.
# 25P03: our transaction was idle for too long.
_UNAVAILABLE_CLASSES: Final = ("08", "25P03", "28", "40", "53", "57", *UNMIGRATED_CLASSES)


class Connections[C](Protocol):
    """A pool of connections, and how its driver begins and ends transactions and reports errors."""

    async def take(self) -> C:
        """A connection from the pool, or a new one. Waits for at most the timeout of the pool."""

    async def begin(self, connection: C, role: str, subject: Subject | None) -> None:
        """Begins a transaction with the role. It sees the rows of the subject, or those of no user if there is none."""

    async def commit(self, connection: C) -> None: ...

    async def release(self, connection: C, error: BaseException | None) -> None:
        """Rolls back unless committed, and returns the connection to the pool. A broken connection is discarded.

        `error`: what ended the transaction. After some errors a statement may still be running.
        """

    def is_dead(self, error: BaseException) -> bool:
        """Whether this one connection of the pool is dead, so that another one may work.

        Not a failure to connect, and not an error that the server returned.
        """

    def is_unavailable(self, error: BaseException) -> bool:
        """Whether the database itself is the problem (unreachable, restarting, full) and not the statement."""


def sqlstate(error: BaseException | None) -> str:
    """Five characters, or "" if the error did not come from PostgreSQL."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def is_unavailable_state(code: str) -> bool:
    return code.startswith(_UNAVAILABLE_CLASSES)


def ids_of(subject: Subject | None) -> tuple[str, str]:
    """The ids of the organisation and the user. Built from integers, so that they cannot inject SQL."""
    if subject is None:
        return "", ""
    return str(UUID(int=subject.organisation_id.int)), str(UUID(int=subject.user_id.int))


def session_settings(timeout_s: float) -> dict[str, str]:
    """PostgreSQL's settings of each connection."""
    timeout_ms = int(timeout_s * 1000)
    return {
        "statement_timeout": str(timeout_ms),
        # A process that freezes inside a transaction must not hold its locks until its connection ends.
        "idle_in_transaction_session_timeout": str(timeout_ms * 2),
        "jit": "off",
    }
