"""Fakes of the services around the agent: scripted answers, recorded calls, and simulated outages."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.domain.runs import Usage
from mesh_agent.domain.threads import Message, Recalled, RecalledMemory, ToRemember
from mesh_agent.domain.tools import ToolResult
from mesh_common.errors import MeshError, Unavailable
from mesh_common.ids import RunId, ThreadId, UserId
from mesh_common.subject import Subject

AWAY = Unavailable("Away.")


@dataclass
class FakeEntitlements:
    by_user: dict[UserId, Entitlements] = field(default_factory=dict)
    error: MeshError | None = None
    asked: list[UserId] = field(default_factory=list)

    async def get_entitlements(self, subject: Subject) -> Entitlements:
        self.asked.append(subject.user_id)
        if self.error:
            raise self.error
        return self.by_user.get(subject.user_id, Entitlements())


@dataclass(frozen=True)
class RecordedUsage:
    subject: Subject
    run_id: RunId
    model: str
    usage: Usage
    ended_at: datetime


@dataclass(frozen=True)
class Remembered:
    subject: Subject
    run_id: RunId
    thread_id: ThreadId
    messages: Sequence[Message]
    generations: Sequence[int | None] = ()


@dataclass(frozen=True)
class Submitted:
    subject: Subject
    run_id: RunId
    message: str
    answer: str
    memories: Sequence[str]
    tool_results: Sequence[ToolResult]
    model: str


@dataclass
class FakeReceivers:
    """Usage, memory and judge in one. `errors` are raised one per call; `away` fails every call until cleared.

    The outbox holds entries of all users: those of users other than `only` are accepted but not recorded.
    """

    only: UserId | None = None
    errors: list[MeshError] = field(default_factory=list)
    away: MeshError | None = None
    recalled: Sequence[RecalledMemory] = ()
    forget_generation: int | None = None
    usage: asyncio.Queue[RecordedUsage] = field(default_factory=asyncio.Queue)
    remembered: asyncio.Queue[Remembered] = field(default_factory=asyncio.Queue)
    forgotten: asyncio.Queue[tuple[ThreadId, datetime]] = field(default_factory=asyncio.Queue)
    submitted: asyncio.Queue[Submitted] = field(default_factory=asyncio.Queue)
    refused: int = 0

    async def record_usage(self, subject: Subject, run_id: RunId, model: str, usage: Usage, ended_at: datetime) -> None:
        if self._is_noted(subject):
            self.usage.put_nowait(RecordedUsage(subject, run_id, model, usage, ended_at))

    async def recall(self, subject: Subject, message: str) -> Recalled:  # noqa: ARG002 - the port's
        if self.away:
            raise self.away
        return Recalled(self.recalled, self.forget_generation)

    async def remember(
        self, subject: Subject, run_id: RunId, thread_id: ThreadId, messages: Sequence[ToRemember]
    ) -> None:
        if self._is_noted(subject):
            generations = [one.forget_generation for one in messages]
            said = [one.message for one in messages]
            self.remembered.put_nowait(Remembered(subject, run_id, thread_id, said, generations))

    async def forget_thread(self, subject: Subject, thread_id: ThreadId, deleted_at: datetime) -> None:
        if self._is_noted(subject):
            self.forgotten.put_nowait((thread_id, deleted_at))

    async def submit_run(
        self,
        subject: Subject,
        run_id: RunId,
        *,
        message: str,
        answer: str,
        memories: Sequence[str],
        tool_results: Sequence[ToolResult],
        model: str,
    ) -> None:
        if self._is_noted(subject):
            self.submitted.put_nowait(Submitted(subject, run_id, message, answer, memories, tool_results, model))

    def _is_noted(self, subject: Subject) -> bool:
        if self.only not in {None, subject.user_id}:
            return False
        error = self.errors.pop(0) if self.errors else self.away
        if error:
            self.refused += 1
            raise error
        return True
