"""The queue with a worker that dies, and with a model that is unavailable for a while."""

import asyncio
from typing import Any

import pytest
from mesh_common.database.postgres import Database
from mesh_common.ids import new_id
from mesh_common.jobs.queue import JobQueue
from mesh_common.subject import Subject
from mesh_memory.domain import Turn
from mesh_memory.settings import MemorySettings
from mesh_memory.store import KEEP_TURN, PostgresUnitOfWork
from mesh_memory.tables import jobs
from simulator.client import SimulatorAdmin
from sqlalchemy import delete, func, select, update
from support import dead_letters
from support.memory import new_subject, open_memory
from support.mesh import TestMesh
from support.turns import turn_of

SENTENCE = "My name is Ada and my code word is zebra-4711."


def _turn(sentence: str = SENTENCE) -> Turn:
    return turn_of(sentence)


def _failed_once(word: str) -> dict[str, Any]:
    """A rule for one answer of the model. The worker claims all users' turns, so only Ada's may contain the word."""
    return {"match": {"structured": True, "contains": word, "times": 1}, "action": {"fault": "500"}}


async def test_a_turn_survives_the_death_of_its_worker(
    database: Database, settings: MemorySettings, memory_mesh: TestMesh
) -> None:
    ada, queue = new_subject(), JobQueue("memory.jobs")
    async with PostgresUnitOfWork(database, queue)(ada) as store:
        await store.queue(_turn())
    async with database.as_worker() as connection:
        # A worker that claimed it and died at once: its lease has expired, and nothing was settled.
        assert ada in {job.subject for job in await queue.claim(connection, [KEEP_TURN], limit=1_000, lease_s=0.0)}

    async with open_memory(settings, memory_mesh) as memory:
        assert await memory.texts_once_kept(ada) == [SENTENCE]


async def test_a_turn_is_kept_once_the_model_is_back(
    settings: MemorySettings, memory_mesh: TestMesh, simulator_url: str
) -> None:
    ada = new_subject()
    hasty = settings.model_copy(update={"extraction_tries": 1})
    word = f"zebra-{ada.user_id.hex}"
    sentence = f"My code word is {word}."

    async with SimulatorAdmin(simulator_url) as simulator, open_memory(hasty, memory_mesh) as memory:
        await simulator.put_rules([_failed_once(word)])
        await memory.remember(ada, sentence)
        texts = await memory.texts_once_kept(ada)
        [rule] = await simulator.rules()
        await simulator.clear_rules()

    assert texts == [sentence]
    assert rule["hits"] == 1


async def test_a_turn_outlives_days_without_the_model(
    database: Database, settings: MemorySettings, memory_mesh: TestMesh, simulator_url: str
) -> None:
    ada = new_subject()
    hasty = settings.model_copy(update={"extraction_tries": 1})
    word = f"zebra-{ada.user_id.hex}"
    sentence = f"My code word is {word}."
    async with PostgresUnitOfWork(database, JobQueue("memory.jobs"))(ada) as store:
        await store.queue(_turn(sentence))
    async with database.as_subject(ada) as connection:
        # At five minutes each, these attempts took three days.
        await connection.execute(update(jobs).values(attempt=900))

    async with SimulatorAdmin(simulator_url) as simulator:
        # Before the service starts, because its worker claims the turn at once.
        await simulator.put_rules([_failed_once(word)])
        async with open_memory(hasty, memory_mesh) as memory:
            async with database.as_subject(ada) as connection:
                given_back = select(func.count()).where(jobs.c.attempt > 900, jobs.c.leased_until.is_(None))
                async with asyncio.timeout(30):
                    while not (await connection.execute(given_back)).scalar_one():
                        pass
                await connection.execute(update(jobs).values(due_at=func.now()))
            texts = await memory.texts_once_kept(ada)
        await simulator.clear_rules()

    assert texts == [sentence]


async def test_dead_letters_are_not_pending_turns_and_go_with_the_memories(database: Database) -> None:
    ada = new_subject()
    async with PostgresUnitOfWork(database, JobQueue("memory.jobs"))(ada) as store:
        await store.queue(_turn())
    async with database.as_worker() as connection:
        own = update(jobs).where(jobs.c.user_id == ada.user_id)
        await connection.execute(own.values(due_at=func.timestamptz("infinity"), attempt=0))

    async with PostgresUnitOfWork(database, JobQueue("memory.jobs"))(ada) as store:
        await store.queue(_turn())
        pending = (await store.admission(new_id())).queued
        await store.forget()
    async with database.as_subject(ada) as connection:
        left = (await connection.execute(select(func.count()).select_from(jobs))).scalar_one()

    assert (pending, left) == (1, 0)


async def test_dead_letters_are_listed(database: Database, settings: MemorySettings, memory_mesh: TestMesh) -> None:
    ada = new_subject()
    async with PostgresUnitOfWork(database, JobQueue("memory.jobs"))(ada) as store:
        await store.queue(_turn())
    async with database.as_worker() as connection:
        dead = update(jobs).where(jobs.c.user_id == ada.user_id).returning(jobs.c.id)
        infinity = func.timestamptz("infinity")
        values = {"due_at": infinity, "first_due_at": infinity, "failed_at": func.now(), "reason": "EXTRACTION"}
        dead_id = (await connection.execute(dead.values(values))).scalar_one()

    async with open_memory(settings, memory_mesh):
        found = await dead_letters.listed(memory_mesh, "memory", settings.grpc_port)
    async with database.as_worker() as connection:
        await connection.execute(delete(jobs).where(jobs.c.id == dead_id))

    assert str(dead_id) in found


async def test_a_finished_turn_leaves_the_queue(
    database: Database, settings: MemorySettings, memory_mesh: TestMesh
) -> None:
    ada = new_subject()

    async with open_memory(settings, memory_mesh) as memory:
        await memory.remember(ada, SENTENCE)
        await memory.texts_once_kept(ada)
        # It is settled in a transaction after the one that stored the facts. The test's timeout bounds the wait.
        async with database.as_subject(ada) as connection:
            while (await connection.execute(select(func.count()).select_from(jobs))).scalar_one():
                pass


@pytest.mark.parametrize(
    "reply", ["I would rather not say.", '{"memory": [{"text": "I ', "```json\n{}\n```", "<think>Hm"]
)
async def test_turn_is_given_up_after_three_unreadable_answers_in_all(
    database: Database, settings: MemorySettings, memory_mesh: TestMesh, simulator_url: str, reply: str
) -> None:
    """Every service here is a new process as far as the turn is concerned."""
    ada = new_subject()
    word = f"zebra-{ada.user_id.hex}"
    async with PostgresUnitOfWork(database, JobQueue("memory.jobs"))(ada) as store:
        await store.queue(_turn(f"My code word is {word}."))

    async with SimulatorAdmin(simulator_url) as simulator:
        await simulator.put_rules(
            [{"match": {"structured": True, "contains": word, "times": 9}, "action": {"reply": reply}}]
        )
        for attempt in (1, 2, 3):
            async with open_memory(settings, memory_mesh):
                await _attempted(database, ada, attempt)
        [rule] = await simulator.rules()
        await simulator.clear_rules()

    assert rule["hits"] == 3
    async with database.as_subject(ada) as connection:
        assert (await connection.execute(select(func.count()).select_from(jobs))).scalar_one() == 0


async def _attempted(database: Database, user: Subject, attempt: int) -> None:
    """Makes the user's only job due, and waits until this attempt is settled."""
    async with asyncio.timeout(30):
        while True:
            async with database.as_subject(user) as connection:
                free = jobs.c.leased_until.is_(None)
                left = (await connection.execute(select(jobs.c.attempt, free.label("is_free")))).one_or_none()
                if left is None or (left.attempt == attempt and left.is_free):
                    return
                await connection.execute(update(jobs).where(free).values(due_at=func.now()))
