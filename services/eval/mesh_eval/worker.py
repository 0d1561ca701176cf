"""The worker that judges the queued runs."""

from mesh_common.database.postgres import Database
from mesh_common.jobs.queue import Job
from mesh_common.jobs.worker import JobHandler, JobWorker

from mesh_eval.domain import JudgedRun
from mesh_eval.settings import EvalSettings
from mesh_eval.store import JOBS, JUDGE
from mesh_eval.usecases import JudgeRun


def judge_worker(database: Database, judge_run: JudgeRun, settings: EvalSettings) -> JobWorker:
    return JobWorker(
        database,
        JOBS,
        {JUDGE: _handler(judge_run)},
        name="eval",
        concurrency=settings.runs_at_once,
        timeout_s=settings.run_timeout_s,
        limits=settings.job_limits(),
    )


def _handler(judge_run: JudgeRun) -> JobHandler:
    async def handle(job: Job) -> None:
        await judge_run(job.subject, JudgedRun.from_payload(job.payload))

    return handle
