"""What the agent needs from the other services."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Protocol

from mesh_common.events.model import Position, RunEvent
from mesh_common.ids import RunId, ThreadId
from mesh_common.subject import Subject

from mesh_agent.domain.entitlements import Entitlements
from mesh_agent.domain.runs import Usage
from mesh_agent.domain.threads import Recalled, RecalledMemory, SaidInRun, ToRemember
from mesh_agent.domain.tools import ToolResult


class EntitlementsSource(Protocol):
    async def get_entitlements(self, subject: Subject) -> Entitlements:
        """Raises Unavailable or DeadlineExceeded if auth does not answer."""
        ...


class UsageSink(Protocol):
    async def record_usage(
        self, subject: Subject, run_id: RunId, model: str, usage: Usage, ended_at: datetime
    ) -> None: ...


class Memories(Protocol):
    async def recall(self, subject: Subject, message: str) -> Recalled:
        """Best first. Raises Unavailable or DeadlineExceeded if memory does not answer in time."""
        ...

    async def remember(
        self, subject: Subject, run_id: RunId, thread_id: ThreadId, messages: Sequence[ToRemember]
    ) -> None: ...

    async def forget_thread(self, subject: Subject, thread_id: ThreadId, deleted_at: datetime) -> None:
        """Nothing that was said in the thread is stored from now on. Raises Unavailable also for an older release."""
        ...


class PersonalMemories(Protocol):
    """A user's memories as tools see them. All methods raise MeshError, e.g. Unavailable."""

    async def create(self, subject: Subject, text: str, said: SaidInRun) -> str:
        """The id of the new memory, or of the one that states the same. Raises PreconditionFailed with the reason
        FORGOTTEN if the user deleted memories since."""
        ...

    async def replace(self, subject: Subject, memory_id: str, text: str) -> None:
        """Raises NotFound, AlreadyExists."""
        ...

    async def search(self, subject: Subject, query: str) -> Sequence[RecalledMemory]:
        """Best first, at most 10."""
        ...

    async def delete(self, subject: Subject, memory_id: str) -> None:
        """Raises NotFound."""
        ...


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
        """The owner's events. Ends without a terminal event if the owner becomes unavailable."""
        ...

    async def cancel(self, address: str, run_id: RunId) -> None:
        """Waits until the owner has stopped the run. Does nothing if the owner cannot be reached."""
        ...
