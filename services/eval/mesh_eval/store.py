from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from mesh_common.database.postgres import Database
from mesh_common.jobs.queue import JobQueue, NewJob
from mesh_common.subject import Subject
from sqlalchemy import Row, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh_eval.domain import JudgedRun, RunScores, Score, ScoreStatus
from mesh_eval.tables import jobs, scores

JOBS = JobQueue("eval.jobs")
JUDGE = "judge"
_SCORE_COLUMNS = (
    scores.c.name,
    scores.c.status,
    scores.c.value,
    scores.c.reasoning,
    scores.c.judge_model,
    scores.c.prompt_hash,
    scores.c.created_at,
    scores.c.trace_id,
)


@dataclass(frozen=True, slots=True)
class PostgresUnitOfWork:
    database: Database

    @asynccontextmanager
    async def as_subject(self, subject: Subject) -> AsyncIterator["PostgresEvalStore"]:
        async with self.database.as_subject(subject) as connection:
            yield PostgresEvalStore(connection, subject)


class PostgresEvalStore:
    """`EvalStore` on PostgreSQL."""

    def __init__(self, connection: AsyncConnection, subject: Subject) -> None:
        self._connection = connection
        self._subject = subject
        self._user_id = subject.user_id

    async def queue(self, run: JudgedRun) -> bool:
        if await self.is_judged(run.id):
            return False
        return await JOBS.add(self._connection, NewJob(JUDGE, self._key(run.id), self._subject, run.as_payload()))

    async def count_queued(self) -> int:
        # Without dead letters: nothing the user does makes them fewer.
        own = (jobs.c.user_id == self._user_id, func.isfinite(jobs.c.due_at))
        statement = select(func.count()).select_from(jobs).where(*own)
        return int((await self._connection.execute(statement)).scalar_one())

    async def is_judged(self, run_id: UUID) -> bool:
        statement = select(exists().where(scores.c.user_id == self._user_id, scores.c.run_id == run_id))
        return bool((await self._connection.execute(statement)).scalar())

    async def add_scores(self, run: JudgedRun, scores_of_run: Sequence[Score]) -> None:
        rows = [self._row(run, score) for score in scores_of_run]
        await self._connection.execute(insert(scores).on_conflict_do_nothing(), rows)

    async def list_scores(self, run_id: UUID) -> RunScores:
        statement = (
            select(*_SCORE_COLUMNS)
            .where(scores.c.user_id == self._user_id, scores.c.run_id == run_id)
            .order_by(scores.c.name)
        )
        found = tuple(_score(row) for row in (await self._connection.execute(statement)).all())
        return RunScores(found, is_pending=not found and await self._is_queued(run_id))

    async def _is_queued(self, run_id: UUID) -> bool:
        statement = select(
            exists().where(
                jobs.c.user_id == self._user_id,
                jobs.c.kind == JUDGE,
                jobs.c.key == self._key(run_id),
                func.isfinite(jobs.c.due_at),
            )
        )
        return bool((await self._connection.execute(statement)).scalar())

    def _key(self, run_id: UUID) -> str:
        # Contains the user, so that nobody can keep another user's run out of the queue by submitting its id first.
        return f"{self._user_id}:{run_id}"

    def _row(self, run: JudgedRun, score: Score) -> dict[str, Any]:
        return {
            "user_id": self._user_id,
            "run_id": run.id,
            "name": score.name,
            "status": score.status.value,
            "value": score.value,
            "reasoning": score.reasoning,
            "run_model": run.model,
            "judge_model": score.judge_model,
            "prompt_hash": score.prompt_hash,
            "trace_id": score.trace_id,
            "created_at": score.created_at,
        }


def _score(row: Row[Any]) -> Score:
    return Score(
        name=row.name,
        status=ScoreStatus(row.status),
        value=row.value,
        reasoning=row.reasoning,
        judge_model=row.judge_model,
        prompt_hash=row.prompt_hash,
        created_at=row.created_at,
        trace_id=row.trace_id,
    )
