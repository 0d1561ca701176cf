# ruff: noqa: N802, ARG002 - methods are named and shaped by the generated servicer
"""memory as the gateway sees it."""

from typing import Any
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from mesh.memory.v1 import memory_pb2, memory_pb2_grpc
from mesh_common.caller import require_user
from mesh_common.errors import NotFound
from mesh_common.ids import new_id

_NOW = Timestamp(seconds=1_764_000_000)


class FakeMemory(memory_pb2_grpc.MemoryServiceServicer):
    def __init__(self) -> None:
        self.kept: dict[str, tuple[UUID, memory_pb2.Memory]] = {}

    async def CreateMemory(
        self, request: memory_pb2.CreateMemoryRequest, context: Any
    ) -> memory_pb2.CreateMemoryResponse:
        memory = memory_pb2.Memory(
            id=str(new_id()),
            text=request.text,
            created_at=_NOW,
            updated_at=_NOW,
            origin=memory_pb2.MEMORY_ORIGIN_WRITTEN,
        )
        self.kept[memory.id] = (require_user(), memory)
        return memory_pb2.CreateMemoryResponse(memory=memory)

    async def GetMemory(self, request: memory_pb2.GetMemoryRequest, context: Any) -> memory_pb2.GetMemoryResponse:
        return memory_pb2.GetMemoryResponse(memory=self._mine(request.memory_id))

    async def ListMemories(
        self, request: memory_pb2.ListMemoriesRequest, context: Any
    ) -> memory_pb2.ListMemoriesResponse:
        return memory_pb2.ListMemoriesResponse(memories=self._all()[: request.limit])

    async def SearchMemories(
        self, request: memory_pb2.SearchMemoriesRequest, context: Any
    ) -> memory_pb2.SearchMemoriesResponse:
        found = [memory for memory in self._all() if request.query in memory.text]
        for memory in found:
            memory.similarity = 0.9
        return memory_pb2.SearchMemoriesResponse(memories=found[: request.limit])

    async def UpdateMemory(
        self, request: memory_pb2.UpdateMemoryRequest, context: Any
    ) -> memory_pb2.UpdateMemoryResponse:
        memory = self._mine(request.memory_id)
        memory.text = request.text
        return memory_pb2.UpdateMemoryResponse(memory=memory)

    async def DeleteMemory(
        self, request: memory_pb2.DeleteMemoryRequest, context: Any
    ) -> memory_pb2.DeleteMemoryResponse:
        del self.kept[self._mine(request.memory_id).id]
        return memory_pb2.DeleteMemoryResponse()

    async def DeleteAllMemories(
        self, request: memory_pb2.DeleteAllMemoriesRequest, context: Any
    ) -> memory_pb2.DeleteAllMemoriesResponse:
        mine = self._all()
        for memory in mine:
            del self.kept[memory.id]
        return memory_pb2.DeleteAllMemoriesResponse(deleted=len(mine))

    async def Recall(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Remember(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    def _all(self) -> list[memory_pb2.Memory]:
        return [memory for owner, memory in self.kept.values() if owner == require_user()]

    def _mine(self, memory_id: str) -> memory_pb2.Memory:
        owner, memory = self.kept.get(memory_id, (None, None))
        if memory is None or owner != require_user():
            raise NotFound("There is no such memory.")
        return memory
