"""Runs of the fake agent, and the plans that write their events."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from mesh.agent.v1 import agent_pb2
from mesh_common.ids import new_id

WORDS = ("Pa", "ris", ".")


@dataclass
class FakeRun:
    id: str
    thread_id: str
    user_id: UUID
    request: agent_pb2.StartRunRequest
    events: list[agent_pb2.RunEvent] = field(default_factory=list)
    attempt: int = 1
    is_expired: bool = False
    shown_status: agent_pb2.RunStatus.ValueType | None = None
    """Overrides the status that its events imply."""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def write(self, **event: Any) -> None:
        """Writes an event of the generated code."""
        await self.write_wire(agent_pb2.RunEvent(**event).SerializeToString())

    async def write_wire(self, event: bytes) -> None:
        """Writes an event of any release; its run, attempt and seq are set here."""
        seq = sum(1 for one in self.events if one.attempt == self.attempt) + 1
        message = agent_pb2.RunEvent.FromString(event)
        message.run_id, message.attempt, message.seq = self.id, self.attempt, seq
        async with self.changed:
            self.events.append(message)
            self.changed.notify_all()

    @property
    def has_ended(self) -> bool:
        if not self.events:
            return False
        last = self.events[-1]
        return last.is_terminal or last.WhichOneof("event") in {"run_finished", "run_failed", "run_cancelled"}

    @property
    def status(self) -> agent_pb2.RunStatus.ValueType:
        if self.shown_status is not None:
            return self.shown_status
        return agent_pb2.RUN_STATUS_SUCCEEDED if self.has_ended else agent_pb2.RUN_STATUS_RUNNING


async def answer_whole(run: FakeRun) -> None:
    """Writes a memory, three deltas and a terminal event."""
    await answer_begin(run)
    for word in WORDS[1:]:
        await run.write(message_delta=agent_pb2.MessageDelta(message_id=_message_id(run), text=word))
    await run.write(
        message_completed=agent_pb2.MessageCompleted(message_id=_message_id(run), content="".join(WORDS), model="sim")
    )
    usage = agent_pb2.Usage(input_tokens=12, output_tokens=3, cost_micro_usd=45)
    await run.write(run_finished=agent_pb2.RunFinished(finish_reason="stop", usage=usage))


async def answer_begin(run: FakeRun) -> None:
    """Writes the first three events of `answer_whole`."""
    recalled = agent_pb2.RecalledMemory(id=str(new_id()), text="Lives in Lyon", similarity=0.5)
    await run.write(run_started=agent_pb2.RunStarted(thread_id=run.thread_id))
    await run.write(memory_recalled=agent_pb2.MemoryRecalled(memories=[recalled]))
    await run.write(message_delta=agent_pb2.MessageDelta(message_id=_message_id(run), text=WORDS[0]))


def failing_with(error: agent_pb2.RunError) -> Callable[[FakeRun], Any]:
    async def plan(run: FakeRun) -> None:
        await run.write(run_started=agent_pb2.RunStarted(thread_id=run.thread_id))
        await run.write(run_failed=agent_pb2.RunFailed(error=error, usage=agent_pb2.Usage()))

    return plan


def _message_id(run: FakeRun) -> str:
    return run.id
