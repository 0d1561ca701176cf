"""What a turn costs the database: statements and commits, counted where they are sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mesh_common import caller
from mesh_common.ids import UserId
from sqlalchemy import Connection, Engine, event
from support.agent import AgentUnderTest, some_user


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


async def test_plain_turn_on_a_new_thread_is_two_commits_and_eleven_statements(agent: AgentUnderTest) -> None:
    user_id = some_user()

    with counted(user_id) as counts:
        await agent.run(user_id, "Hello")

    assert counts.commits == 2
    assert len(counts.statements) <= 11, counts.statements


async def test_plain_turn_on_a_thread_with_history_is_two_commits_and_twelve_statements(agent: AgentUnderTest) -> None:
    user_id = some_user()
    thread_id = (await agent.run(user_id, "Hello")).thread_id

    with counted(user_id) as counts:
        await agent.run(user_id, "Hello again", thread_id=thread_id)

    assert counts.commits == 2
    assert len(counts.statements) <= 12, counts.statements
