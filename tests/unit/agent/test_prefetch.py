"""A recall during the start of its run: its subject, and that the error of a cancelled one is not logged."""

import asyncio
from typing import Any

import pytest
from fakes.agent.held_memories import HeldMemories
from fakes.agent.neighbours import AWAY
from mesh_agent.domain.threads import Recalled
from mesh_agent.execution.prefetch import prefetch_recall
from mesh_common import caller
from mesh_common.caller import Caller, acting
from mesh_common.errors import Unavailable
from mesh_common.subject import Subject
from support.subjects import some_subject

ADA = some_subject()


class NotingMemories(HeldMemories):
    callers: list[Caller | None]

    async def recall(self, subject: Subject, message: str) -> Recalled:
        self.callers = [caller._current.get()]
        return await super().recall(subject, message)


async def test_recall_acts_for_the_run_and_not_until_the_starting_requests_deadline() -> None:
    memories = NotingMemories()
    memories.let_go.set()

    with acting(Caller("gateway", ADA, deadline_s=1.0)):
        await prefetch_recall(asyncio.ensure_future, memories, ADA, "Hello")

    assert memories.callers == [Caller("agent", ADA, None)]


async def test_whoever_awaits_a_recall_is_told_that_memory_is_away() -> None:
    memories = HeldMemories(away=AWAY)
    memories.let_go.set()

    with pytest.raises(Unavailable):
        await prefetch_recall(asyncio.ensure_future, memories, ADA, "Hello")


async def test_failed_recall_that_was_dropped_is_not_complained_of() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    memories = HeldMemories(away=AWAY)
    memories.let_go.set()

    recall = prefetch_recall(asyncio.ensure_future, memories, ADA, "Hello")
    await asyncio.wait([recall])
    recall.cancel()
    del recall

    assert complaints == []
