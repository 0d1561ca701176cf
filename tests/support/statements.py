"""Counts the statements that a user's requests and runs send to the database, in the process that sends them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from mesh_common import caller
from mesh_common.ids import UserId
from sqlalchemy import Connection, Engine, Pool, event

type Note = Callable[[str], None]


@dataclass
class Counted:
    statements: list[str] = field(default_factory=list)
    commits: int = 0


@contextmanager
def counted(user_id: UserId) -> Iterator[Counted]:
    """Counts what requests and runs of this user send, without the outbox and without the process's loops.

    SQLAlchemy reports statements that go through it, asyncpg those that bypass it.
    """
    counts = Counted()

    def note(statement: str) -> None:
        current = caller._current.get()
        if (
            current is None
            or current.subject is None
            or current.subject.user_id != user_id
            or current.service == "outbox"
        ):
            return
        if statement == "COMMIT":
            counts.commits += 1
        else:
            counts.statements.append(" ".join(statement.split())[:80])

    with ExitStack() as stack:
        for target, name, hear in (*_through_sqlalchemy(note), *_past_it(note)):
            event.listen(target, name, hear)
            stack.callback(event.remove, target, name, hear)
        yield counts


def _through_sqlalchemy(note: Note) -> Iterator[tuple[Any, str, Any]]:
    def on_statement(_c: object, _cursor: object, statement: str, _p: object, _ctx: object, _many: bool) -> None:  # noqa: FBT001 - SQLAlchemy's
        note(statement)

    def on_commit(_: Connection) -> None:
        note("COMMIT")

    yield Engine, "before_cursor_execute", on_statement
    yield Engine, "commit", on_commit


def _past_it(note: Note) -> Iterator[tuple[Any, str, Any]]:
    def on_query(query: asyncpg.connection.LoggedQuery) -> None:
        note(query.query)

    def on_checkout(dbapi_connection: Any, _record: object, _proxy: object) -> None:
        driver = dbapi_connection.driver_connection
        if isinstance(driver, asyncpg.Connection):
            driver.add_query_logger(on_query)

    def on_checkin(dbapi_connection: Any, _record: object) -> None:
        driver = dbapi_connection and dbapi_connection.driver_connection
        if isinstance(driver, asyncpg.Connection) and not driver.is_closed():
            driver.remove_query_logger(on_query)

    yield Pool, "checkout", on_checkout
    yield Pool, "checkin", on_checkin
