"""`python -m bare.agent`: stores what was said, recalls, asks the model, stores the answer."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg
import grpc
import uvloop
from mesh.agent.v1 import agent_pb2, agent_pb2_grpc
from mesh.memory.v1 import memory_pb2, memory_pb2_grpc
from mesh_common.collector import pause_collector, resume_collector
from mesh_common.grpc_client import USER_METADATA

from bare.model import Graph, Turn, build_graph
from bare.schema import BEGIN_TURN, END_TURN, HISTORY
from bare.settings import JSON_HEADERS, BareSettings

_CONNECTIONS = 20


@dataclass(frozen=True, slots=True)
class BareAgent(agent_pb2_grpc.AgentServiceServicer):
    graph: Graph
    pool: Any
    session: aiohttp.ClientSession
    memory: Any
    chat_url: str

    # The stubs know generators alone; gRPC takes writers as well.
    async def StartRun(self, request: agent_pb2.StartRunRequest, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        user_id = dict(context.invocation_metadata())[USER_METADATA]
        run_id, thread_id = UUID(request.run_id), UUID(request.thread_id)
        events = _Events(request, context)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._recall(request.message, user_id))
            async with self.pool.acquire() as connection:
                await connection.execute(BEGIN_TURN, run_id, thread_id, UUID(user_id), request.message)
                said = await connection.fetch(HISTORY, thread_id)
            await events.write(run_started=agent_pb2.RunStarted(thread_id=request.thread_id))
        await events.write(memory_recalled=agent_pb2.MemoryRecalled())
        messages = [{"role": one["role"], "content": one["content"]} for one in reversed(said)]
        turn = Turn(self.session, self.chat_url, messages, events.write_text)
        state = await self.graph.ainvoke({"answer": ""}, context=turn)
        async with self.pool.acquire() as connection:
            await connection.execute(END_TURN, run_id, thread_id, state["answer"])
        await events.write(message_completed=agent_pb2.MessageCompleted(content=state["answer"]))
        await events.write(run_finished=agent_pb2.RunFinished(finish_reason="stop"))

    async def _recall(self, message: str, user_id: str) -> None:
        await self.memory.Recall(memory_pb2.RecallRequest(query=message), metadata=((USER_METADATA, user_id),))


class _Events:
    def __init__(self, request: agent_pb2.StartRunRequest, context: Any) -> None:
        self._run_id = request.run_id
        self._context = context
        self._seq = 0

    async def write(self, **event: Any) -> None:
        self._seq += 1
        told = agent_pb2.RunEvent(run_id=self._run_id, attempt=1, seq=self._seq, **event)
        await self._context.write(agent_pb2.StartRunResponse(event=told))

    async def write_text(self, text: str) -> None:
        await self.write(message_delta=agent_pb2.MessageDelta(message_id=self._run_id, text=text))


async def main(settings: BareSettings) -> None:
    async with (
        asyncpg.create_pool(settings.database_url, min_size=_CONNECTIONS, max_size=_CONNECTIONS) as pool,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=JSON_HEADERS) as session,
        grpc.aio.insecure_channel(settings.memory_address) as channel,  # noqa: TID251 - nothing of the mesh's own
    ):
        chat_url = f"{settings.provider_url}/chat/completions"
        stub = memory_pb2_grpc.MemoryServiceStub(channel)
        agent = BareAgent(build_graph(), pool, session, stub, chat_url)  # type: ignore[abstract]  # one call of many
        server = grpc.aio.server()
        agent_pb2_grpc.add_AgentServiceServicer_to_server(agent, server)
        server.add_insecure_port(settings.agent_address)
        await server.start()
        resume_collector()
        await server.wait_for_termination()


if __name__ == "__main__":
    pause_collector()
    uvloop.run(main(BareSettings()))
