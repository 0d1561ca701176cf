"""Resumes interrupted runs: stores the decisions together with the run that executes them (docs/adr/0031)."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from mesh_common.errors import Conflict, InvalidInput, NotFound, PermissionDenied, QuotaExceeded
from mesh_common.ids import RunId
from mesh_common.subject import Subject

from mesh_agent.domain.attempts import Claim
from mesh_agent.domain.interrupts import Interrupt, InterruptedRun, ResumeInput
from mesh_agent.domain.runs import RunInput
from mesh_agent.execution.detached import await_detached
from mesh_agent.plans.plan import RunPlan
from mesh_agent.store import Connection, interrupts, runs, threads
from mesh_agent.store.starts import NewRun, PlanOfRun
from mesh_agent.tools.registry import ToolRegistry
from mesh_agent.usecases.decisions import DecisionRules
from mesh_agent.usecases.plan_run import used_up
from mesh_agent.usecases.start_run import StartedRun, StartRun, no_thread
from mesh_agent.usecases.threads import request_hash

# Errors that reject a new resume but not the repeat of an accepted one.
_ERRORS_OF_NEW_RUNS = (Conflict, InvalidInput, PermissionDenied, QuotaExceeded)


@dataclass(frozen=True, slots=True)
class _Resume:
    """A resume on behalf of the run's owner. `by` is who decided, perhaps somebody else."""

    owner: Subject
    by: Subject
    wanted: ResumeInput

    @property
    def digest(self) -> bytes:
        decisions = [[one.call_id, one.kind, one.value_json, one.message] for one in self.wanted.decisions]
        return request_hash(resumes_run_id=str(self.wanted.resumes_run_id), decisions=decisions)

    @property
    def idempotency_key(self) -> str | None:
        """The keys of an approver must not meet those of the owner."""
        key = self.wanted.idempotency_key
        return key if key is None or self.by.user_id == self.owner.user_id else f"{self.by.user_id}/{key}"

    def run_input(self, run: InterruptedRun | None = None) -> RunInput:
        """It names no model: the order of the plan's models counts."""
        return RunInput(
            self.wanted.run_id,
            run.thread_id if run else None,
            message="",
            metadata=run.metadata if run else {},
            idempotency_key=self.idempotency_key,
        )


@dataclass(frozen=True, slots=True)
class ResumedRun:
    """`is_own` is False for an approver, who may see nothing more of the run."""

    started: StartedRun
    is_own: bool


@dataclass(frozen=True, slots=True)
class ResumeRun:
    starts: StartRun
    tools: ToolRegistry

    async def __call__(self, caller: Subject, wanted: ResumeInput, *, is_followed: bool) -> ResumedRun:
        """The run that resumes is durable on return, as by StartRun, and its decisions with it.

        Of two resumes at once, one gets Conflict. A repeated request returns the run that it created before.
        """
        owner = await self._owner(caller, wanted.resumes_run_id)
        is_own = owner.user_id == caller.user_id
        if is_followed and not is_own:
            raise PermissionDenied("Only the owner of a run may follow it.", reason="NOT_THE_OWNER")
        resume = _Resume(owner, caller, wanted)
        # As for a new run: once committed, it must be executed.
        started = await await_detached(self.starts.executor.spawn(self._start(resume)), "resume")
        return ResumedRun(started, is_own)

    async def _owner(self, caller: Subject, run_id: RunId) -> Subject:
        database = self.starts.database
        async with database.as_subject(caller) as connection:
            if await runs.interrupted_run(connection, caller.user_id, run_id):
                return caller
        if not caller.may_approve:
            raise _no_run()
        async with database.as_worker() as connection:
            user_id = await runs.owner_of(connection, caller.organisation_id, run_id)
        if user_id is None:
            raise _no_run()
        return Subject(caller.organisation_id, user_id)

    async def _start(self, resume: _Resume) -> StartedRun:
        try:
            return await self._start_new(resume)
        except _ERRORS_OF_NEW_RUNS:
            if repeated := await self.starts.repeated(resume.owner, resume.run_input(), resume.digest):
                return repeated
            raise

    async def _start_new(self, resume: _Resume) -> StartedRun:
        await self._reject_used_up(resume.owner)
        run, asked = await self._read(resume)
        self.starts.assistants.require_enabled(run.assistant, run.assistant_id)
        self._check(resume, await self._plan(run), asked)
        executor = self.starts.executor
        asked_at_s = time.monotonic()
        with executor.reserved() as has_capacity, executor.backlog.joining() as take_slot:
            async with self.starts.database.as_subject(resume.owner) as connection:
                claim = await self._insert(connection, resume, run, may_claim=has_capacity)
                if claim is None:
                    await self.starts.keep_pending(connection, resume.owner, resume.run_input(run), take_slot)
            if claim:
                executor.launch(claim, asked_at_s)
        return StartedRun(resume.wanted.run_id, run.thread_id, is_new=True)

    async def _reject_used_up(self, owner: Subject) -> None:
        if (await self.starts.planning.entitlements.of(owner)).is_used_up:
            raise used_up()

    async def _read(self, resume: _Resume) -> tuple[InterruptedRun, tuple[Interrupt, ...]]:
        """The run and what it asks. Raises Conflict if it does not wait for decisions."""
        run_id = resume.wanted.resumes_run_id
        async with self.starts.database.as_subject(resume.owner) as connection:
            run = await runs.interrupted_run(connection, resume.owner.user_id, run_id)
            asked = await interrupts.of_run(connection, run_id)
        if run is None:
            raise _no_run()
        if not run.is_interrupted or any(one.decision for one in asked):
            raise _not_waiting()
        return run, asked

    async def _plan(self, run: InterruptedRun) -> RunPlan | None:
        return await self.starts.planning.plans.find(run.plan_hash) if run.plan_hash else None

    def _check(self, resume: _Resume, plan: RunPlan | None, asked: tuple[Interrupt, ...]) -> None:
        rules = DecisionRules(partial(self._argument_faults, plan))
        rules.check(resume.wanted.decisions, asked)

    def _argument_faults(self, plan: RunPlan | None, tool: str, arguments: Mapping[str, Any]) -> str:
        policy = next((one for one in plan.tools if one.name == tool), None) if plan else None
        return self.tools.faults(arguments, policy) if policy else "the tool is not available any more"

    async def _insert(
        self, connection: Connection, resume: _Resume, run: InterruptedRun, *, may_claim: bool
    ) -> Claim | None:
        """Stores the run and the decisions. Everything else that decides waits for the thread's lock."""
        if await threads.lock_thread(connection, resume.owner.user_id, run.thread_id) is None:
            raise no_thread()
        plan = PlanOfRun(run.plan_hash) if run.plan_hash else None
        new = NewRun(resume.run_input(run), resume.digest, plan, resumed=run)
        inserted = await self.starts.insert(connection, resume.owner, run.thread_id, new, may_claim=may_claim)
        wanted = resume.wanted
        decided = await interrupts.decide(
            connection, run.id, wanted.decisions, decided_by=resume.by.user_id, resumed_by=wanted.run_id
        )
        if decided != len(wanted.decisions):
            raise _not_waiting()
        return inserted.claim


def _no_run() -> NotFound:
    return NotFound("There is no such run.")


def _not_waiting() -> Conflict:
    return Conflict("The run does not wait for decisions, or not any more.", reason="RUN_NOT_WAITING")
