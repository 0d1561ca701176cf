"""memory over gRPC."""

from collections.abc import Sequence
from uuid import UUID

import grpc
from mesh.memory.v1 import memory_pb2, memory_pb2_grpc
from mesh_common.ids import UserId

from mesh_gateway import convert
from mesh_gateway.clients.backend import Backend
from mesh_gateway.domain import Memory, Page


class MemoryClient:
    def __init__(self, backend: Backend, channel: grpc.aio.Channel) -> None:
        self._backend = backend
        self._stub = memory_pb2_grpc.MemoryServiceStub(channel)

    async def create(self, user_id: UserId, text: str) -> Memory:
        request = memory_pb2.CreateMemoryRequest(text=text)
        return convert.memory((await self._backend.unary(self._stub.CreateMemory, request, user_id=user_id)).memory)

    async def get(self, user_id: UserId, memory_id: UUID) -> Memory:
        request = memory_pb2.GetMemoryRequest(memory_id=str(memory_id))
        return convert.memory((await self._backend.unary(self._stub.GetMemory, request, user_id=user_id)).memory)

    async def list(self, user_id: UserId, limit: int, cursor: str | None) -> Page[Memory]:
        request = memory_pb2.ListMemoriesRequest(limit=limit, cursor=cursor)
        response = await self._backend.unary(self._stub.ListMemories, request, user_id=user_id)
        next_cursor = response.next_cursor if response.HasField("next_cursor") else None
        return Page(items=[convert.memory(one) for one in response.memories], next_cursor=next_cursor)

    async def search(self, user_id: UserId, query: str, limit: int) -> Sequence[Memory]:
        request = memory_pb2.SearchMemoriesRequest(query=query, limit=limit)
        response = await self._backend.unary(self._stub.SearchMemories, request, user_id=user_id)
        return [convert.memory(one) for one in response.memories]

    async def update(self, user_id: UserId, memory_id: UUID, text: str) -> Memory:
        request = memory_pb2.UpdateMemoryRequest(memory_id=str(memory_id), text=text)
        return convert.memory((await self._backend.unary(self._stub.UpdateMemory, request, user_id=user_id)).memory)

    async def delete(self, user_id: UserId, memory_id: UUID) -> None:
        request = memory_pb2.DeleteMemoryRequest(memory_id=str(memory_id))
        await self._backend.unary(self._stub.DeleteMemory, request, user_id=user_id)

    async def delete_all(self, user_id: UserId) -> int:
        request = memory_pb2.DeleteAllMemoriesRequest()
        return (await self._backend.unary(self._stub.DeleteAllMemories, request, user_id=user_id)).deleted
