"""Starts runs: stores each once however often it is requested, and claims it at once if there is capacity."""

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from mesh_common.errors import (
    Conflict,
    IdempotencyKeyReused,
    InvalidInput,
    MeshError,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
    Unavailable,
)
from mesh_common.ids import RunId, ThreadId, new_id
from mesh_common.subject import Subject

from mesh_agent.domain.attempts import Claim
from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.domain.runs import Multitask, RunInput
from mesh_agent.execution.detached import await_detached
from mesh_agent.execution.executor import Executor
from mesh_agent.execution.prefetch import prefetch_recall
from mesh_agent.execution.rejecting import REPLACED, close_rejected
from mesh_agent.execution.rolling_back import roll_back_waiting
from mesh_agent.known_assistants import KnownAssistants
from mesh_agent.ports import Memories
from mesh_agent.store import Connection, Database, claims, interrupts, runs, starts, threads, unended
from mesh_agent.store.starts import Claimant, InsertedRun, NewRun
from mesh_agent.usecases.cancel_run import CancelRun
from mesh_agent.usecases.plan_run import PlannedRun, PlanRun
from mesh_agent.usecases.threads import request_hash

_PENDING_RETRY_AFTER_S = 5.0
# A thread's assistant may change each time that it is planned.
_PLANNINGS = 3
# Errors that reject a new run but not the repeat of an accepted one: its own id or key is taken, the budget was used up
# since, a model is no longer allowed, its assistant is gone or disabled, or the thread is busy, possibly with this very
# run, stored while this request waited for the lock.
_ERRORS_OF_NEW_RUNS = (Conflict, InvalidInput, NotFound, PermissionDenied, PreconditionFailed, QuotaExceeded)


@dataclass(frozen=True, slots=True)
class StartedRun:
    """`is_new` is False if an earlier request created the run."""

    run_id: RunId
    thread_id: ThreadId
    is_new: bool


class _OtherAssistantError(Exception):
    """The thread's runs use another assistant than this replica knew: it has to be planned anew."""


@dataclass(frozen=True, slots=True)
class StartRun:
    database: Database
    executor: Executor
    planning: PlanRun
    assistants: KnownAssistants
    memories: Memories
    cancel: CancelRun
    max_pending_per_user: int

    async def __call__(self, subject: Subject, run: RunInput) -> StartedRun:
        """The run is durable on return: stored in one transaction, and claimed in the same one if the thread is free.

        A repeated request returns the run it created before, even if a new run would be rejected by now.
        """
        entitlements = await self.planning.entitlements.of(subject)
        # A committed run must be executed, even if the caller disconnects between commit and launch.
        return await await_detached(self.executor.spawn(self._start(subject, run, entitlements)), "start")

    async def _start(self, subject: Subject, run: RunInput, entitlements: Entitlements) -> StartedRun:
        started = await self._store_and_launch(subject, run, entitlements)
        if run.multitask.replaces:
            # Before the run is acknowledged, and again for a repeated request. Otherwise a crash in between would leave
            # the run waiting behind those it was to interrupt.
            rolls_back = run.multitask is Multitask.ROLLBACK
            interrupted = await self.cancel.before(subject, started.run_id, rolls_back=rolls_back)
            if interrupted:
                self.executor.spawn(self.cancel.stop(subject, interrupted))
        return started

    async def _store_and_launch(self, subject: Subject, run: RunInput, entitlements: Entitlements) -> StartedRun:
        digest = request_digest(run)
        try:
            return await self._store_planned(subject, run, digest, entitlements)
        except _ERRORS_OF_NEW_RUNS:
            if repeated := await self.repeated(subject, run, digest):
                return repeated
            raise

    async def _store_planned(
        self, subject: Subject, run: RunInput, digest: bytes, entitlements: Entitlements
    ) -> StartedRun:
        for _ in range(_PLANNINGS):
            with suppress(_OtherAssistantError):
                return await self._store_new(subject, run, digest, entitlements)
        raise Conflict("The thread's assistant is being changed. Try again.", reason="THREAD_CHANGED")

    async def _store_new(
        self, subject: Subject, run: RunInput, digest: bytes, entitlements: Entitlements
    ) -> StartedRun:
        planned = await self.planning.planned_or_error(subject, run, entitlements)
        asked_at_s = time.monotonic()
        with (
            self.executor.reserved() as has_capacity,
            self.executor.backlog.joining() as take_slot,
            ExitStack() as unless_launched,
        ):
            recall = None
            if has_capacity and isinstance(planned, PlannedRun) and planned.plan.plan.memory.recalls:
                recall = prefetch_recall(self.executor.spawn, self.memories, subject, run.message)
                unless_launched.callback(recall.cancel)
            async with self.database.as_subject(subject) as connection:
                await self._reject_repeated(connection, subject, run)
                thread_id = await self._thread(connection, subject, run, planned)
                if isinstance(planned, MeshError):
                    raise planned
                new = NewRun(run, digest, planned.of_run)
                claim = await self._insert(connection, subject, thread_id, new, may_claim=has_capacity)
                if claim is None:
                    await self.keep_pending(connection, subject, run, take_slot)
            if claim:
                self.executor.launch(claim, asked_at_s, recall)
                unless_launched.pop_all()
        return StartedRun(run.run_id, thread_id, is_new=True)

    async def _reject_repeated(self, connection: Connection, subject: Subject, run: RunInput) -> None:
        if run.idempotency_key and await runs.run_by_id_or_key(
            connection, subject.user_id, run.run_id, run.idempotency_key
        ):
            raise run_id_taken()

    async def _thread(
        self, connection: Connection, subject: Subject, run: RunInput, planned: PlannedRun | MeshError
    ) -> ThreadId:
        """Creates or locks the thread, so that runs start on it one after the other. Raises _OtherAssistantError."""
        if run.thread_id is None:
            thread_id = ThreadId(new_id())
            await threads.insert_thread(connection, subject.user_id, thread_id, assistant=run.assistant)
            if run.assistant:
                self.assistants.remember(thread_id, run.assistant)
            return thread_id
        locked = await threads.lock_thread(connection, subject.user_id, run.thread_id)
        if locked is None:
            raise no_thread()
        await self._use_assistant(connection, run, run.thread_id, locked.assistant, planned)
        if run.multitask is Multitask.REJECT:
            await self._reject_busy(connection, run.thread_id, run.run_id)
        return run.thread_id

    async def _use_assistant(
        self,
        connection: Connection,
        run: RunInput,
        thread_id: ThreadId,
        remembered: str,
        planned: PlannedRun | MeshError,
    ) -> None:
        """The thread remembers the assistant that a run names; a run that names none uses the remembered one."""
        if run.assistant:
            if run.assistant != remembered and isinstance(planned, PlannedRun):
                await threads.set_assistant(connection, thread_id, run.assistant)
                self.assistants.remember(thread_id, run.assistant)
        elif remembered != (self.assistants.assistant_of(thread_id) or ""):
            self.assistants.remember(thread_id, remembered)
            raise _OtherAssistantError

    async def _reject_busy(self, connection: Connection, thread_id: ThreadId, run_id: RunId) -> None:
        if await unended.is_thread_busy(connection, thread_id, besides=run_id):
            raise Conflict("The thread is busy with another run.", reason="THREAD_BUSY")

    async def insert(
        self, connection: Connection, subject: Subject, thread_id: ThreadId, run: NewRun, *, may_claim: bool
    ) -> InsertedRun:
        """Stores the run. Raises NotFound for the thread, Conflict for a run id that is taken."""
        claimant = Claimant(self.executor.owner, self.executor.limits.lease_ttl_s) if may_claim else None
        inserted = await starts.insert_run(connection, subject, thread_id, run, claimant)
        if inserted is None:
            raise no_thread()
        if not inserted.is_new:
            raise run_id_taken()
        return inserted

    async def _insert(
        self, connection: Connection, subject: Subject, thread_id: ThreadId, run: NewRun, *, may_claim: bool
    ) -> Claim | None:
        """The claim; None for a pending run."""
        inserted = await self.insert(connection, subject, thread_id, run, may_claim=may_claim)
        if inserted.is_awaited and run.input.multitask is Multitask.ROLLBACK:
            await roll_back_waiting(connection, thread_id)
        elif inserted.is_awaited:
            rejected = await interrupts.reject_waiting(connection, thread_id, message=REPLACED)
            await close_rejected(connection, rejected, REPLACED)
        return inserted.claim

    async def keep_pending(
        self, connection: Connection, subject: Subject, run: RunInput, take_slot: Callable[[], None]
    ) -> None:
        """Wakes a replica for the run that this transaction has stored. Raises Unavailable if too many are pending."""
        take_slot()
        if await self._others_pending(connection, subject, run) >= self.max_pending_per_user:
            raise Unavailable(
                "Too many of your runs are pending. Try again later.",
                reason="TOO_MANY_PENDING_RUNS",
                retry_after_s=_PENDING_RETRY_AFTER_S,
            )
        await claims.notify_pending(connection)

    async def _others_pending(self, connection: Connection, subject: Subject, run: RunInput) -> int:
        """The number of the user's other pending runs, without those that an interrupting run is about to cancel."""
        if run.multitask.replaces and run.thread_id:
            return await unended.count_pending(connection, subject.user_id, besides_thread=run.thread_id)
        return await unended.count_pending(connection, subject.user_id) - 1

    async def repeated(self, subject: Subject, run: RunInput, digest: bytes) -> StartedRun | None:
        """The run that the same request created before; None if there is none."""
        async with self.database.as_subject(subject) as connection:
            before = await runs.run_by_id_or_key(connection, subject.user_id, run.run_id, run.idempotency_key)
        if before is None:
            return None
        run_id, thread_id, digest_before = before
        if digest_before != digest:
            raise IdempotencyKeyReused("This Idempotency-Key was used with another request.")
        return StartedRun(run_id, thread_id, is_new=False)


def no_thread() -> NotFound:
    return NotFound("There is no such thread.")


def run_id_taken() -> Conflict:
    return Conflict("This run id is taken.", reason="RUN_ID_TAKEN")


def request_digest(run: RunInput) -> bytes:
    """Identifies a repeated request by what the caller sent, regardless of the plan it would resolve to by now."""
    return request_hash(
        thread_id=str(run.thread_id),
        message=run.message,
        model=run.model,
        metadata=run.metadata,
        multitask=run.multitask,
        on_disconnect=run.on_disconnect,
        assistant=run.assistant,
        response_format=run.response_format_json,
    )
