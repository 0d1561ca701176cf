"""Lists of threads, runs and messages, and the statement that each combination of their conditions selects."""

from collections.abc import Sequence

import pytest
from mesh_agent.domain.runs import Run, RunInput, RunStatus
from mesh_agent.domain.threads import Message, Metadata, Thread
from mesh_agent.store import Connection, messages, runs, starts, threads, unended
from mesh_agent.store.starts import NewRun
from mesh_common.database.postgres import Database
from mesh_common.ids import RunId, ThreadId, UserId, new_id
from support.agent import some_user
from support.subjects import personal

TITLES = ["Tax 2024", "tax 100% done", "snake_case", "a/b tax", "Groceries"]


async def add_thread(database: Database, user_id: UserId, title: str = "", metadata: Metadata | None = None) -> Thread:
    """In a transaction of its own, because the time of a thread is that of its transaction."""
    async with database.as_subject(personal(user_id)) as connection:
        thread = await threads.insert_thread(
            connection, user_id, ThreadId(new_id()), title=title, metadata=metadata or {}
        )
    assert thread
    return thread


async def add_runs(connection: Connection, user_id: UserId, thread_id: ThreadId, count: int) -> list[RunId]:
    """Pending runs. Delete their thread in the same transaction, or the agent will claim them."""
    run_ids = [RunId(new_id()) for _ in range(count)]
    for index, run_id in enumerate(run_ids):
        run = RunInput(run_id, thread_id, f"message {index}")
        assert await starts.insert_run(connection, personal(user_id), thread_id, NewRun(run, b""))
    return run_ids


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        (None, ["Groceries", "a/b tax", "snake_case", "tax 100% done", "Tax 2024"]),
        ("", ["Groceries", "a/b tax", "snake_case", "tax 100% done", "Tax 2024"]),
        ("TAX", ["a/b tax", "tax 100% done", "Tax 2024"]),
        ("0%", ["tax 100% done"]),
        ("%", ["tax 100% done"]),
        ("_", ["snake_case"]),
        ("/", ["a/b tax"]),
        ("/b", ["a/b tax"]),
        ("/%", []),
    ],
)
async def test_threads_are_paged_by_last_use_and_found_by_a_part_of_the_title(
    agent_database: Database, query: str | None, titles: list[str]
) -> None:
    user_id = some_user()
    for title in TITLES:
        await add_thread(agent_database, user_id, title)

    pages: list[Sequence[Thread]] = []
    async with agent_database.as_subject(personal(user_id)) as connection:
        after = None
        while page := await threads.list_threads(connection, user_id, limit=2, after=after, query=query):
            pages.append(page)
            after = (page[-1].updated_at, page[-1].id)

    assert [thread.title for page in pages for thread in page] == titles
    assert all(len(page) == 2 for page in pages[:-1])


async def test_threads_of_the_same_time_are_paged_by_id(agent_database: Database) -> None:
    user_id = some_user()
    async with agent_database.as_subject(personal(user_id)) as connection:
        ids = [ThreadId(new_id()) for _ in range(3)]
        for thread_id in ids:
            await threads.insert_thread(connection, user_id, thread_id)

        [first] = await threads.list_threads(connection, user_id, limit=1, after=None, query=None)
        after = (first.updated_at, first.id)
        rest = await threads.list_threads(connection, user_id, limit=9, after=after, query=None)

    assert [first.id, *(thread.id for thread in rest)] == sorted(ids, reverse=True)
    assert {thread.updated_at for thread in rest} == {first.updated_at}


@pytest.mark.parametrize(
    ("title", "metadata", "updated"),
    [
        ("new", None, ("new", {"a": "1"})),
        ("", None, ("", {"a": "1"})),
        (None, {"b": "2"}, ("old", {"b": "2"})),
        (None, {}, ("old", {})),
        ("new", {"b": "2"}, ("new", {"b": "2"})),
        (None, None, ("old", {"a": "1"})),
    ],
)
async def test_update_of_a_thread_keeps_what_is_not_given(
    agent_database: Database, title: str | None, metadata: Metadata | None, updated: tuple[str, Metadata]
) -> None:
    user_id = some_user()
    before = await add_thread(agent_database, user_id, "old", {"a": "1"})

    async with agent_database.as_subject(personal(user_id)) as connection:
        thread = await threads.update_thread(connection, user_id, before.id, title=title, metadata=metadata)

    assert thread
    assert (thread.title, thread.metadata) == updated
    assert thread.created_at == before.created_at
    assert thread.updated_at > before.updated_at
    async with agent_database.as_subject(personal(user_id)) as connection:
        assert await threads.get_thread(connection, user_id, before.id) == thread


@pytest.mark.parametrize(
    ("status", "indexes"),
    [
        (None, [4, 3, 2, 1, 0]),
        (RunStatus.PENDING, [4, 2, 0]),
        (RunStatus.CANCELLED, [3, 1]),
        (RunStatus.RUNNING, []),
    ],
)
async def test_runs_are_paged_newest_first_and_filtered_by_status(
    agent_database: Database, status: RunStatus | None, indexes: list[int]
) -> None:
    user_id = some_user()
    thread_id = (await add_thread(agent_database, user_id)).id
    pages: list[Sequence[tuple[Run, int]]] = []
    async with agent_database.as_subject(personal(user_id)) as connection:
        run_ids = await add_runs(connection, user_id, thread_id, 5)
        for index in (1, 3):
            assert await unended.cancel_unclaimed(connection, user_id, run_ids[index], frames=b"")

        before = None
        while page := await runs.list_runs(connection, user_id, thread_id, status=status, limit=2, before=before):
            pages.append(page)
            before = page[-1][1]
        await threads.delete_thread(connection, user_id, thread_id)

    assert [run_ids.index(run.id) for page in pages for run, _ in page] == indexes
    assert all(len(page) == 2 for page in pages[:-1])


async def _messages(
    connection: Connection, user_id: UserId, thread_id: ThreadId, after: tuple[int, int] | None
) -> Sequence[tuple[Message, tuple[int, int]]]:
    rows = await messages.list_messages(connection, user_id, thread_id, limit=2, max_bytes=9_999, after=after)
    return [(message, position) for message, position in rows if message]


async def test_messages_beyond_the_bytes_of_a_page_are_not_read(agent_database: Database) -> None:
    user_id = some_user()
    thread_id = (await add_thread(agent_database, user_id)).id
    async with agent_database.as_subject(personal(user_id)) as connection:
        await add_runs(connection, user_id, thread_id, 4)
        # Each message has 9 bytes.
        read = [
            [
                message and message.content
                for message, _ in await messages.list_messages(
                    connection, user_id, thread_id, limit=3, max_bytes=max_bytes, after=None
                )
            ]
            for max_bytes in (1, 9, 17, 18, 99)
        ]
        await threads.delete_thread(connection, user_id, thread_id)

    zero, one, two = (f"message {number}" for number in range(3))
    assert read == [[zero, None, None], [zero, None, None], [zero, None, None], [zero, one, None], [zero, one, two]]


async def test_messages_are_paged_oldest_first(agent_database: Database) -> None:
    user_id = some_user()
    thread_id = (await add_thread(agent_database, user_id)).id
    pages: list[Sequence[tuple[Message, tuple[int, int]]]] = []
    async with agent_database.as_subject(personal(user_id)) as connection:
        await add_runs(connection, user_id, thread_id, 3)

        after = None
        while page := await _messages(connection, user_id, thread_id, after):
            pages.append(page)
            after = page[-1][1]
        # A cursor that a client made up: no message has such a part, and no column could hold it.
        beyond = await _messages(connection, user_id, thread_id, (0, 2**40))
        await threads.delete_thread(connection, user_id, thread_id)

    assert [message.content for message, _ in beyond] == ["message 0", "message 1"]
    contents = [[message.content for message, _ in page] for page in pages]
    assert contents == [["message 0", "message 1"], ["message 2"]]


async def test_pending_runs_of_one_thread_can_be_left_out_of_the_count(agent_database: Database) -> None:
    user_id = some_user()
    one = (await add_thread(agent_database, user_id)).id
    other = (await add_thread(agent_database, user_id)).id
    async with agent_database.as_subject(personal(user_id)) as connection:
        await add_runs(connection, user_id, one, 2)
        await add_runs(connection, user_id, other, 1)

        counts = [
            await unended.count_pending(connection, user_id),
            await unended.count_pending(connection, user_id, besides_thread=one),
            await unended.count_pending(connection, user_id, besides_thread=other),
        ]
        for thread_id in (one, other):
            await threads.delete_thread(connection, user_id, thread_id)

    assert counts == [3, 1, 2]
