"""Delivers the outbox: usage to auth, turns to memory, runs to eval. Delivery is at least once; receivers are
idempotent."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never
from uuid import UUID

import structlog
from mesh_common.events import model as events
from mesh_common.events.model import EventBody, RunEvent
from mesh_common.ids import RunId, ThreadId
from mesh_common.jobs.queue import Job
from mesh_common.jobs.worker import NEVER_SUCCEEDS, JobHandler
from mesh_common.subject import Subject

from mesh_agent.domain.runs import MAX_MESSAGE_CHARS, Usage
from mesh_agent.domain.threads import ToRemember
from mesh_agent.domain.tools import ToolResult
from mesh_agent.events.storage import decode_frames
from mesh_agent.execution.ending import FORGET_THREAD, RECORD_USAGE, REMEMBER, SUBMIT_RUN
from mesh_agent.ports import Judge, Memories, UsageSink
from mesh_agent.store import Database, messages, runs

log = structlog.get_logger()

# Limit of MemoryService.Remember for one call.
_MAX_MESSAGES = 50
# A gRPC message may have 1 MiB, and a character takes at most four bytes.
_MAX_CHARS = 200_000


@dataclass(frozen=True, slots=True)
class DeliverOutbox:
    database: Database
    usage: UsageSink
    memories: Memories
    judge: Judge

    def handlers(self) -> dict[str, JobHandler]:
        return {
            RECORD_USAGE: self._record_usage,
            REMEMBER: self._remember,
            SUBMIT_RUN: self._submit_run,
            FORGET_THREAD: self._forget_thread,
        }

    async def _forget_thread(self, job: Job) -> None:
        thread_id = ThreadId(UUID(job.payload["thread_id"]))
        await self.memories.forget_thread(job.subject, thread_id, datetime.fromisoformat(job.payload["deleted_at"]))

    async def _record_usage(self, job: Job) -> None:
        payload = job.payload
        usage = Usage(payload["input_tokens"], payload["output_tokens"], payload["cost_micro_usd"])
        ended_at = datetime.fromisoformat(payload["ended_at"])
        await self.usage.record_usage(job.subject, _run_of(job), payload["model"], usage, ended_at)

    async def _remember(self, job: Job) -> None:
        """Sends all turns since the last delivery, so that turns in quick succession cost one extraction.

        Turns that memory refuses for good are sent one by one, and the one that it still refuses is skipped. Otherwise
        it would hold back all later turns of its thread.
        """
        subject, thread_id = job.subject, ThreadId(UUID(job.payload["thread_id"]))
        is_single = False
        while turns := await self._to_remember(subject, thread_id):
            said, position = _within_one_call(turns, is_single=is_single)
            try:
                await self.memories.remember(subject, said[-1].message.run_id, thread_id, said)
            except NEVER_SUCCEEDS as error:
                is_single = len({one.message.run_id for one in said}) > 1
                if is_single:
                    continue
                log.warning("outbox.turn_skipped", run_id=str(said[-1].message.run_id), reason=error.reason)
            async with self.database.as_subject(subject) as connection:
                await messages.set_remembered(connection, thread_id, position)
            if len(said) == len(turns) < _MAX_MESSAGES:
                # Nothing is left. Turns that ended meanwhile have queued a new job.
                return

    async def _to_remember(self, subject: Subject, thread_id: ThreadId) -> Sequence[tuple[ToRemember, int]]:
        async with self.database.as_subject(subject) as connection:
            return await messages.messages_to_remember(connection, subject.user_id, thread_id, limit=_MAX_MESSAGES)

    async def _submit_run(self, job: Job) -> None:
        subject, run_id = job.subject, _run_of(job)
        async with self.database.as_subject(subject) as connection:
            found = await runs.input_and_frames(connection, subject.user_id, run_id)
        if found is None:
            return
        message, answer, model, frames = found
        evidence = _Evidence.of([event for part in frames for event in decode_frames(run_id, part)])
        await self.judge.submit_run(
            subject,
            run_id,
            message=message,
            answer=answer,
            memories=evidence.memories,
            tool_results=evidence.tool_results,
            model=model,
        )


def _run_of(job: Job) -> RunId:
    return RunId(UUID(job.payload["run_id"]))


def _within_one_call(pending: Sequence[tuple[ToRemember, int]], *, is_single: bool) -> tuple[list[ToRemember], int]:
    """The first turns that fit into one call, or just the first, and the position of the last of them.

    Turns are never split.
    """
    batch: list[ToRemember] = []
    last_position, chars = 0, 0
    for position, group in itertools.groupby(pending, key=lambda pair: pair[1]):
        turn = [_shortened(one) for one, _ in group]
        chars += sum(len(one.message.content) for one in turn)
        if batch and (is_single or chars > _MAX_CHARS):
            break
        batch += turn
        last_position = position
    return batch, last_position


def _shortened(one: ToRemember) -> ToRemember:
    return replace(one, message=replace(one.message, content=one.message.content[:MAX_MESSAGE_CHARS]))


@dataclass(slots=True)
class _Evidence:
    """The parts of a run's events that the judge sees."""

    memories: list[str]
    tool_results: list[ToolResult]

    @classmethod
    def of(cls, run_events: Sequence[RunEvent]) -> "_Evidence":
        evidence = cls([], [])
        for event in run_events:
            evidence.add(event.body)
        return evidence

    def add(self, body: EventBody) -> None:
        match body:
            case events.MemoryRecalled(memories):
                self.memories += (memory.text for memory in memories)
            case events.RunRestarted(_, results):
                self.tool_results += results
            case events.ToolFinished(result):
                self.tool_results.append(result)
            case events.RunStarted() | events.MessageDelta() | events.MessageCompleted() | events.ToolStarted():
                pass
            case events.StepStarted() | events.StepFinished() | events.Custom():
                pass
            case events.MemberDelta() | events.MemberCompleted():
                pass
            case events.RunFinished() | events.RunFailed() | events.RunCancelled() | events.RunInterrupted():
                pass
            case events.UnknownEvent():
                pass
            case _:
                assert_never(body)
