"""Reading and cancelling runs."""

from dataclasses import dataclass, replace
from typing import Final

import structlog
from mesh_common.cursor import decode_position_cursor, encode_position_cursor
from mesh_common.errors import MeshError, NotFound
from mesh_common.ids import RunId, ThreadId, UserId
from mesh_common.postgres import Database

from mesh_agent.checkpoint import delete_checkpoints
from mesh_agent.domain import FollowedRun, Run, RunStatus, Usage
from mesh_agent.entitlements import CachedEntitlements
from mesh_agent.events import RunCancelled, RunEvent
from mesh_agent.executor import Executor
from mesh_agent.frames import encode_frames
from mesh_agent.llm.registry import Model, ModelRegistry
from mesh_agent.metrics import RUNS_ENDED
from mesh_agent.ports import PeerAgents
from mesh_agent.store import Connection, runs, threads
from mesh_agent.usecases.threads import Page

log = structlog.get_logger()

_NO_RUN: Final = "There is no such run."
_NO_THREAD: Final = "There is no such thread."
# What the end transaction of a cancelled run may take; beyond that the caller is told how it stands.
_END_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Runs:
    database: Database
    executor: Executor
    entitlements: CachedEntitlements
    models: ModelRegistry
    peers: PeerAgents

    async def get(self, user_id: UserId, run_id: RunId) -> Run:
        async with self.database.as_user(user_id) as connection:
            run = await runs.get_run(connection, user_id, run_id)
            if run is None:
                raise NotFound(_NO_RUN)
            return replace(run, message=await threads.assistant_message(connection, user_id, run_id))

    async def list(self, user_id: UserId, thread_id: ThreadId, *, limit: int, cursor: str | None) -> Page[Run]:
        before = decode_position_cursor(cursor, 1)[0] if cursor else None
        async with self.database.as_user(user_id) as connection:
            if await threads.get_thread(connection, user_id, thread_id) is None:
                raise NotFound(_NO_THREAD)
            rows = await runs.list_runs(connection, user_id, thread_id, limit=limit + 1, before=before)
        more = len(rows) > limit
        return Page([run for run, _ in rows[:limit]], encode_position_cursor(rows[limit - 1][1]) if more else None)

    async def cancel(self, user_id: UserId, run_id: RunId) -> Run:
        """Ends a pending run at once, stops a running one and waits for its end; an ended run stays as it is.

        One that another replica owns is stopped there; should that one be out of reach, at its next heartbeat.
        """
        async with self.database.as_user(user_id) as connection:
            run = await runs.get_run(connection, user_id, run_id)
            if run is None:
                raise NotFound(_NO_RUN)
            is_over = run.status.is_ended or await self._cancel_pending(connection, user_id, run)
            if not is_over:
                await runs.request_cancel(connection, user_id, run_id)
            followed = await runs.followed_run(connection, user_id, run_id)
        if followed and not followed.is_ended:
            await self._stop(run_id, followed)
        return await self.get(user_id, run_id)

    async def cancel_for_disconnect(self, user_id: UserId, run_id: RunId) -> None:
        """The caller is gone already: there is nobody to tell what went wrong."""
        try:
            await self.cancel(user_id, run_id)
        except MeshError as error:
            log.warning("run.not_cancelled", reason=error.reason)

    async def _cancel_pending(self, connection: Connection, user_id: UserId, run: Run) -> bool:
        attempt = run.attempt + 1
        frames = encode_frames([RunEvent(run.id, attempt, 1, RunCancelled(Usage()))])
        if not await runs.cancel_pending(connection, user_id, run.id, attempt=run.attempt, frames=frames):
            return False
        if run.attempt:
            await delete_checkpoints(connection, run.id)
        RUNS_ENDED.labels(RunStatus.CANCELLED).inc()
        return True

    async def _stop(self, run_id: RunId, followed: FollowedRun) -> None:
        if self.executor.cancel(run_id):
            await self.executor.wait_for_end(run_id, _END_TIMEOUT_S)
        elif followed.owner_address and not self.executor.is_mine(followed):
            await self.peers.cancel(followed.owner_address, run_id)

    async def list_models(self, user_id: UserId) -> tuple[Model, ...]:
        return self.models.allowed(await self.entitlements.of(user_id))
