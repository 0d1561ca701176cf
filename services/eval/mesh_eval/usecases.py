import secrets
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import structlog
from mesh_common.clock import Clock
from mesh_common.errors import Unavailable
from mesh_common.process.telemetry import current_trace_id, tracer
from mesh_common.subject import Subject
from opentelemetry.trace import Span

from mesh_eval.domain import InvalidAnswer, Judge, JudgedRun, RunScores, Score, ScoreStatus, Verdict, parse_verdict
from mesh_eval.judges.texts import texts_to_judge
from mesh_eval.metrics import INVALID_ANSWERS, JUDGE_SECONDS, SCORES
from mesh_eval.ports import JudgeModel, Question, UnitOfWork

log = structlog.get_logger()

# The first try, at 0, is repeatable. A model that gave an invalid answer at 0 would give the same one again at 0.
_TEMPERATURE_STEP = 0.4
_BUSY_RETRY_AFTER_S = 30.0


@dataclass(frozen=True, slots=True)
class SubmitRun:
    """Queues a run for judging, unless it is queued or was ever judged. `wake` wakes this replica's worker.

    Raises: Unavailable if the user has too many pending runs; the agent's outbox submits the run again later.
    """

    uow: UnitOfWork
    wake: Callable[[], None]
    max_queued_runs: int

    async def __call__(self, subject: Subject, run: JudgedRun) -> None:
        async with self.uow.as_subject(subject) as store:
            is_new = await store.queue(run)
            # Checked last, so that a run that is already queued or judged is never rejected. The error rolls back.
            if is_new and await store.count_queued() > self.max_queued_runs:
                raise Unavailable("Too many runs are waiting to be judged.", retry_after_s=_BUSY_RETRY_AFTER_S)
        if is_new:
            self.wake()


@dataclass(frozen=True, slots=True)
class ListScores:
    uow: UnitOfWork

    async def __call__(self, subject: Subject, run_id: UUID) -> RunScores:
        async with self.uow.as_subject(subject) as store:
            return await store.list_scores(run_id)


@dataclass(frozen=True, slots=True)
class JudgeRun:
    """Judges a run by every metric and stores all scores in one transaction, or none.

    Raises: Unavailable if the judge or the database is unavailable; nothing is stored then.
    """

    uow: UnitOfWork
    model: JudgeModel
    judges: tuple[Judge, ...]
    clock: Clock
    tries: int
    max_input_bytes: int
    has_reasoning: bool = True
    """False if the judge is asked only for the score."""

    async def __call__(self, subject: Subject, run: JudgedRun) -> None:
        if await self._is_judged(subject, run.id):
            return
        scores = [await self._judge(judge, run) for judge in self.judges]
        async with self.uow.as_subject(subject) as store:
            await store.add_scores(run, scores)
        for score in scores:
            SCORES.labels(score.name, score.status).inc()

    async def _is_judged(self, subject: Subject, run_id: UUID) -> bool:
        # A worker that died after it stored the scores and before it deleted the job left a job that is already done.
        async with self.uow.as_subject(subject) as store:
            return await store.is_judged(run_id)

    async def _judge(self, judge: Judge, run: JudgedRun) -> Score:
        name = judge.metric.name
        attributes = {"mesh.run_id": str(run.id), "gen_ai.evaluation.name": name}
        with (
            JUDGE_SECONDS.labels(name).time(),
            tracer.start_as_current_span(f"evaluate {name}", attributes=attributes, record_exception=False) as span,
        ):
            verdict = await self._verdict(judge, run)
            _add_result(span, name, verdict)
            return self._score(judge, verdict)

    def _score(self, judge: Judge, verdict: Verdict | None) -> Score:
        return Score(
            name=judge.metric.name,
            status=ScoreStatus.SUCCEEDED if verdict else ScoreStatus.FAILED,
            value=verdict.value if verdict else None,
            reasoning=verdict.reasoning if verdict else "",
            judge_model=self.model.name,
            prompt_hash=judge.prompt_hash,
            created_at=self.clock.now(),
            trace_id=current_trace_id(),
        )

    async def _verdict(self, judge: Judge, run: JudgedRun) -> Verdict | None:
        """None if no try returned a valid answer."""
        for attempt in range(self.tries):
            try:
                answer = await self.model.answer(self._question(judge, run, attempt))
                return parse_verdict(answer, has_reasoning=self.has_reasoning)
            except InvalidAnswer as invalid:
                INVALID_ANSWERS.labels(judge.metric.name).inc()
                log.info("eval.answer_invalid", metric=judge.metric.name, attempt=attempt + 1, why=str(invalid))
                if invalid.is_final:
                    break
        return None

    def _question(self, judge: Judge, run: JudgedRun, attempt: int) -> Question:
        code = secrets.token_hex(4)
        texts = texts_to_judge(run, judge.metric, code=code, max_bytes=self.max_input_bytes)
        return Question(judge.prompt, texts, temperature=attempt * _TEMPERATURE_STEP)


def _add_result(span: Span, name: str, verdict: Verdict | None) -> None:
    """Adds the event of the GenAI conventions, without the reasoning: texts about users stay out of telemetry."""
    outcome: dict[str, str | float] = (
        {"gen_ai.evaluation.score.value": verdict.value} if verdict else {"error.type": "invalid_answer"}
    )
    span.add_event("gen_ai.evaluation.result", {"gen_ai.evaluation.name": name, **outcome})
