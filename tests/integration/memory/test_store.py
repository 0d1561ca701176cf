"""Guarantees of the SQL beyond the contract: complete recall, row-level security, and deletion during processing."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import pytest
from asyncpg import InsufficientPrivilegeError
from fakes.memory.models import FakeEmbedder, FakeExtractor
from mesh_common.clock import utc_now
from mesh_common.database.postgres import Database
from mesh_common.database.statements import driver_of
from mesh_common.errors import MeshError
from mesh_common.ids import new_id
from mesh_common.jobs.queue import JobQueue
from mesh_common.subject import Subject
from mesh_memory.domain import Memory, Message, NewMemory, Origin, Source, Speaker, Turn
from mesh_memory.store import SEARCH, PostgresMemoryStore, PostgresUnitOfWork
from mesh_memory.store import turn_of as turn_in
from mesh_memory.tables import jobs, memories
from mesh_memory.usecases import EditMemories, FairEmbedder, ForgetMemories, KeepTurn, Limits, Remember
from sqlalchemy import insert, select, text
from sqlalchemy.exc import ProgrammingError
from support.memory import new_subject
from support.row_security import EXPECTED, tables_of, who_sees
from support.turns import turn_of

DIMENSIONS = 16
ROWS = 10_000
TABLES = ["forget_generations", "forgotten_threads", "jobs", "memories", "remembered_runs"]
LIMITS = Limits(
    recall_timeout_s=0.3,
    embedding_timeout_s=5.0,
    recall_min_similarity=0.3,
    duplicate_similarity=0.98,
    max_memories=100,
    max_queued_turns=10,
    max_extractions=5,
)


@pytest.fixture
def unit_of_work(database: Database) -> PostgresUnitOfWork:
    return PostgresUnitOfWork(database, JobQueue("memory.jobs"))


def _turn() -> Turn:
    return turn_of("I like tea.")


async def _queued(store: PostgresMemoryStore) -> int:
    return (await store.admission(new_id())).queued


async def _fill(database: Database, space: str, users: list[Subject]) -> None:
    """Stores ROWS memories with random vectors, distributed over the users."""
    rng = random.Random(7)  # noqa: S311 - the same every time
    rows = [
        {
            "id": new_id(),
            "user_id": users[number % len(users)].user_id,
            "text": f"Fact {number}",
            "text_hash": number.to_bytes(4),
            "origin": "written",
            "embedding_model": space,
            "embedding": [rng.gauss(0, 1) for _ in range(DIMENSIONS)],
        }
        for number in range(ROWS)
    ]
    async with database.as_worker() as connection:
        for start in range(0, ROWS, 1_000):
            await connection.execute(insert(memories), rows[start : start + 1_000])


async def test_search_reads_the_vector_that_it_is_given_once(database: Database) -> None:
    """After five searches PostgreSQL may cache a generic plan, which would evaluate a cast for each memory."""
    subject = new_subject()
    async with database.as_subject(subject) as connection:
        driver = driver_of(connection)
        await driver.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await driver.execute(f"PREPARE search AS {SEARCH.sql}")
        plan = await driver.fetch(f"EXPLAIN EXECUTE search('[1]', '{subject.user_id}', 'space', 1.0, 1)")
        await driver.execute("DEALLOCATE search")

    assert [line for (line,) in plan if "::vector" in line] == []


@pytest.mark.parametrize("user_count", [2, 10, 100])
async def test_recall_is_complete_however_many_users_there_are(
    database: Database, unit_of_work: PostgresUnitOfWork, user_count: int
) -> None:
    """With 100 users, mem0's own index finds nothing from about the tenth search on a connection (FACTS)."""
    users = [new_subject() for _ in range(user_count)]
    space = f"random/{user_count}"
    await _fill(database, space, users)
    rng = random.Random(11)  # noqa: S311 - the same every time

    for number in range(30):
        query = [rng.gauss(0, 1) for _ in range(DIMENSIONS)]
        async with unit_of_work(users[number % user_count]) as store:
            found = await store.search(query, space, limit=50, min_similarity=-1.0)

        assert len(found) == 50
        similarities = [memory.similarity or 0.0 for memory in found]
        assert similarities == sorted(similarities, reverse=True)


async def test_the_best_of_all_is_found(database: Database, unit_of_work: PostgresUnitOfWork) -> None:
    users, space = [new_subject() for _ in range(50)], "random/exact"
    await _fill(database, space, users)
    async with database.as_subject(users[0]) as connection:
        rows = (await connection.execute(select(memories.c.id, memories.c.embedding))).all()

    for row in rows[:30]:
        async with unit_of_work(users[0]) as store:
            [best] = await store.search(list(row.embedding), space, limit=1, min_similarity=0.999)
        assert best.id == row.id


async def test_search_reads_the_rows_of_its_user_alone(database: Database) -> None:
    users, space = [new_subject() for _ in range(100)], "random/plan"
    await _fill(database, space, users)
    statement = text(
        "EXPLAIN SELECT id FROM memory.memories WHERE user_id = :user AND embedding_model = :space"
        " ORDER BY embedding <=> cast(:query AS vector) LIMIT 5"
    )

    async with database.as_subject(users[0]) as connection:
        parameters = {"user": users[0].user_id, "space": space, "query": str([1.0] * DIMENSIONS)}
        plan = "\n".join((await connection.execute(statement, parameters)).scalars())

    assert "Seq Scan" not in plan
    assert "user_id" in plan.partition("Index Cond")[2]


async def _foreign_memory(unit_of_work: PostgresUnitOfWork, owner: Subject) -> Memory:
    async with unit_of_work(owner) as store:
        await store.forget()
        await store.forget_thread(new_id(), None)
        memory = await store.add(NewMemory("I like tea.", Origin.WRITTEN, None, "fake/2", [1.0, 0.0]))
        await store.queue(_turn())
    assert memory
    return memory


async def test_every_query_run_for_another_user_returns_no_foreign_row(
    database: Database, unit_of_work: PostgresUnitOfWork
) -> None:
    """The store filters by the owner, so only row-level security can hide the rows."""
    owner, stranger = new_subject(), new_subject()
    theirs = await _foreign_memory(unit_of_work, owner)
    queries: list[Callable[[PostgresMemoryStore], Awaitable[object]]] = [
        lambda store: store.search([1.0, 0.0], "fake/2", limit=10, min_similarity=-1.0),
        lambda store: store.page(10, None),
        lambda store: store.get(theirs.id),
        lambda store: store.same_text("I like tea."),
        lambda store: store.count(),
        _queued,
        lambda store: store.change(theirs.id, "Mine.", "fake/2", [0.0, 1.0]),
        lambda store: store.delete(theirs.id),
        lambda store: store.delete_all(),
    ]

    async with database.as_subject(stranger) as connection:
        store = PostgresMemoryStore(connection, owner, JobQueue("memory.jobs"))
        answers = [await query(store) for query in queries]

    assert not any(answers)
    async with unit_of_work(owner) as own:
        assert await own.get(theirs.id) == theirs
        assert await _queued(own) == 1


async def test_a_row_is_its_organisations_and_its_users(database: Database, unit_of_work: PostgresUnitOfWork) -> None:
    """Reads and writes with the organisation, the user, both and neither."""
    owner, tables = new_subject(), await tables_of(database)
    await _foreign_memory(unit_of_work, owner)

    seen = {table: await who_sees(database, table, owner.user_id) for table in tables}

    # These two have no rows without an organisation.
    personal = {"of the personal organisation": EXPECTED["of the personal organisation"]}
    assert seen == dict.fromkeys(TABLES, EXPECTED) | dict.fromkeys(
        ["forget_generations", "forgotten_threads"], personal
    )


@pytest.mark.parametrize("table", TABLES)
async def test_a_table_read_without_any_condition_shows_no_foreign_row(
    database: Database, unit_of_work: PostgresUnitOfWork, table: str
) -> None:
    await _foreign_memory(unit_of_work, new_subject())

    async with database.as_subject(new_subject()) as connection:
        count = (await connection.execute(text(f"SELECT count(*) FROM memory.{table}"))).scalar_one()  # noqa: S608

    assert count == 0


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.add(NewMemory("You owe me.", Origin.WRITTEN, None, "fake/2", [1.0, 0.0])),
        lambda store: store.forget(),
        lambda store: store.forget_thread(new_id(), None),
    ],
)
async def test_nobody_writes_a_row_for_another_user(
    database: Database, write: Callable[[PostgresMemoryStore], Awaitable[object]]
) -> None:
    async def write_for(victim: Subject) -> None:
        async with database.as_subject(new_subject()) as connection:
            await write(PostgresMemoryStore(connection, victim, JobQueue("memory.jobs")))

    with pytest.raises((ProgrammingError, InsufficientPrivilegeError), match="row-level security"):
        await write_for(new_subject())


@pytest.mark.parametrize("deletion", ["all", "one", "thread"])
async def test_a_worker_that_was_overtaken_by_deletion_keeps_nothing(
    unit_of_work: PostgresUnitOfWork, deletion: str
) -> None:
    ada, turn = new_subject(), _turn()
    embedder, extractor, forget = FakeEmbedder(), FakeExtractor(), ForgetMemories(unit_of_work)
    other = await EditMemories(unit_of_work, FairEmbedder(embedder), LIMITS).create(ada, "I live in Rome.")
    async with unit_of_work(ada) as store:
        await store.queue(turn)
    extractor.hold()

    async with asyncio.TaskGroup() as group:
        group.create_task(KeepTurn(unit_of_work, embedder, extractor, LIMITS)(ada, turn))
        await extractor.started.wait()
        match deletion:
            case "all":
                await forget.all(ada)
            case "one":
                await forget.one(ada, other.id)
            case _:
                await forget.thread(ada, turn.thread_id, None)
        extractor.go_on.set()

    async with unit_of_work(ada) as store:
        assert await store.same_text("I like tea.") is None


@pytest.mark.parametrize("said_at", [utc_now() - timedelta(seconds=1), None])
async def test_a_turn_whose_queueing_overlaps_a_deletion_is_not_kept(
    unit_of_work: PostgresUnitOfWork, said_at: datetime | None
) -> None:
    """The deletion does not see the turn, which is committed after it. Without a time, its arrival counts."""
    ada, run_id, thread_id = new_subject(), new_id(), new_id()
    message = Message(Speaker.USER, "I like tea.", Source(run_id, thread_id, None, said_at))
    turn = Turn(run_id, thread_id, (message,))
    async with unit_of_work(ada) as store:
        assert await store.queue(turn)
        await ForgetMemories(unit_of_work).all(ada)

    await KeepTurn(unit_of_work, FakeEmbedder(), FakeExtractor(), LIMITS)(ada, turn)

    async with unit_of_work(ada) as store:
        assert await store.count() == 0


async def test_many_workers_with_the_same_turn_keep_it_once(unit_of_work: PostgresUnitOfWork) -> None:
    ada, turn = new_subject(), _turn()
    async with unit_of_work(ada) as store:
        await store.queue(turn)
    keep = KeepTurn(unit_of_work, FakeEmbedder(), FakeExtractor(), LIMITS)

    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(keep(ada, turn))

    async with unit_of_work(ada) as store:
        assert await store.count() == 1


async def test_the_limit_holds_when_many_write_at_once(unit_of_work: PostgresUnitOfWork) -> None:
    ada = new_subject()
    limits = Limits(0.3, 5.0, 0.3, 0.98, max_memories=3, max_queued_turns=10, max_extractions=3)
    edit = EditMemories(unit_of_work, FairEmbedder(FakeEmbedder()), limits)

    async def create(number: int) -> bool:
        try:
            await edit.create(ada, f"Fact {number}")
        except MeshError:
            return False
        return True

    created = await asyncio.gather(*(create(number) for number in range(8)))

    assert sum(created) == 3


async def test_a_turn_comes_out_of_the_queue_as_it_went_in(
    database: Database, unit_of_work: PostgresUnitOfWork
) -> None:
    ada, turn = new_subject(), _turn()
    await Remember(unit_of_work, lambda: None, LIMITS)(ada, turn)

    async with database.as_subject(ada) as connection:
        job = (await connection.execute(select(jobs))).one()

    assert turn_in(job.payload) == turn
    assert (job.org_id, job.user_id) == (ada.organisation_id, ada.user_id)
