"""memory over gRPC."""

from collections.abc import Sequence
from uuid import UUID

import grpc
from mesh.memory.v1 import memory_pb2, memory_pb2_grpc
from mesh_common.subject import Subject

from mesh_gateway import convert
from mesh_gateway.clients.backend import Backend
from mesh_gateway.clients.dead_letters import DeadLettersClient
from mesh_gateway.domain import Memory, Page


class MemoryClient:
    def __init__(self, backend: Backend, channel: grpc.aio.Channel) -> None:
        self._backend = backend
        self._stub = memory_pb2_grpc.MemoryServiceStub(channel)
        self.dead_letters = DeadLettersClient(backend, channel)

    async def create(self, subject: Subject, text: str) -> Memory:
        request = memory_pb2.CreateMemoryRequest(text=text)
        return convert.memory((await self._backend.unary(self._stub.CreateMemory, request, subject=subject)).memory)

    async def get(self, subject: Subject, memory_id: UUID) -> Memory:
        request = memory_pb2.GetMemoryRequest(memory_id=str(memory_id))
        return convert.memory((await self._backend.unary(self._stub.GetMemory, request, subject=subject)).memory)

    async def list(self, subject: Subject, limit: int, cursor: str | None) -> Page[Memory]:
        request = memory_pb2.ListMemoriesRequest(limit=limit, cursor=cursor)
        response = await self._backend.unary(self._stub.ListMemories, request, subject=subject)
        next_cursor = response.next_cursor if response.HasField("next_cursor") else None
        return Page(items=[convert.memory(one) for one in response.memories], next_cursor=next_cursor)

    async def search(self, subject: Subject, query: str, limit: int) -> Sequence[Memory]:
        request = memory_pb2.SearchMemoriesRequest(query=query, limit=limit)
        response = await self._backend.unary(self._stub.SearchMemories, request, subject=subject)
        return [convert.memory(one) for one in response.memories]

    async def update(self, subject: Subject, memory_id: UUID, text: str) -> Memory:
        request = memory_pb2.UpdateMemoryRequest(memory_id=str(memory_id), text=text)
        return convert.memory((await self._backend.unary(self._stub.UpdateMemory, request, subject=subject)).memory)

    async def delete(self, subject: Subject, memory_id: UUID) -> None:
        request = memory_pb2.DeleteMemoryRequest(memory_id=str(memory_id))
        await self._backend.unary(self._stub.DeleteMemory, request, subject=subject)

    async def delete_all(self, subject: Subject) -> int:
        request = memory_pb2.DeleteAllMemoriesRequest()
        return (await self._backend.unary(self._stub.DeleteAllMemories, request, subject=subject)).deleted
