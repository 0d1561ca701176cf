"""Reads runs, and lists the models that a user may use."""

from dataclasses import dataclass, replace
from typing import Final

from mesh_common.cursor import decode_position_cursor, encode_position_cursor
from mesh_common.errors import NotFound
from mesh_common.ids import RunId, ThreadId
from mesh_common.subject import Subject

from mesh_agent.domain.runs import Run, RunStatus
from mesh_agent.entitlements import CachedEntitlements
from mesh_agent.llm.registry import Model, ModelRegistry
from mesh_agent.store import Database, interrupts, messages, runs, threads
from mesh_agent.usecases.pages import Page, first_page, metadata_bytes, text_bytes

_NO_RUN: Final = "There is no such run."
_NO_THREAD: Final = "There is no such thread."


@dataclass(frozen=True, slots=True)
class Runs:
    database: Database
    entitlements: CachedEntitlements
    models: ModelRegistry

    async def get(self, subject: Subject, run_id: RunId) -> Run:
        async with self.database.as_subject(subject) as connection:
            run = await runs.get_run(connection, subject.user_id, run_id)
            if run is None:
                raise NotFound(_NO_RUN)
            asked = await interrupts.of_run(connection, run_id) if run.status is RunStatus.INTERRUPTED else ()
            message = await messages.assistant_message(connection, subject.user_id, run_id)
            return replace(run, message=message, interrupts=asked)

    async def list(
        self, subject: Subject, thread_id: ThreadId, *, status: RunStatus | None, limit: int, cursor: str | None
    ) -> Page[Run]:
        before = decode_position_cursor(cursor, 1)[0] if cursor else None
        async with self.database.as_subject(subject) as connection:
            if await threads.get_thread(connection, subject.user_id, thread_id) is None:
                raise NotFound(_NO_THREAD)
            rows = await runs.list_runs(
                connection, subject.user_id, thread_id, status=status, limit=limit + 1, before=before
            )
        page, more = first_page(rows, limit, lambda row: _bytes(row[0]))
        return Page([run for run, _ in page], encode_position_cursor(page[-1][1]) if more else None)

    async def list_models(self, subject: Subject) -> tuple[Model, ...]:
        return self.models.allowed(await self.entitlements.of(subject))


def _bytes(run: Run) -> int:
    return metadata_bytes(run.metadata) + text_bytes(run.error.detail if run.error else "")
