"""The user's memories for tools, over gRPC."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from mesh.memory.v1 import memory_pb2 as pb
from mesh.memory.v1 import memory_pb2_grpc
from mesh_common.errors import PermissionDenied, Unavailable
from mesh_common.grpc.client import ServiceCalls
from mesh_common.grpc.error_wire import EDGE_NOT_ALLOWED
from mesh_common.subject import Subject

from mesh_agent.domain.threads import RecalledMemory, SaidInRun

# An embedding of a short text takes milliseconds; a user waits for the tool.
_TIMEOUT_S: Final = 5.0
_SEARCH_LIMIT: Final = 10


@dataclass(frozen=True, slots=True)
class PersonalMemoriesClient:
    calls: ServiceCalls
    stub: memory_pb2_grpc.MemoryServiceStub

    async def create(self, subject: Subject, text: str, said: SaidInRun) -> str:
        said_at = Timestamp()
        said_at.FromDatetime(said.said_at)
        source = pb.MemorySource(
            run_id=str(said.run_id),
            thread_id=str(said.thread_id),
            said_at=said_at,
            forget_generation=said.forget_generation,
        )
        request = pb.CreateMemoryRequest(text=text, source=source)
        response = await self._call(self.stub.CreateMemory, request, subject)
        return response.memory.id

    async def replace(self, subject: Subject, memory_id: str, text: str) -> None:
        await self._call(self.stub.UpdateMemory, pb.UpdateMemoryRequest(memory_id=memory_id, text=text), subject)

    async def search(self, subject: Subject, query: str) -> Sequence[RecalledMemory]:
        request = pb.SearchMemoriesRequest(query=query, limit=_SEARCH_LIMIT)
        response = await self._call(self.stub.SearchMemories, request, subject)
        return [RecalledMemory(memory.id, memory.text, memory.similarity) for memory in response.memories]

    async def delete(self, subject: Subject, memory_id: str) -> None:
        await self._call(self.stub.DeleteMemory, pb.DeleteMemoryRequest(memory_id=memory_id), subject)

    async def _call[Q: Message, R: Message](
        self, method: grpc.aio.UnaryUnaryMultiCallable[Q, R], request: Q, subject: Subject
    ) -> R:
        try:
            return await self.calls.unary(method, request, timeout_s=_TIMEOUT_S, subject=subject)
        except PermissionDenied as error:
            if error.reason != EDGE_NOT_ALLOWED:
                raise
            raise Unavailable("This release of memory does not serve tools yet.") from error
