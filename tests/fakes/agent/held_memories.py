"""A memory service that answers when a test lets it. It records the calls and those that were cancelled."""

import asyncio
from dataclasses import dataclass, field

from fakes.agent.neighbours import FakeReceivers
from mesh_agent.domain.threads import Recalled
from mesh_common.ids import UserId
from mesh_common.subject import Subject


@dataclass
class HeldMemories(FakeReceivers):
    """Answers at once after `let_go` is set."""

    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Queue[tuple[UserId, str]] = field(default_factory=asyncio.Queue)
    cancelled: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def recall(self, subject: Subject, message: str) -> Recalled:
        self.asked.put_nowait((subject.user_id, message))
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled.put_nowait(message)
            raise
        return await super().recall(subject, message)
