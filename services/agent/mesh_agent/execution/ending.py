"""The end of a run: one transaction for messages, status, usage, frames, outbox and lease (DESIGN §6, point 6)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mesh_common.clock import utc_now
from mesh_common.database.postgres import Database
from mesh_common.ids import RunId
from mesh_common.jobs.queue import JobQueue, NewJob

from mesh_agent.domain import Claim, Outcome, RunStatus
from mesh_agent.events.log import LeaseLostError
from mesh_agent.store import checkpoints, claims, runs

RECORD_USAGE = "record_usage"
REMEMBER = "remember"
SUBMIT_RUN = "submit_run"

_SAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class EndRun:
    database: Database
    outbox: JobQueue
    remember_delay_s: float
    eval_sample_ratio: float

    async def __call__(self, claim: Claim, outcome: Outcome, frames: bytes, *, has_checkpoints: bool) -> bool:
        """Whether another run waits on the thread. Raises LeaseLostError when the claim is stale.

        Rows are locked in the order run, thread, lease. The lease goes last, when the thread is locked: whoever adds
        a run after that sees the thread free, whoever did before is seen here.
        """
        async with self.database.as_subject(claim.subject) as connection:
            if not await runs.end_run(connection, claim, outcome, frames):
                raise LeaseLostError
            if jobs := list(self._jobs(claim, outcome)):
                await self.outbox.renew(connection, jobs)
            if has_checkpoints:
                await checkpoints.forget_run(connection, claim)
            has_waiting = await claims.drop_lease(connection, claim)
            if has_waiting is None:
                raise LeaseLostError
            return has_waiting

    async def discard(self, claim: Claim, outcome: Outcome, holds_lease: Callable[[], bool]) -> None:
        """A run whose thread is gone leaves nothing but what it cost: whoever owned it to the last bills that.

        Raises LeaseLostError when the run is still there, and when another replica may have owned it since: then the
        bill is that one's.
        """
        async with self.database.as_subject(claim.subject) as connection:
            # The clock is asked last: a lease that holds now was nobody else's before the run went.
            if await runs.is_there(connection, claim.run_id) or not holds_lease():
                raise LeaseLostError
            for job in _usage_job(claim, outcome):
                await self.outbox.add(connection, job)

    def _jobs(self, claim: Claim, outcome: Outcome) -> Iterator[NewJob]:
        """What others are to be told. Rows hold ids and numbers only; texts are read when they are delivered.

        All are renewed, which puts off what is remembered of a busy thread; the keys of the rest are the run's own, and
        nothing is queued by them yet.
        """
        yield from _usage_job(claim, outcome)
        if outcome.status is not RunStatus.SUCCEEDED:
            return
        payload = {"run_id": str(claim.run_id), "thread_id": str(claim.thread_id)}
        yield NewJob(REMEMBER, str(claim.thread_id), claim.subject, payload, self.remember_delay_s)
        if is_sampled(claim.run_id, self.eval_sample_ratio):
            yield NewJob(SUBMIT_RUN, str(claim.run_id), claim.subject, payload)


def _usage_job(claim: Claim, outcome: Outcome) -> Iterator[NewJob]:
    """What was used was used, whatever becomes of the thread: so the numbers themselves are queued."""
    usage = outcome.usage
    if not usage.input_tokens and not usage.output_tokens:
        return
    payload = {
        "run_id": str(claim.run_id),
        "model": outcome.model,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_micro_usd": usage.cost_micro_usd,
        "ended_at": utc_now().isoformat(),
    }
    yield NewJob(RECORD_USAGE, str(claim.run_id), claim.subject, payload)


def is_sampled(run_id: RunId, ratio: float) -> bool:
    """The same answer for the same run, whoever asks: the low bits of a UUIDv7 are random."""
    return run_id.int % _SAMPLES < ratio * _SAMPLES
