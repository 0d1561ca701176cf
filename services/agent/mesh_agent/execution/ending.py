"""The end of a run: one transaction for messages, status, usage, frames, outbox and lease."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import uuid5

from mesh_common.clock import utc_now
from mesh_common.ids import RunId
from mesh_common.jobs.queue import JobQueue, NewJob

from mesh_agent.domain.attempts import Claim, LeaseLostError, Outcome
from mesh_agent.domain.runs import RunStatus
from mesh_agent.execution.rolling_back import close_rolled_back
from mesh_agent.store import Database, checkpoints, claims, interrupts, messages, runs

RECORD_USAGE = "record_usage"
REMEMBER = "remember"
SUBMIT_RUN = "submit_run"
FORGET_THREAD = "forget_thread"

_SAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class EndRun:
    database: Database
    outbox: JobQueue
    remember_delay_s: float
    eval_sample_ratio: float

    async def __call__(self, claim: Claim, outcome: Outcome, frames: bytes, *, has_checkpoints: bool) -> bool:
        """Whether another run is pending on the thread. Raises LeaseLostError if the claim is stale.

        Rows are locked in the order run, thread, lease. The lease is deleted last, while the thread is locked: a start
        after that sees the thread free, and a run started before is seen here.
        """
        async with self.database.as_subject(claim.subject) as connection:
            is_rolled_back = await runs.end_run(connection, claim, outcome, frames)
            if is_rolled_back is None:
                raise LeaseLostError
            if outcome.interim and not is_rolled_back:
                await messages.insert_interim(connection, claim, outcome.interim)
            if jobs := list(self._jobs(claim, outcome)):
                await self.outbox.renew(connection, jobs)
            if outcome.status is RunStatus.INTERRUPTED:
                # The run that resumes this one continues from the checkpoints.
                await interrupts.insert_asked(connection, claim, outcome.asked)
                await checkpoints.forget_calls(connection, claim)
            if is_rolled_back:
                await close_rolled_back(connection, claim)
            if has_checkpoints and (is_rolled_back or outcome.status is not RunStatus.INTERRUPTED):
                await checkpoints.forget_run(connection, claim)
            has_waiting = await claims.drop_lease(connection, claim)
            if has_waiting is None:
                raise LeaseLostError
            return has_waiting

    async def discard(self, claim: Claim, outcome: Outcome, holds_lease: Callable[[], bool]) -> None:
        """Bills a run whose thread was deleted. Its last owner does so; nothing else of the run is stored.

        Raises LeaseLostError if the run still exists, or if another replica may have owned it since and bills it.
        """
        async with self.database.as_subject(claim.subject) as connection:
            # Check the clock last: if the lease holds now, nobody else owned it before the run was deleted.
            if await runs.is_there(connection, claim.run_id) or not holds_lease():
                raise LeaseLostError
            for job in _usage_jobs(claim, outcome):
                await self.outbox.add(connection, job)

    def _jobs(self, claim: Claim, outcome: Outcome) -> Iterator[NewJob]:
        """The jobs for other services. Rows hold only ids and numbers; texts are read at delivery.

        All jobs are renewed. That postpones REMEMBER while the thread is busy. The other jobs have the run's id as key,
        under which nothing is queued yet.
        """
        yield from _usage_jobs(claim, outcome)
        if outcome.status is not RunStatus.SUCCEEDED:
            return
        payload = {"run_id": str(claim.run_id), "thread_id": str(claim.thread_id)}
        if outcome.is_remembered:
            yield NewJob(REMEMBER, str(claim.thread_id), claim.subject, payload, self.remember_delay_s)
        if is_sampled(claim.run_id, self.eval_sample_ratio):
            yield NewJob(SUBMIT_RUN, str(claim.run_id), claim.subject, payload)


def _usage_jobs(claim: Claim, outcome: Outcome) -> Iterator[NewJob]:
    """One job for each model that is billed. Usage is billed even if the thread is deleted, so jobs hold the numbers.

    Auth books an id once, for one model. The first model's entry has the run's id, and the entry of each further model
    an id that is derived from it.
    """
    ended_at = utc_now().isoformat()
    billed = [(model, usage) for model, usage in outcome.billed.items() if usage.input_tokens or usage.output_tokens]
    for number, (model, usage) in enumerate(billed):
        id_ = str(uuid5(claim.run_id, model) if number else claim.run_id)
        payload = {
            "run_id": id_,
            "model": model or outcome.model,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cost_micro_usd": usage.cost_micro_usd,
            "ended_at": ended_at,
        }
        yield NewJob(RECORD_USAGE, id_, claim.subject, payload)


def is_sampled(run_id: RunId, ratio: float) -> bool:
    """Always the same for the same run. The low bits of a UUIDv7 are random."""
    return run_id.int % _SAMPLES < ratio * _SAMPLES
