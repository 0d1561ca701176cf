"""One run from its claim to its stored end, whatever happens to it on the way.

It catches every exception, as the gRPC boundary does around a call and the job worker around a job: a crashing run
fails alone.
"""

import asyncio
import traceback
from dataclasses import dataclass, replace

import structlog
from mesh_common.caller import Caller, acting
from mesh_common.database.postgres import Database
from mesh_common.process.telemetry import restored_context, tracer
from opentelemetry.trace import SpanKind, Status, StatusCode
from structlog.contextvars import bound_contextvars

from mesh_agent.domain import Claim, Outcome, RunError, RunStatus
from mesh_agent.events.log import LeaseLostError
from mesh_agent.events.model import RunEvent
from mesh_agent.events.storage import encode_frames
from mesh_agent.execution.attempt import RunParts, cancel_attempt, run_attempt
from mesh_agent.execution.ending import EndRun
from mesh_agent.execution.handle import Handle, Stop
from mesh_agent.execution.outcome import terminal_event
from mesh_agent.lease import while_lease_holds
from mesh_agent.metrics import MODEL_COST, MODEL_TOKENS, RUNS_ENDED
from mesh_agent.store import claims

log = structlog.get_logger()

_INTERNAL = RunError("INTERNAL", "Something went wrong on our side.", is_retryable=True)
_TIMED_OUT = RunError("RUN_TIMEOUT", "The run took longer than a run may take.", is_retryable=True)


@dataclass(frozen=True, slots=True)
class Execution:
    database: Database
    parts: RunParts
    end_run: EndRun
    run_timeout_s: float

    async def __call__(self, handle: Handle) -> bool:
        """Whether another run waits on the thread."""
        claim = handle.claim
        with bound_contextvars(run_id=str(claim.run_id), thread_id=str(claim.thread_id)):
            return await self._execute(handle, claim)

    async def _execute(self, handle: Handle, claim: Claim) -> bool:
        try:
            with (
                acting(Caller("agent", claim.user_id, None)),
                tracer.start_as_current_span(
                    "invoke_agent",
                    context=restored_context(claim.trace_context),
                    kind=SpanKind.INTERNAL,
                    record_exception=False,
                ) as span,
            ):
                span.set_attributes(_span_attributes(claim))
                outcome = await self._outcome(handle)
                if outcome is None:
                    return False
                if outcome.error:
                    span.set_status(Status(StatusCode.ERROR, outcome.error.reason))
                return await self._end(handle, outcome)
        except LeaseLostError:
            log.warning("run.lease_lost", attempt=claim.attempt)
        except Exception as error:  # noqa: BLE001 - its lease runs out, and another replica tries
            _log_crash("run.not_ended", claim, error)
        return False

    async def _outcome(self, handle: Handle) -> Outcome | None:
        """How the attempt ended; None when it is not ours to end."""
        attempt = handle.attempt
        try:
            async with asyncio.timeout(self.run_timeout_s):
                return await run_attempt(attempt, self.parts)
        except asyncio.CancelledError:
            return await self._stopped(handle)
        except LeaseLostError:
            await self._lost(handle)
            return None
        except TimeoutError:
            return attempt.failed(_TIMED_OUT)
        except Exception as error:  # noqa: BLE001 - a crashing run fails alone
            _log_crash("run.crashed", handle.claim, error)
            return attempt.failed(_INTERNAL)

    async def _stopped(self, handle: Handle) -> Outcome | None:
        if handle.stop is None or handle.task is None:
            raise asyncio.CancelledError
        handle.task.uncancel()
        match handle.stop:
            case Stop.CANCELLED:
                return await cancel_attempt(handle.attempt, self.parts)
            case Stop.DISCARDED | Stop.LEASE_LOST:
                await self._lost(handle)
            case Stop.RELEASED:
                async with self.database.as_worker() as connection:
                    await claims.release_run(connection, handle.claim)
        return None

    async def _lost(self, handle: Handle, outcome: Outcome | None = None) -> None:
        """The lease is gone: with its thread, and then the run is billed and its followers told, or to another replica.

        Raises LeaseLostError for the latter.
        """
        handle.is_ending = True
        if not handle.lease.holds():
            raise LeaseLostError
        ended = outcome or handle.attempt.cancelled()
        await while_lease_holds(
            handle.lease.holds, lambda: self.end_run.discard(handle.claim, ended, handle.lease.holds)
        )
        handle.attempt.log.finish(_terminal(handle, ended))
        _count(ended)
        log.info("run.discarded", attempt=handle.claim.attempt, model=ended.model)

    async def _end(self, handle: Handle, outcome: Outcome) -> bool:
        # From here on nothing stops it: a cancel that comes now comes too late, and the commit is not cut in two.
        handle.is_ending = True
        claim, attempt_log = handle.claim, handle.attempt.log
        terminal = _terminal(handle, outcome)
        frames = encode_frames([*attempt_log.events, terminal])
        try:
            has_waiting = await while_lease_holds(
                handle.lease.holds,
                lambda: self.end_run(claim, outcome, frames, has_checkpoints=handle.attempt.has_checkpoints),
            )
        except LeaseLostError:
            await self._lost(handle, replace(outcome, status=RunStatus.CANCELLED))
            return False
        attempt_log.finish(terminal)
        _count(outcome)
        reason = {"reason": outcome.error.reason} if outcome.error else {}
        log.info("run.ended", status=outcome.status, attempt=claim.attempt, model=outcome.model, **reason)
        return has_waiting


def _terminal(handle: Handle, outcome: Outcome) -> RunEvent:
    claim = handle.claim
    return RunEvent(claim.run_id, claim.attempt, len(handle.attempt.log.events) + 1, terminal_event(outcome))


def _count(outcome: Outcome) -> None:
    """Where its usage is billed, so that both agree: rounds that were cut, and attempts before, are in both."""
    RUNS_ENDED.labels(outcome.status).inc()
    usage = outcome.usage
    if usage.input_tokens or usage.output_tokens:
        MODEL_TOKENS.labels(outcome.model, "input").inc(usage.input_tokens)
        MODEL_TOKENS.labels(outcome.model, "output").inc(usage.output_tokens)
        MODEL_COST.labels(outcome.model).inc(usage.cost_micro_usd / 1e6)


def _log_crash(event: str, claim: Claim, error: BaseException) -> None:
    """Where it happened, and the kinds of errors in their chain. Their texts stay out: prompts stand in some."""
    chain: list[str] = []
    where: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(type(cause).__name__)
        where += traceback.format_tb(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
    log.error(event, attempt=claim.attempt, errors=chain, traceback="".join(where))


def _span_attributes(claim: Claim) -> dict[str, str | int]:
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "mesh",
        "gen_ai.conversation.id": str(claim.thread_id),
        "mesh.run_id": str(claim.run_id),
        "mesh.attempt": claim.attempt,
    }
