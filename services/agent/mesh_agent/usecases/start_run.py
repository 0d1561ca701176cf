"""Starting runs: stored once, whoever asks how often, and claimed at once where there is room."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache

from mesh_common.database.postgres import Database
from mesh_common.errors import (
    Conflict,
    IdempotencyKeyReused,
    InvalidInput,
    MeshError,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    Unavailable,
)
from mesh_common.ids import RunId, ThreadId, new_id
from mesh_common.subject import Subject

from mesh_agent.domain import Claim, Entitlements, Multitask, RunInput
from mesh_agent.entitlements import CachedEntitlements
from mesh_agent.execution.detached import await_detached
from mesh_agent.execution.executor import Executor
from mesh_agent.execution.prefetch import prefetch_recall
from mesh_agent.graph.window import message_tokens
from mesh_agent.kept_plans import KeptPlans
from mesh_agent.plans.plan import Instructions
from mesh_agent.plans.stored import StoredPlan
from mesh_agent.ports import Memories
from mesh_agent.store import Connection, claims, runs, starts, threads
from mesh_agent.store.starts import Claimant
from mesh_agent.usecases.cancel_run import CancelRun
from mesh_agent.usecases.threads import request_hash

# Until the month ends a used-up budget stays used up; an hour keeps clients from asking all the time.
_QUOTA_RETRY_AFTER_S = 3_600.0
_PENDING_RETRY_AFTER_S = 5.0
# What may stand against a new run and not against the same one asked for again: its own id or key, a budget used up
# since, a model taken away, or a busy thread, be it by the very run, stored while this request waited for the lock.
_REFUSALS_OF_NEW = (Conflict, InvalidInput, PermissionDenied, QuotaExceeded)


@dataclass(frozen=True, slots=True)
class StartedRun:
    """`is_new` is False when an earlier request made it."""

    run_id: RunId
    thread_id: ThreadId
    is_new: bool


@dataclass(frozen=True, slots=True)
class StartRun:
    database: Database
    executor: Executor
    entitlements: CachedEntitlements
    plans: KeptPlans
    memories: Memories
    cancel: CancelRun
    max_pending_per_user: int

    async def __call__(self, subject: Subject, run: RunInput) -> StartedRun:
        """Durable when it returns: stored in one transaction, and claimed in the same one when the thread is free.

        The same request again gives the run it made, whatever would refuse a new one by then.
        """
        entitlements = await self.entitlements.of(subject)
        # What was committed must be executed, also when the caller goes away between the two.
        return await await_detached(self.executor.spawn(self._start(subject, run, entitlements)), "start")

    async def _start(self, subject: Subject, run: RunInput, entitlements: Entitlements) -> StartedRun:
        started = await self._store_and_launch(subject, run, entitlements)
        if run.multitask is Multitask.INTERRUPT:
            # Before the run is acknowledged, and again when it is started again: so that no crash between leaves it
            # waiting behind what it was to interrupt.
            interrupted = await self.cancel.before(subject, started.run_id)
            if interrupted:
                self.executor.spawn(self.cancel.stop(subject, interrupted))
        return started

    async def _plan_if_passing(self, run: RunInput, entitlements: Entitlements) -> StoredPlan | None:
        """The plan, stored, unless the run is rejected if it is new. Whether it is new only the database knows."""
        try:
            plan = self._checked_plan(run, entitlements)
        except MeshError:
            return None
        await self.plans.keep(plan)
        return plan

    def _checked_plan(self, run: RunInput, entitlements: Entitlements) -> StoredPlan:
        """Of a new run only: a repeated one has passed already. Raises what stands against it."""
        plan = self.plans.resolve(run.model, entitlements)
        if entitlements.is_used_up:
            raise QuotaExceeded("Your token budget for this month is used up.", retry_after_s=_QUOTA_RETRY_AFTER_S)
        budget_tokens = plan.plan.input_budget_tokens - _prompt_tokens(plan.plan.instructions)
        if message_tokens(run.message) > budget_tokens:
            raise InvalidInput.of_field("message", f"is longer than the model can read ({budget_tokens} tokens)")
        return plan

    async def _store_and_launch(self, subject: Subject, run: RunInput, entitlements: Entitlements) -> StartedRun:
        digest = request_digest(run)
        try:
            return await self._store_new(subject, run, digest, entitlements)
        except _REFUSALS_OF_NEW:
            if repeated := await self._repeated(subject, run, digest):
                return repeated
            raise

    async def _store_new(
        self, subject: Subject, run: RunInput, digest: bytes, entitlements: Entitlements
    ) -> StartedRun:
        plan = await self._plan_if_passing(run, entitlements)
        asked_at_s = time.monotonic()
        with (
            self.executor.reserved() as has_room,
            self.executor.backlog.joining() as join,
            ExitStack() as unless_launched,
        ):
            recall = None
            if has_room and plan and plan.plan.memory.recalls:
                recall = prefetch_recall(self.executor.spawn, self.memories, subject, run.message)
                unless_launched.callback(recall.cancel)
            async with self.database.as_subject(subject) as connection:
                await self._refuse_repeated(connection, subject, run)
                plan = plan or self._checked_plan(run, entitlements)
                thread_id = await self._thread(connection, subject, run)
                claim = await self._insert(connection, subject, thread_id, run, digest, plan.hash, may_claim=has_room)
                if claim is None:
                    await self._keep_pending(connection, subject, run, join)
            if claim:
                self.executor.launch(claim, asked_at_s, recall)
                unless_launched.pop_all()
        return StartedRun(run.run_id, thread_id, is_new=True)

    async def _refuse_repeated(self, connection: Connection, subject: Subject, run: RunInput) -> None:
        if run.idempotency_key and await runs.run_by_id_or_key(
            connection, subject.user_id, run.run_id, run.idempotency_key
        ):
            raise _taken()

    async def _thread(self, connection: Connection, subject: Subject, run: RunInput) -> ThreadId:
        """Made or locked: runs start on it one after the other."""
        if run.thread_id is None:
            thread_id = ThreadId(new_id())
            await threads.insert_thread(connection, subject.user_id, thread_id)
            return thread_id
        if not await threads.lock_thread(connection, subject.user_id, run.thread_id):
            raise _no_thread()
        if run.multitask is Multitask.REJECT:
            await self._refuse_busy(connection, run.thread_id, run.run_id)
        return run.thread_id

    async def _refuse_busy(self, connection: Connection, thread_id: ThreadId, run_id: RunId) -> None:
        if await runs.is_thread_busy(connection, thread_id, besides=run_id):
            raise Conflict("The thread is busy with another run.", reason="THREAD_BUSY")

    async def _insert(
        self,
        connection: Connection,
        subject: Subject,
        thread_id: ThreadId,
        run: RunInput,
        digest: bytes,
        plan_hash: bytes,
        *,
        may_claim: bool,
    ) -> Claim | None:
        """The claim, or none for a run that waits."""
        claimant = Claimant(self.executor.owner, self.executor.limits.lease_ttl_s) if may_claim else None
        inserted = await starts.insert_run(connection, subject, thread_id, run, digest, claimant, plan_hash)
        if inserted is None:
            raise _no_thread()
        if not inserted.is_new:
            raise _taken()
        return inserted.claim

    async def _keep_pending(
        self, connection: Connection, subject: Subject, run: RunInput, join: Callable[[], None]
    ) -> None:
        join()
        if await self._others_pending(connection, subject, run) >= self.max_pending_per_user:
            raise Unavailable(
                "Too many of your runs wait already. Try again later.",
                reason="TOO_MANY_PENDING_RUNS",
                retry_after_s=_PENDING_RETRY_AFTER_S,
            )
        await claims.notify_pending(connection)

    async def _others_pending(self, connection: Connection, subject: Subject, run: RunInput) -> int:
        """Of the user's, besides this one; what an interrupting run is about to cancel stands not in its way."""
        if run.multitask is Multitask.INTERRUPT and run.thread_id:
            return await runs.count_pending(connection, subject.user_id, besides_thread=run.thread_id)
        return await runs.count_pending(connection, subject.user_id) - 1

    async def _repeated(self, subject: Subject, run: RunInput, digest: bytes) -> StartedRun | None:
        """What came of the same request before; None when there was none."""
        async with self.database.as_subject(subject) as connection:
            before = await runs.run_by_id_or_key(connection, subject.user_id, run.run_id, run.idempotency_key)
        if before is None:
            return None
        run_id, thread_id, digest_before = before
        if digest_before != digest:
            raise IdempotencyKeyReused("This Idempotency-Key was used with another request.")
        return StartedRun(run_id, thread_id, is_new=False)


def _no_thread() -> NotFound:
    return NotFound("There is no such thread.")


def _taken() -> Conflict:
    return Conflict("This run id is taken.", reason="RUN_ID_TAKEN")


@lru_cache(maxsize=100)
def _prompt_tokens(instructions: Instructions) -> int:
    """What the system prompt takes of a model's input, without memories."""
    return message_tokens(instructions.prompt(()))


def request_digest(run: RunInput) -> bytes:
    """Identifies a repeated request by what the caller sent, whatever plan it would resolve to by then."""
    return request_hash(
        thread_id=str(run.thread_id),
        message=run.message,
        model=run.model,
        metadata=run.metadata,
        multitask=run.multitask,
        on_disconnect=run.on_disconnect,
    )
