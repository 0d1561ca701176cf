"""What the agent needs of the other services."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Protocol

from mesh_common.events.model import Position, RunEvent
from mesh_common.ids import RunId, ThreadId
from mesh_common.subject import Subject

from mesh_agent.domain import Entitlements, Message, RecalledMemory, ToolResult, Usage


class EntitlementsSource(Protocol):
    async def get_entitlements(self, subject: Subject) -> Entitlements:
        """Raises Unavailable or DeadlineExceeded when auth cannot be asked."""
        ...


class UsageSink(Protocol):
    async def record_usage(
        self, subject: Subject, run_id: RunId, model: str, usage: Usage, ended_at: datetime
    ) -> None: ...


class Memories(Protocol):
    async def recall(self, subject: Subject, message: str) -> Sequence[RecalledMemory]:
        """Best first. Raises Unavailable or DeadlineExceeded when memory cannot be asked in time."""
        ...

    async def remember(
        self, subject: Subject, run_id: RunId, thread_id: ThreadId, messages: Sequence[Message]
    ) -> None: ...


class Judge(Protocol):
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
    ) -> None: ...


class PeerAgents(Protocol):
    """Other replicas of the agent, by their address."""

    def follow(self, address: str, run_id: RunId, after: Position) -> AsyncGenerator[RunEvent]:
        """The owner's events; ends without a terminal one when the owner goes away."""
        ...

    async def cancel(self, address: str, run_id: RunId) -> None:
        """Waits until the owner has stopped the run. Does nothing when the owner cannot be reached."""
        ...
