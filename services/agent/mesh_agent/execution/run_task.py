"""One run from its claim to its stored end, whatever happens in between.

It catches every exception, as the gRPC boundary does for a call and the job worker for a job, so that a crashing run
fails alone.
"""

import asyncio
import traceback
from dataclasses import dataclass, field, replace
from enum import StrEnum

import structlog
from mesh_common.caller import Caller, acting
from mesh_common.events.model import RunEvent
from mesh_common.process.telemetry import restored_context, tracer
from opentelemetry.trace import SpanKind, Status, StatusCode
from structlog.contextvars import bound_contextvars

from mesh_agent.domain.attempts import Claim, LeaseLostError, Outcome
from mesh_agent.domain.runs import RunError, RunStatus
from mesh_agent.events.storage import encode_frames
from mesh_agent.execution.attempt import AttemptParts, cancel_attempt, run_attempt
from mesh_agent.execution.ending import EndRun
from mesh_agent.execution.outcome import terminal_event
from mesh_agent.execution.recorder import Recorder
from mesh_agent.lease import HeldLease, while_lease_holds
from mesh_agent.metrics import MODEL_COST, MODEL_TOKENS, RUNS_ENDED
from mesh_agent.store import Database, claims

log = structlog.get_logger()

_INTERNAL = RunError("INTERNAL", "Something went wrong on our side.", is_retryable=True)
_TIMED_OUT = RunError("RUN_TIMEOUT", "The run exceeded its time limit.", is_retryable=True)


class Stop(StrEnum):
    """Why a run is stopped from outside."""

    CANCELLED = "cancelled"
    """Its user cancelled it; the partial answer is kept."""
    DISCARDED = "discarded"
    """Its thread was deleted; nothing is kept."""
    LEASE_LOST = "lease_lost"
    """Another replica may own it."""
    RELEASED = "released"
    """This replica is shutting down; another one takes the run over."""


@dataclass(frozen=True, slots=True)
class RunTaskParts:
    """What every run task uses; one per process."""

    database: Database
    attempt: AttemptParts
    end_run: EndRun


@dataclass(slots=True)
class RunTask:
    """One claimed run on this replica: its lease, what its attempt has recorded, and how it may be stopped."""

    claim: Claim
    recorder: Recorder
    lease: HeldLease
    parts: RunTaskParts
    task: asyncio.Task[None] | None = None
    stop: Stop | None = None
    has_begun: bool = False
    is_ending: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def stop_by(self, reason: Stop) -> bool:
        """Stops the run unless it is already stopped or ending."""
        if self.is_ending or self.stop or self.task is None:
            return False
        self.stop = reason
        if self.has_begun:
            self.task.cancel()
        return True

    async def execute(self) -> bool:
        """Runs the attempt and stores its end. Returns whether another run is pending on the thread. Raises only
        CancelledError."""
        self._begin()
        with bound_contextvars(run_id=str(self.claim.run_id), thread_id=str(self.claim.thread_id)):
            return await self._execute()

    def _begin(self) -> None:
        """asyncio never enters a task that is cancelled before its first step, and then nothing would end the run or
        release it. So `stop_by` only marks such a task, and it is cancelled here."""
        self.has_begun = True
        if self.stop and self.task:
            self.task.cancel()

    async def _execute(self) -> bool:
        claim = self.claim
        try:
            with (
                acting(Caller("agent", claim.subject, None, is_background=True)),
                tracer.start_as_current_span(
                    "invoke_agent",
                    context=restored_context(claim.trace_context),
                    kind=SpanKind.INTERNAL,
                    record_exception=False,
                ) as span,
            ):
                span.set_attributes(_span_attributes(claim))
                outcome = await self._outcome()
                if outcome is None:
                    return False
                if outcome.error:
                    span.set_status(Status(StatusCode.ERROR, outcome.error.reason))
                return await self._end(outcome)
        except LeaseLostError:
            log.warning("run.lease_lost", attempt=claim.attempt)
        except Exception as error:  # noqa: BLE001 - its lease expires, and another replica tries
            _log_crash("run.not_ended", claim, error)
        return False

    async def _outcome(self) -> Outcome | None:
        """How the attempt ended; None when this replica must not end the run."""
        try:
            return await run_attempt(self.recorder, self.parts.attempt)
        except asyncio.CancelledError:
            return await self._stopped()
        except LeaseLostError:
            await self._lost()
            return None
        except TimeoutError:
            return self.recorder.failed(_TIMED_OUT)
        except Exception as error:  # noqa: BLE001 - a crashing run fails alone
            _log_crash("run.crashed", self.claim, error)
            return self.recorder.failed(_INTERNAL)

    async def _stopped(self) -> Outcome | None:
        if self.stop is None or self.task is None:
            raise asyncio.CancelledError
        self.task.uncancel()
        match self.stop:
            case Stop.CANCELLED:
                return await cancel_attempt(self.recorder, self.parts.attempt)
            case Stop.DISCARDED | Stop.LEASE_LOST:
                await self._lost()
            case Stop.RELEASED:
                async with self.parts.database.as_worker() as connection:
                    await claims.release_run(connection, self.claim)
        return None

    async def _lost(self, outcome: Outcome | None = None) -> None:
        """The lease no longer exists. If the thread was deleted, bills the run and ends its followers; if another
        replica took over, raises LeaseLostError."""
        self.is_ending = True
        if not self.lease.holds():
            raise LeaseLostError
        ended = outcome or self.recorder.cancelled()
        discard = self.parts.end_run.discard
        await while_lease_holds(self.lease.holds, lambda: discard(self.claim, ended, self.lease.holds))
        self.recorder.log.finish(self._terminal(ended))
        _count(ended)
        log.info("run.discarded", attempt=self.claim.attempt, model=ended.model)

    async def _end(self, outcome: Outcome) -> bool:
        # From here on nothing stops the run: a cancellation comes too late and must not interrupt the commit.
        self.is_ending = True
        claim, event_log = self.claim, self.recorder.log
        terminal = self._terminal(outcome)
        frames = encode_frames([*event_log.events, terminal])
        end_run, has_checkpoints = self.parts.end_run, self.recorder.has_checkpoints
        try:
            has_waiting = await while_lease_holds(
                self.lease.holds, lambda: end_run(claim, outcome, frames, has_checkpoints=has_checkpoints)
            )
        except LeaseLostError:
            await self._lost(replace(outcome, status=RunStatus.CANCELLED, asked=()))
            return False
        event_log.finish(terminal)
        _count(outcome)
        reason = {"reason": outcome.error.reason} if outcome.error else {}
        log.info("run.ended", status=outcome.status, attempt=claim.attempt, model=outcome.model, **reason)
        return has_waiting

    def _terminal(self, outcome: Outcome) -> RunEvent:
        claim = self.claim
        return RunEvent(claim.run_id, claim.attempt, len(self.recorder.log.events) + 1, terminal_event(outcome))


def _count(outcome: Outcome) -> None:
    """Called where the usage is billed, so that both agree. Both include interrupted rounds and earlier attempts."""
    RUNS_ENDED.labels(outcome.status).inc()
    for model, usage in outcome.billed.items():
        if usage.input_tokens or usage.output_tokens:
            name = model or outcome.model
            MODEL_TOKENS.labels(name, "input").inc(usage.input_tokens)
            MODEL_TOKENS.labels(name, "output").inc(usage.output_tokens)
            MODEL_COST.labels(name).inc(usage.cost_micro_usd / 1e6)


def _log_crash(event: str, claim: Claim, error: BaseException) -> None:
    """Logs the traceback and the types of the chained errors, but not their texts: some contain prompts."""
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
