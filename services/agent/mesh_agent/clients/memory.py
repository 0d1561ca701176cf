"""Client of memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from mesh.memory.v1 import memory_pb2 as pb
from mesh.memory.v1 import memory_pb2_grpc
from mesh_common.grpc.client import ServiceCalls
from mesh_common.ids import RunId, ThreadId
from mesh_common.process.telemetry import tracer
from mesh_common.subject import Subject

from mesh_agent.domain import Message, RecalledMemory, Role

_REMEMBER_TIMEOUT_S = 5.0
_RECALL_LIMIT = 5
_ROLES = {Role.USER: pb.TURN_ROLE_USER, Role.ASSISTANT: pb.TURN_ROLE_ASSISTANT}


@dataclass(frozen=True, slots=True)
class MemoryClient:
    calls: ServiceCalls
    stub: memory_pb2_grpc.MemoryServiceStub
    recall_timeout_s: float

    async def recall(self, subject: Subject, message: str) -> Sequence[RecalledMemory]:
        with tracer.start_as_current_span("search_memory") as span:
            response = await self.calls.unary(
                self.stub.Recall,
                pb.RecallRequest(query=message, limit=_RECALL_LIMIT),
                timeout_s=self.recall_timeout_s,
                subject=subject,
            )
            span.set_attributes({"gen_ai.operation.name": "search_memory", "mesh.memory.count": len(response.memories)})
        return [RecalledMemory(memory.id, memory.text, memory.similarity) for memory in response.memories]

    async def remember(self, subject: Subject, run_id: RunId, thread_id: ThreadId, messages: Sequence[Message]) -> None:
        request = pb.RememberRequest(
            run_id=str(run_id),
            thread_id=str(thread_id),
            messages=[
                pb.TurnMessage(role=_ROLES[message.role], content=message.content)
                for message in messages
                if message.role in _ROLES
            ],
        )
        await self.calls.unary(self.stub.Remember, request, timeout_s=_REMEMBER_TIMEOUT_S, subject=subject)
