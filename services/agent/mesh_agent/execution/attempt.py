"""The story of one attempt of a run. It stores nothing but checkpoints; the executor stores how it ended."""

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
    Entitlements,
    Outcome,
    Progress,
    RecalledMemory,
    RunError,
    Said,
)
from mesh_agent.entitlements import CachedEntitlements
from mesh_agent.execution.recorder import Recorder
from mesh_agent.graph.loop import AgentLoop, AttemptLoop, LoopInput
from mesh_agent.lease import while_lease_holds
from mesh_agent.llm.provider_errors import ProviderError, run_error_of
from mesh_agent.llm.registry import ModelRegistry
from mesh_agent.metrics import RECALLS
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
    entitlements: CachedEntitlements
    memories: Memories
    history_tokens: int


async def run_attempt(recorder: Recorder, parts: AttemptParts) -> Outcome:
    """How the attempt ended. Raises LeaseLostError when the run is not ours any more, and what nobody foresaw."""
    claim = recorder.claim
    try:
        async with _started(recorder, parts) as loop:
            if claim.is_cancel_requested:
                # Cancelled while nobody had it: it ends with what the attempts before made durable.
                return recorder.cancelled()
            if claim.lost_attempts >= MAX_LOST_ATTEMPTS:
                return recorder.failed(_TOO_MANY)
            entitlements = await parts.entitlements.of(claim.user_id)
            finish_reason = await loop.run(_loop_input(recorder, parts, entitlements), recorder)
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


def _loop_input(recorder: Recorder, parts: AttemptParts, entitlements: Entitlements) -> LoopInput:
    claim = recorder.claim
    return LoopInput(
        message=claim.message,
        models=parts.models.order_for(claim.model, entitlements),
        allows_tool=entitlements.allows_tool,
        history_tokens=parts.history_tokens if entitlements.context_tokens is None else entitlements.context_tokens,
        recall=partial(_recall, recorder, parts.memories),
        recent_messages=partial(_recent_messages, claim, parts.database),
    )


async def _recall(recorder: Recorder, memories: Memories) -> Sequence[RecalledMemory]:
    """Memory gone or at odds with itself: the answer comes without it, and says so."""
    try:
        recalled = await (recorder.prefetched_recall or memories.recall(recorder.claim.user_id, recorder.claim.message))
    except MeshError as error:
        log.warning("run.not_recalled", reason=error.reason)
        RECALLS.labels("unavailable").inc()
        recorder.recalled((), is_unavailable=True)
        return ()
    RECALLS.labels("ok").inc()
    recorder.recalled(recalled, is_unavailable=False)
    return recalled


async def _recent_messages(claim: Claim, database: Database) -> Sequence[Said]:
    """The thread before this run; whoever started the run has mostly read it already."""
    if claim.history is not None:
        return claim.history
    async with database.as_user(claim.user_id) as connection:
        return await history_of(connection, claim)
