"""Dead letters in the tables of the tests."""

from typing import Any
from uuid import UUID

from mesh_common.database.postgres import Database
from mesh_common.jobs.dead_letters import EVERY, DeadLetter, DeadLetters, Selection

from support.jobs import KIND, QUEUE, add_job
from support.scratch import jobs

LETTERS = DeadLetters(jobs.fullname)


async def letters_of(database: Database, selection: Selection = EVERY) -> list[DeadLetter]:
    async with database.as_worker() as connection:
        return list(await LETTERS.page(connection, selection, limit=100))


async def bury(database: Database, key: str = "k", *, kind: str = KIND, payload: dict[str, Any] | None = None) -> UUID:
    """A dead letter, as the worker leaves it."""
    await add_job(database, key, kind=kind, payload=payload)
    async with database.as_worker() as connection:
        [job] = await QUEUE.claim(connection, [kind], limit=1, lease_s=60)
        assert await QUEUE.bury(connection, job, "MISCONFIGURED", retry_for_s=-1.0)
    return job.id
