"""The story of one attempt of a run. It stores nothing but checkpoints; the executor stores how it ended."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from mesh_common.database.postgres import Database
from mesh_common.errors import MeshError

from mesh_agent.domain import (
    MAX_LOST_ATTEMPTS,
    Claim,
    Outcome,
    Progress,
    RecalledMemory,
    RunError,
    Said,
)
from mesh_agent.entitlements import CachedEntitlements
from mesh_agent.execution.recorder import Recorder
from mesh_agent.graph.loop import AgentLoop, AttemptLoop, LoopInput
from mesh_agent.kept_plans import KeptPlans
from mesh_agent.lease import while_lease_holds
from mesh_agent.llm.provider_errors import ProviderError, run_error_of
from mesh_agent.llm.registry import ModelRegistry
from mesh_agent.metrics import RECALLS
from mesh_agent.plans.plan import RunPlan
from mesh_agent.ports import Memories
from mesh_agent.store.history import history_of

log = structlog.get_logger()

_TOO_MANY = RunError(
    "TOO_MANY_ATTEMPTS", "The run was tried several times and never came to its end.", is_retryable=False
)


@dataclass(frozen=True, slots=True)
class AttemptParts:
    """What every run uses; one a process."""

    database: Database
    loop: AgentLoop
    models: ModelRegistry
    plans: KeptPlans
    entitlements: CachedEntitlements
    memories: Memories


async def run_attempt(recorder: Recorder, parts: AttemptParts) -> Outcome:
    """How the attempt ended. Raises LeaseLostError when the run is not ours any more, TimeoutError when it took longer
    than its plan allows, and what nobody foresaw."""
    claim = recorder.claim
    began_at_s = asyncio.get_running_loop().time()
    try:
        async with (
            asyncio.timeout_at(began_at_s + parts.plans.default.limits.seconds) as timeout,
            _started(recorder, parts) as loop,
        ):
            if claim.is_cancel_requested:
                # Cancelled while nobody had it: it ends with what the attempts before made durable.
                return recorder.cancelled()
            if claim.lost_attempts >= MAX_LOST_ATTEMPTS:
                return recorder.failed(_TOO_MANY)
            plan = await _plan(recorder, parts)
            timeout.reschedule(began_at_s + plan.limits.seconds)
            finish_reason = await loop.run(_loop_input(recorder, parts, plan), recorder)
        return recorder.succeeded(finish_reason)
    except ProviderError as error:
        recorder.fail_round()
        return recorder.failed(run_error_of(error))
    except MeshError as error:
        # Known by name: a model or a tool the user may not use any more, a database that is away.
        return recorder.failed(RunError(error.reason, error.message, is_retryable=error.is_retryable))


async def cancel_attempt(recorder: Recorder, parts: AttemptParts) -> Outcome:
    """The end of an attempt that was stopped for its user, however early: it keeps what those before made durable."""
    if not recorder.has_started:
        async with _started(recorder, parts):
            pass
    return recorder.cancelled()


@asynccontextmanager
async def _started(recorder: Recorder, parts: AttemptParts) -> AsyncIterator[AttemptLoop]:
    claim, holds_lease = recorder.claim, recorder.log.holds_lease
    async with parts.loop.open(claim, holds_lease) as loop:
        recorder.checkpoints = loop.checkpoints
        # Should even the owner go away that was to end it, then what is stored may be what they die of.
        may_read = claim.lost_attempts <= MAX_LOST_ATTEMPTS
        recorder.start(await while_lease_holds(holds_lease, loop.progress) if may_read else Progress())
        yield loop


async def _plan(recorder: Recorder, parts: AttemptParts) -> RunPlan:
    entitlements = await parts.entitlements.of(recorder.claim.subject)
    return await while_lease_holds(recorder.log.holds_lease, lambda: parts.plans.of(recorder.claim, entitlements))


def _loop_input(recorder: Recorder, parts: AttemptParts, plan: RunPlan) -> LoopInput:
    claim = recorder.claim
    return LoopInput(
        message=claim.message,
        plan=plan,
        models=parts.models.of_plan(plan.models),
        recall=partial(_recall, recorder, parts.memories) if plan.memory.recalls else _recall_nothing,
        recent_messages=partial(_recent_messages, claim, parts.database),
    )


async def _recall(recorder: Recorder, memories: Memories) -> Sequence[RecalledMemory]:
    """Memory gone or at odds with itself: the answer comes without it, and says so."""
    try:
        recalled = await (recorder.prefetched_recall or memories.recall(recorder.claim.subject, recorder.claim.message))
    except MeshError as error:
        log.warning("run.not_recalled", reason=error.reason)
        RECALLS.labels("unavailable").inc()
        recorder.recalled((), is_unavailable=True)
        return ()
    RECALLS.labels("ok").inc()
    recorder.recalled(recalled, is_unavailable=False)
    return recalled


async def _recall_nothing() -> Sequence[RecalledMemory]:
    return ()


async def _recent_messages(claim: Claim, database: Database) -> Sequence[Said]:
    """The thread before this run; whoever started the run has mostly read it already."""
    if claim.history is not None:
        return claim.history
    async with database.as_subject(claim.subject) as connection:
        return await history_of(connection, claim)
