"""The memory service for tests: its settings, and calls as the services that may call it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from google.protobuf.message import Message
from mesh.memory.v1 import memory_pb2, memory_pb2_grpc
from mesh_common.grpc.client import open_channel
from mesh_common.grpc.edges import ServiceName
from mesh_common.ids import UserId, new_id
from mesh_common.subject import Subject
from mesh_memory.bootstrap import open_service
from mesh_memory.settings import MemorySettings

from support.mesh import TestMesh
from support.net import free_port
from support.subjects import personal


def new_subject() -> Subject:
    return personal(UserId(new_id()))


def memory_settings(test_mesh: TestMesh, model_url: str, **overrides: Any) -> MemorySettings:
    """Settings with the simulator at `model_url`, whose vectors give unrelated texts a similarity near 0."""
    environment = test_mesh.environment("memory")
    values: dict[str, Any] = {name.removeprefix("MEMORY_").lower(): value for name, value in environment.items()}
    values |= {
        "grpc_port": free_port(),
        "drain_s": 2.0,
        "database_pool_size": 5,
        "openai_base_url": f"{model_url}/v1",
        "embedding_base_url": f"{model_url}/v1",
        "embedding_model": "sim-embedding",
        "embedding_dimensions": 384,
        "recall_min_similarity": 0.2,
        # A busy machine with two cores may take this long; tests of the time limit set their own.
        "recall_timeout_s": 10.0,
    }
    return MemorySettings(**(values | overrides))


@dataclass(frozen=True)
class MemoryClient:
    """Calls by name: as the gateway, except for the two that only the agent may make."""

    stub: Any
    test_mesh: TestMesh

    async def call(self, rpc: str, subject: Subject, request: Message, *, caller: ServiceName | None = None) -> Any:
        caller = caller or ("agent" if rpc in {"Recall", "Remember"} else "gateway")
        calls = self.test_mesh.calls_as(caller, "memory")
        return await calls.unary(getattr(self.stub, rpc), request, timeout_s=20.0, subject=subject)

    async def create(self, subject: Subject, text: str) -> memory_pb2.Memory:
        request = memory_pb2.CreateMemoryRequest(text=text)
        memory: memory_pb2.Memory = (await self.call("CreateMemory", subject, request)).memory
        return memory

    async def remember(self, subject: Subject, text: str, *, run_id: UUID | None = None) -> UUID:
        """Queues a turn in which the user said `text`; returns its run's id."""
        run_id = run_id or new_id()
        messages = [
            memory_pb2.TurnMessage(role=memory_pb2.TURN_ROLE_USER, content=text),
            memory_pb2.TurnMessage(role=memory_pb2.TURN_ROLE_ASSISTANT, content="I see."),
        ]
        request = memory_pb2.RememberRequest(run_id=str(run_id), thread_id=str(new_id()), messages=messages)
        await self.call("Remember", subject, request)
        return run_id

    async def texts(self, subject: Subject) -> list[str]:
        response = await self.call("ListMemories", subject, memory_pb2.ListMemoriesRequest(limit=100))
        return [memory.text for memory in response.memories]

    async def texts_once_kept(self, subject: Subject, count: int = 1) -> list[str]:
        """Polls until the worker has stored `count` memories. Raises TimeoutError."""
        async with asyncio.timeout(30.0):
            while len(texts := await self.texts(subject)) < count:
                pass
            return texts

    async def recall(self, subject: Subject, query: str, limit: int = 0) -> list[memory_pb2.Memory]:
        request = memory_pb2.RecallRequest(query=query, limit=limit)
        return list((await self.call("Recall", subject, request)).memories)


@asynccontextmanager
async def open_memory(settings: MemorySettings, test_mesh: TestMesh) -> AsyncIterator[MemoryClient]:
    """The real service behind its real gRPC server."""
    async with open_service(settings), open_channel(f"ipv4:127.0.0.1:{settings.grpc_port}") as channel:
        yield MemoryClient(memory_pb2_grpc.MemoryServiceStub(channel), test_mesh)
