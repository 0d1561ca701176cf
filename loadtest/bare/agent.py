"""`python -m bare.agent`: stores the message, recalls memories, calls the model, stores the answer."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import aiohttp
import grpc
import uvloop
from mesh.agent.v1 import agent_pb2, agent_pb2_grpc
from mesh.memory.v1 import memory_pb2, memory_pb2_grpc
from mesh_common.grpc.client import USER_METADATA
from mesh_common.process.collector import pause_collector

from bare.model import Graph, Turn, build_graph
from bare.outside import open_pool, open_session, serve
from bare.schema import BEGIN_TURN, END_TURN, HISTORY
from bare.settings import BareSettings

# The same number as in the mesh's agent.
_CONNECTIONS = 20


@dataclass(slots=True)
class Feed:
    """The events of all runs, for the single stream that delivers them."""

    events: list[agent_pb2.RunEvent] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, event: agent_pb2.RunEvent) -> None:
        self.events.append(event)
        self.changed.set()

    async def take(self) -> list[agent_pb2.RunEvent]:
        await self.changed.wait()
        self.changed.clear()
        events, self.events = self.events, []
        return events


@dataclass(frozen=True, slots=True)
class BareAgent(agent_pb2_grpc.AgentServiceServicer):
    graph: Graph
    pool: Any
    session: aiohttp.ClientSession
    memory: Any
    chat_url: str
    runs: asyncio.TaskGroup
    feed: Feed = field(default_factory=Feed)

    # The stubs allow only generators, but gRPC also accepts coroutines that write.
    async def StartRun(self, request: agent_pb2.StartRunRequest, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        """Returns when the run is stored. `FollowStartedRuns` delivers its events."""
        user_id = dict(context.invocation_metadata())[USER_METADATA]
        recall = self.runs.create_task(self._recall(request.message, user_id))
        run_id, thread_id = UUID(request.run_id), UUID(request.thread_id)
        async with self.pool.acquire() as connection:
            await connection.execute(BEGIN_TURN, run_id, thread_id, UUID(user_id), request.message)
            said = await connection.fetch(HISTORY, thread_id)
        messages = [{"role": one["role"], "content": one["content"]} for one in reversed(said)]
        self.runs.create_task(self._run(run_id, thread_id, messages, recall))

    async def FollowStartedRuns(  # noqa: N802
        self, request: agent_pb2.FollowStartedRunsRequest, context: Any
    ) -> AsyncIterator[agent_pb2.FollowStartedRunsResponse]:
        del request, context
        while True:
            yield agent_pb2.FollowStartedRunsResponse(events=await self.feed.take())

    async def _run(
        self, run_id: UUID, thread_id: UUID, messages: list[dict[str, str]], recall: "asyncio.Task[None]"
    ) -> None:
        events = _Events(str(run_id), self.feed)
        events.put(run_started=agent_pb2.RunStarted(thread_id=str(thread_id)))
        await recall
        events.put(memory_recalled=agent_pb2.MemoryRecalled())
        turn = Turn(self.session, self.chat_url, messages, events.put_text)
        state = await self.graph.ainvoke({"answer": ""}, context=turn)
        async with self.pool.acquire() as connection:
            await connection.execute(END_TURN, run_id, thread_id, state["answer"])
        events.put(message_completed=agent_pb2.MessageCompleted(content=state["answer"]))
        events.put(run_finished=agent_pb2.RunFinished(finish_reason="stop"))

    async def _recall(self, message: str, user_id: str) -> None:
        await self.memory.Recall(memory_pb2.RecallRequest(query=message), metadata=((USER_METADATA, user_id),))


class _Events:
    def __init__(self, run_id: str, feed: Feed) -> None:
        self._run_id = run_id
        self._feed = feed
        self._seq = 0

    def put(self, **event: Any) -> None:
        self._seq += 1
        self._feed.put(agent_pb2.RunEvent(run_id=self._run_id, attempt=1, seq=self._seq, **event))

    def put_text(self, text: str) -> None:
        self.put(message_delta=agent_pb2.MessageDelta(message_id=self._run_id, text=text))


async def main(settings: BareSettings) -> None:
    async with (
        open_pool(settings, _CONNECTIONS) as pool,
        open_session() as session,
        grpc.aio.insecure_channel(settings.memory_address) as channel,  # noqa: TID251 - without the mesh's interceptors
        asyncio.TaskGroup() as runs,
    ):
        chat_url = f"{settings.provider_url}/chat/completions"
        memory = memory_pb2_grpc.MemoryServiceStub(channel)
        agent = BareAgent(build_graph(), pool, session, memory, chat_url, runs)  # type: ignore[abstract]  # two calls of many
        await serve(agent, agent_pb2_grpc.add_AgentServiceServicer_to_server, settings.agent_address)


if __name__ == "__main__":
    pause_collector()
    uvloop.run(main(BareSettings()))
