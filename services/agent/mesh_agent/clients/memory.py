"""Client of memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from mesh.memory.v1 import memory_pb2 as pb
from mesh.memory.v1 import memory_pb2_grpc
from mesh_common.errors import Internal, PermissionDenied, Unavailable
from mesh_common.grpc.client import ServiceCalls
from mesh_common.grpc.error_wire import EDGE_NOT_ALLOWED, UNIMPLEMENTED
from mesh_common.ids import RunId, ThreadId
from mesh_common.process.telemetry import tracer
from mesh_common.subject import Subject

from mesh_agent.domain.threads import Recalled, RecalledMemory, Role, ToRemember

_REMEMBER_TIMEOUT_S = 5.0
_RECALL_LIMIT = 5
_ROLES = {Role.USER: pb.TURN_ROLE_USER, Role.INTERIM: pb.TURN_ROLE_ASSISTANT, Role.ASSISTANT: pb.TURN_ROLE_ASSISTANT}


@dataclass(frozen=True, slots=True)
class MemoryClient:
    calls: ServiceCalls
    stub: memory_pb2_grpc.MemoryServiceStub
    recall_timeout_s: float

    async def recall(self, subject: Subject, message: str) -> Recalled:
        with tracer.start_as_current_span("search_memory") as span:
            response = await self.calls.unary(
                self.stub.Recall,
                pb.RecallRequest(query=message, limit=_RECALL_LIMIT),
                timeout_s=self.recall_timeout_s,
                subject=subject,
            )
            span.set_attributes({"gen_ai.operation.name": "search_memory", "mesh.memory.count": len(response.memories)})
        memories = [RecalledMemory(memory.id, memory.text, memory.similarity) for memory in response.memories]
        generation = response.forget_generation if response.HasField("forget_generation") else None
        return Recalled(memories, generation)

    async def remember(
        self, subject: Subject, run_id: RunId, thread_id: ThreadId, messages: Sequence[ToRemember]
    ) -> None:
        request = pb.RememberRequest(
            run_id=str(run_id),
            thread_id=str(thread_id),
            messages=[_turn_message(one) for one in messages if one.message.role in _ROLES],
        )
        await self.calls.unary(self.stub.Remember, request, timeout_s=_REMEMBER_TIMEOUT_S, subject=subject)

    async def forget_thread(self, subject: Subject, thread_id: ThreadId, deleted_at: datetime) -> None:
        request = pb.ForgetThreadRequest(thread_id=str(thread_id), deleted_at=_timestamp(deleted_at))
        try:
            await self.calls.unary(self.stub.ForgetThread, request, timeout_s=_REMEMBER_TIMEOUT_S, subject=subject)
        except (Internal, PermissionDenied) as error:
            if error.reason not in {UNIMPLEMENTED, EDGE_NOT_ALLOWED}:
                raise
            raise Unavailable("This release of memory does not forget threads yet.") from error


def _turn_message(one: ToRemember) -> pb.TurnMessage:
    message = one.message
    return pb.TurnMessage(
        role=_ROLES[message.role],
        content=message.content,
        run_id=str(message.run_id),
        message_id=str(message.id),
        said_at=_timestamp(message.created_at),
        forget_generation=one.forget_generation,
    )


def _timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
