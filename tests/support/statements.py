"""What a user's requests and runs send to the database, counted where it is sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mesh_common import caller
from mesh_common.ids import UserId
from sqlalchemy import Connection, Engine, event


@dataclass
class Counted:
    statements: list[str] = field(default_factory=list)
    commits: int = 0


@contextmanager
def counted(user_id: UserId) -> Iterator[Counted]:
    """What requests and runs of this user send, without the outbox and without the loops of the process."""
    counts = Counted()

    def is_meant() -> bool:
        current = caller._current.get()
        return current is not None and current.user_id == user_id and current.service != "outbox"

    def note_statement(_c: object, _cursor: object, statement: str, _p: object, _ctx: object, _many: bool) -> None:  # noqa: FBT001 - SQLAlchemy's
        if is_meant():
            counts.statements.append(" ".join(statement.split())[:80])

    def note_commit(_: Connection) -> None:
        counts.commits += is_meant()

    event.listen(Engine, "before_cursor_execute", note_statement)
    event.listen(Engine, "commit", note_commit)
    try:
        yield counts
    finally:
        event.remove(Engine, "before_cursor_execute", note_statement)
        event.remove(Engine, "commit", note_commit)
