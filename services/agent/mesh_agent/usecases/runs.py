"""Starting, reading and cancelling runs."""

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Final

import structlog
from mesh_common.cursor import decode_position_cursor, encode_position_cursor
from mesh_common.errors import (
    Conflict,
    IdempotencyKeyReused,
    InvalidInput,
    MeshError,
    NotFound,
    QuotaExceeded,
    Unavailable,
)
from mesh_common.ids import RunId, ThreadId, UserId, new_id
from mesh_common.postgres import Database

from mesh_agent.checkpoint import delete_checkpoints
from mesh_agent.domain import Claim, Entitlements, FollowedRun, Multitask, Run, RunInput, RunStatus, Usage
from mesh_agent.entitlements import CachedEntitlements
from mesh_agent.events import RunCancelled, RunEvent
from mesh_agent.executor import Executor
from mesh_agent.frames import encode_frames
from mesh_agent.graph.window import message_tokens
from mesh_agent.llm.registry import Model, ModelRegistry
from mesh_agent.metrics import RUNS_ENDED
from mesh_agent.ports import PeerAgents
from mesh_agent.store import Connection, claims, runs, threads
from mesh_agent.usecases.threads import Page, request_hash

log = structlog.get_logger()

_NO_RUN: Final = "There is no such run."
_NO_THREAD: Final = "There is no such thread."
# Until the month ends a used-up budget stays used up; an hour keeps clients from asking all the time.
_QUOTA_RETRY_AFTER_S = 3_600.0
_PENDING_RETRY_AFTER_S = 5.0
# What the end transaction of a cancelled run may take; beyond that the caller is told how it stands.
_END_TIMEOUT_S = 3.0


class _RepeatedError(Exception):
    """Rolls the transaction back: the run is there already."""


@dataclass(frozen=True, slots=True)
class StartedRun:
    """`is_new` is False when an earlier request made it."""

    run_id: RunId
    thread_id: ThreadId
    is_new: bool


@dataclass(frozen=True, slots=True)
class Runs:
    database: Database
    executor: Executor
    entitlements: CachedEntitlements
    models: ModelRegistry
    peers: PeerAgents
    max_pending_per_user: int
    prompt_tokens: int
    """What the system prompt takes of a model's input."""

    async def start(self, user_id: UserId, run: RunInput) -> StartedRun:
        """Durable when it returns: stored in one transaction, and claimed in the same one when the thread is free."""
        entitlements = await self.entitlements.of(user_id)
        # What was committed must be executed, also when the caller goes away between the two.
        storing = self.executor.spawn(self._store_and_launch(user_id, run, entitlements))
        return await asyncio.shield(storing)

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

    def _check(self, run: RunInput, entitlements: Entitlements) -> None:
        """Of a new run only: a repeated one has passed already."""
        models = self.models.order_for(run.model, entitlements)
        if entitlements.is_used_up:
            raise QuotaExceeded("Your token budget for this month is used up.", retry_after_s=_QUOTA_RETRY_AFTER_S)
        budget_tokens = min(model.input_budget_tokens for model in models) - self.prompt_tokens
        if message_tokens(run.message) > budget_tokens:
            raise InvalidInput.of_field("message", f"is longer than the model can read ({budget_tokens} tokens)")

    async def _store_and_launch(self, user_id: UserId, run: RunInput, entitlements: Entitlements) -> StartedRun:
        digest = _digest(run)
        asked_at_s = time.monotonic()
        with self.executor.reserved() as has_room:
            try:
                async with self.database.as_user(user_id) as connection:
                    await self._refuse_repeated(connection, user_id, run)
                    self._check(run, entitlements)
                    thread_id = await self._thread(connection, user_id, run)
                    await self._insert(connection, user_id, thread_id, run, digest)
                    claim = await self._claim(connection, run) if has_room else None
                    if claim is None:
                        await self._keep_pending(connection, user_id)
            except _RepeatedError:
                return await self._repeated(user_id, run, digest)
            if claim:
                self.executor.launch(claim, asked_at_s)
        return StartedRun(run.run_id, thread_id, is_new=True)

    async def _refuse_repeated(self, connection: Connection, user_id: UserId, run: RunInput) -> None:
        if run.idempotency_key and await runs.run_by_id_or_key(connection, user_id, run.run_id, run.idempotency_key):
            raise _RepeatedError

    async def _thread(self, connection: Connection, user_id: UserId, run: RunInput) -> ThreadId:
        if run.thread_id is None:
            thread_id = ThreadId(new_id())
            await threads.insert_thread(connection, user_id, thread_id)
            return thread_id
        if not await threads.lock_thread(connection, user_id, run.thread_id):
            raise NotFound(_NO_THREAD)
        if run.multitask is Multitask.REJECT and await runs.is_thread_busy(
            connection, run.thread_id, besides=run.run_id
        ):
            raise Conflict("The thread is busy with another run.", reason="THREAD_BUSY")
        return run.thread_id

    async def _insert(
        self, connection: Connection, user_id: UserId, thread_id: ThreadId, run: RunInput, digest: bytes
    ) -> None:
        if not await runs.insert_run(connection, user_id, thread_id, run, digest):
            raise _RepeatedError

    async def _claim(self, connection: Connection, run: RunInput) -> Claim | None:
        """With the history, which cannot change while the claim holds: reading it here saves a transaction."""
        ttl_s = self.executor.limits.lease_ttl_s
        claim = await claims.claim_run(connection, self.executor.owner, run.run_id, ttl_s=ttl_s)
        if claim is None:
            return None
        if run.thread_id is None:
            return replace(claim, history=())
        return replace(claim, history=await threads.history_of(connection, claim))

    async def _keep_pending(self, connection: Connection, user_id: UserId) -> None:
        if await runs.count_pending(connection, user_id) > self.max_pending_per_user:
            raise Unavailable(
                "Too many of your runs wait already. Try again later.",
                reason="TOO_MANY_PENDING_RUNS",
                retry_after_s=_PENDING_RETRY_AFTER_S,
            )
        await claims.notify_pending(connection)

    async def _repeated(self, user_id: UserId, run: RunInput, digest: bytes) -> StartedRun:
        async with self.database.as_user(user_id) as connection:
            before = await runs.run_by_id_or_key(connection, user_id, run.run_id, run.idempotency_key)
        if before is None:
            raise Conflict("This run id is taken.", reason="RUN_ID_TAKEN")
        run_id, thread_id, digest_before = before
        if digest_before != digest:
            raise IdempotencyKeyReused("This Idempotency-Key was used with another request.")
        return StartedRun(run_id, thread_id, is_new=False)


def _digest(run: RunInput) -> bytes:
    return request_hash(
        thread_id=str(run.thread_id),
        message=run.message,
        model=run.model,
        metadata=run.metadata,
        multitask=run.multitask,
        on_disconnect=run.on_disconnect,
    )
