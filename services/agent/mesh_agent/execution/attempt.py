"""Executes one attempt of a run. It stores only checkpoints; `RunTask` stores how the attempt ended."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from mesh_common.errors import MeshError

from mesh_agent.domain.attempts import MAX_LOST_ATTEMPTS, Claim, Outcome, Progress
from mesh_agent.domain.interrupts import DecidedCall
from mesh_agent.domain.runs import RunError
from mesh_agent.domain.threads import RecalledMemory, Said
from mesh_agent.entitlements import CachedEntitlements
from mesh_agent.execution.agents import AgentListener
from mesh_agent.execution.recorder import Recorder
from mesh_agent.graph.loop import AgentLoop, AttemptLoop
from mesh_agent.graph.rounds import LoopInput
from mesh_agent.kept_plans import KeptPlans
from mesh_agent.lease import while_lease_holds
from mesh_agent.llm.provider_errors import ProviderError, nothing_said, run_error_of
from mesh_agent.llm.registry import ModelRegistry
from mesh_agent.metrics import RECALLS
from mesh_agent.plans.plan import RunPlan
from mesh_agent.ports import Memories
from mesh_agent.store import Database, interrupts
from mesh_agent.store.history import history_of, last_agent

log = structlog.get_logger()

_TOO_MANY = RunError("TOO_MANY_ATTEMPTS", "The run was attempted several times and never finished.", is_retryable=False)


@dataclass(frozen=True, slots=True)
class AttemptParts:
    """What every run uses; one per process."""

    database: Database
    loop: AgentLoop
    models: ModelRegistry
    plans: KeptPlans
    entitlements: CachedEntitlements
    memories: Memories
    interrupt_ttl_s: float = 604_800.0


async def run_attempt(recorder: Recorder, parts: AttemptParts) -> Outcome:
    """How the attempt ended. Raises LeaseLostError if this replica no longer owns the run, TimeoutError if the attempt
    exceeds the time limit of its plan, and unexpected exceptions."""
    claim = recorder.claim
    began_at_s = asyncio.get_running_loop().time()
    recorder.deadline_s = began_at_s + parts.plans.default.limits.seconds
    try:
        async with (
            asyncio.timeout_at(recorder.deadline_s) as timeout,
            _started(recorder, parts) as loop,
        ):
            if claim.is_cancel_requested:
                # Cancelled while it had no owner: it ends with the stored result of earlier attempts.
                return recorder.cancelled()
            if claim.lost_attempts >= MAX_LOST_ATTEMPTS:
                return recorder.failed(_TOO_MANY)
            plan = await _plan(recorder, parts)
            recorder.is_remembered = plan.memory.remembers
            recorder.joins_rounds = plan.graph is not None
            recorder.is_json = plan.parameters.response_format_json is not None
            if plan.team:
                recorder.begin_team(plan.origin.name)
            recorder.deadline_s = deadline_s = began_at_s + plan.limits.seconds
            timeout.reschedule(deadline_s)
            decided = await _decided(claim, recorder.log.holds_lease, parts.database)
            ended = await loop.run(_loop_input(recorder, parts, plan, deadline_s, decided), AgentListener(recorder))
        if not isinstance(ended, str):
            return recorder.interrupted(ended, parts.interrupt_ttl_s)
        return recorder.succeeded(ended) if recorder.answer.strip() else recorder.failed(nothing_said())
    except ProviderError as error:
        recorder.fail_round()
        return recorder.failed(run_error_of(error))
    except MeshError as error:
        # An expected error: the user may no longer use a model or tool, or the database is unavailable.
        return recorder.failed(RunError(error.reason, error.message, is_retryable=error.is_retryable))


async def cancel_attempt(recorder: Recorder, parts: AttemptParts) -> Outcome:
    """The end of an attempt that its user cancelled, however early. It keeps the stored result of earlier attempts,
    unless that cannot be read within the attempt's time."""
    if not recorder.has_started:
        try:
            async with asyncio.timeout_at(recorder.deadline_s), _started(recorder, parts):
                pass
        except TimeoutError:
            log.warning("run.cancelled_without_progress", attempt=recorder.claim.attempt)
    return recorder.cancelled()


@asynccontextmanager
async def _started(recorder: Recorder, parts: AttemptParts) -> AsyncIterator[AttemptLoop]:
    claim, lease = recorder.claim, recorder.log.lease
    async with parts.loop.open(claim, lease) as loop:
        recorder.checkpoints = loop.checkpoints
        # If even the owner that was to fail the run was lost, reading the stored result may be what crashes owners.
        may_read = claim.lost_attempts <= MAX_LOST_ATTEMPTS
        recorder.start(await while_lease_holds(lease.holds, loop.progress) if may_read else Progress())
        yield loop


async def _plan(recorder: Recorder, parts: AttemptParts) -> RunPlan:
    claim, default = recorder.claim, parts.entitlements.default
    known = await parts.entitlements.known(claim.subject)
    return await while_lease_holds(recorder.log.holds_lease, lambda: parts.plans.of(claim, known, default))


async def _decided(claim: Claim, holds_lease: Callable[[], bool], database: Database) -> Mapping[str, DecidedCall]:
    """What was decided in the runs that this one resumes."""
    if claim.resumed_execution is None:
        return {}

    async def read() -> Mapping[str, DecidedCall]:
        async with database.as_subject(claim.subject) as connection:
            return await interrupts.decided_for(connection, claim)

    return await while_lease_holds(holds_lease, read)


def _loop_input(
    recorder: Recorder, parts: AttemptParts, plan: RunPlan, deadline_s: float, decided: Mapping[str, DecidedCall]
) -> LoopInput:
    claim = recorder.claim
    return LoopInput(
        message=claim.message,
        plan=plan,
        models=parts.models.of_plan(plan.models),
        recall=partial(_recall, recorder, parts.memories) if plan.memory.recalls else _recall_nothing,
        recent_messages=partial(_recent_messages, claim, parts.database),
        deadline_s=deadline_s,
        decided=decided,
        models_of=parts.models.of_plan,
        last_agent=partial(_last_agent, claim, parts.database),
    )


async def _recall(recorder: Recorder, memories: Memories) -> Sequence[RecalledMemory]:
    """Recalls memories. If memory fails, the run continues without them and an event reports it."""
    try:
        recalled = await (recorder.prefetched_recall or memories.recall(recorder.claim.subject, recorder.claim.message))
    except MeshError as error:
        log.warning("run.not_recalled", reason=error.reason)
        RECALLS.labels("unavailable").inc()
        recorder.recalled((), is_unavailable=True)
        return ()
    RECALLS.labels("ok").inc()
    recorder.recalled(recalled.memories, is_unavailable=False)
    recorder.forget_generation = recalled.forget_generation
    return recalled.memories


async def _recall_nothing() -> Sequence[RecalledMemory]:
    return ()


async def _last_agent(claim: Claim, database: Database) -> str:
    """The agent that wrote the last answer of the thread before this run."""
    async with database.as_subject(claim.subject) as connection:
        return await last_agent(connection, claim)


async def _recent_messages(claim: Claim, database: Database) -> Sequence[Said]:
    """The messages of the thread before this run. A claim made at the start has read them already."""
    if claim.history is not None:
        return claim.history
    async with database.as_subject(claim.subject) as connection:
        return await history_of(connection, claim)
