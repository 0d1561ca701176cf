"""A running agent service, called over gRPC as the gateway calls it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pytest
from fakes.agent.neighbours import FakeEntitlements
from mesh.agent.v1 import agent_pb2, agent_pb2_grpc
from mesh_agent.bootstrap import open_agent, open_neighbours
from mesh_agent.settings import AgentSettings
from mesh_common.database.postgres import Database
from mesh_common.database.sqlalchemy_engine import open_engine
from mesh_common.grpc.client import ServiceCalls, open_channel
from mesh_common.grpc.service import Drain
from mesh_common.ids import UserId, new_id
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from support.mesh import TestMesh
from support.net import free_port
from support.subjects import personal

_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Followed:
    """The content of a stream: its run, its thread and its events, in order."""

    run_id: str
    thread_id: str
    events: Sequence[agent_pb2.RunEvent]

    @property
    def text(self) -> str:
        return "".join(event.message_delta.text for event in self.events if event.HasField("message_delta"))

    @property
    def kinds(self) -> list[str]:
        """Names of the events; consecutive deltas count as one."""
        names = [str(event.WhichOneof("event")) for event in self.events]
        return [name for index, name in enumerate(names) if index == 0 or name != names[index - 1]]

    @property
    def last(self) -> agent_pb2.RunEvent:
        return self.events[-1]


@dataclass(frozen=True)
class Started:
    """An open stream. `until` reads up to an event of this name, `rest` to the end."""

    run_id: str
    thread_id: str
    events: AsyncIterator[agent_pb2.RunEvent]

    async def until(self, name: str) -> agent_pb2.RunEvent:
        async for event in self.events:
            if event.WhichOneof("event") == name:
                return event
        pytest.fail(f"the stream ended without {name}")

    async def rest(self) -> list[agent_pb2.RunEvent]:
        return [event async for event in self.events]


@dataclass(frozen=True)
class AgentUnderTest:
    stub: "agent_pb2_grpc.AgentServiceStub"
    calls: ServiceCalls
    settings: AgentSettings
    drain: Drain

    @asynccontextmanager
    async def starting(
        self,
        user_id: UserId,
        message: str,
        *,
        thread_id: str | None = None,
        run_id: str | None = None,
        **fields: Any,
    ) -> AsyncIterator["Started"]:
        """Starts a run and yields its open stream; leaving the block disconnects as a client does."""
        request = agent_pb2.StartRunRequest(
            run_id=run_id or str(new_id()), thread_id=thread_id, message=message, **fields
        )
        async with self.calls.stream(
            self.stub.StartRun, request, timeout_s=_TIMEOUT_S, subject=personal(user_id)
        ) as stream:
            metadata = await stream.initial_metadata()
            events = (response.event async for response in stream)
            yield Started(metadata["mesh-run-id"], metadata["mesh-thread-id"], events)

    async def run(
        self,
        user_id: UserId,
        message: str,
        *,
        thread_id: str | None = None,
        run_id: str | None = None,
        **fields: Any,
    ) -> Followed:
        """Starts a run and follows it to its end."""
        request = agent_pb2.StartRunRequest(
            run_id=run_id or str(new_id()), thread_id=thread_id, message=message, **fields
        )
        async with self.calls.stream(
            self.stub.StartRun, request, timeout_s=_TIMEOUT_S, subject=personal(user_id)
        ) as stream:
            metadata = await stream.initial_metadata()
            events = [response.event async for response in stream]
        return Followed(metadata["mesh-run-id"], metadata["mesh-thread-id"], events)

    async def follow(self, user_id: UserId, run_id: str, *, attempt: int = 0, seq: int = 0) -> list[agent_pb2.RunEvent]:
        request = agent_pb2.FollowRunRequest(run_id=run_id, after_attempt=attempt, after_seq=seq)
        async with self.calls.stream(
            self.stub.FollowRun, request, timeout_s=_TIMEOUT_S, subject=personal(user_id)
        ) as stream:
            return [response.event async for response in stream]

    async def get_run(self, user_id: UserId, run_id: str) -> agent_pb2.Run:
        request = agent_pb2.GetRunRequest(run_id=run_id)
        return (await self.calls.unary(self.stub.GetRun, request, timeout_s=5, subject=personal(user_id))).run

    async def cancel(self, user_id: UserId, run_id: str) -> agent_pb2.Run:
        request = agent_pb2.CancelRunRequest(run_id=run_id)
        return (await self.calls.unary(self.stub.CancelRun, request, timeout_s=5, subject=personal(user_id))).run

    async def create_thread(self, user_id: UserId, title: str = "", key: str | None = None) -> agent_pb2.Thread:
        request = agent_pb2.CreateThreadRequest(title=title, idempotency_key=key)
        return (await self.calls.unary(self.stub.CreateThread, request, timeout_s=5, subject=personal(user_id))).thread

    async def delete_thread(self, user_id: UserId, thread_id: str) -> None:
        request = agent_pb2.DeleteThreadRequest(thread_id=thread_id)
        await self.calls.unary(self.stub.DeleteThread, request, timeout_s=5, subject=personal(user_id))

    async def messages(self, user_id: UserId, thread_id: str, *, limit: int = 100) -> Sequence[agent_pb2.Message]:
        request = agent_pb2.ListMessagesRequest(thread_id=thread_id, limit=limit)
        return (
            await self.calls.unary(self.stub.ListMessages, request, timeout_s=5, subject=personal(user_id))
        ).messages


def agent_settings(test_mesh: TestMesh, provider_url: str, **overrides: str) -> AgentSettings:
    """Two models at the simulator; auth, memory and eval at unused ports, unless overridden."""
    nobody = f"ipv4:127.0.0.1:{free_port()}"
    capabilities = ["tools", "json_schema", "extraction"]
    models = [
        {
            "name": name,
            "provider_model": name,
            "context_tokens": 8_000,
            "capabilities": capabilities,
            "input_usd_per_mtok": 1.0,
            "output_usd_per_mtok": 2.0,
        }
        for name in ("sim-large", "sim-small")
    ]
    variables = {
        **test_mesh.environment("agent"),
        "AGENT_GRPC_PORT": str(free_port()),
        "AGENT_MODELS": orjson.dumps(models).decode(),
        "AGENT_OPENAI_BASE_URL": provider_url,
        "AGENT_AUTH_TARGET": nobody,
        "AGENT_MEMORY_TARGET": nobody,
        "AGENT_EVAL_TARGET": nobody,
        "AGENT_EVAL_SAMPLE_RATIO": "1.0",
        "AGENT_DRAIN_S": "5",
    } | overrides
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return AgentSettings()


@asynccontextmanager
async def running_agent(test_mesh: TestMesh, settings: AgentSettings, **fakes: object) -> AsyncIterator[AgentUnderTest]:
    """`fakes` replace neighbours by name: entitlements (which allow everything by default), usage, memories, judge."""
    neighbours = {"entitlements": FakeEntitlements()} | fakes
    async with open_neighbours(settings) as real, open_agent(settings, replace(real, **neighbours)) as drain:  # type: ignore[arg-type] # by name
        channel = open_channel(f"ipv4:127.0.0.1:{settings.grpc_port}")
        # gRPC may still be in the back-off of an earlier attempt, by another test that had the same port.
        async with asyncio.timeout(_TIMEOUT_S):
            await channel.channel_ready()
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        yield AgentUnderTest(stub, test_mesh.calls_as("gateway", "agent"), settings, drain)
        await channel.close()
        await drain()


@asynccontextmanager
async def owner_connection(mesh: TestMesh) -> AsyncIterator[AsyncConnection]:
    """One transaction as the schema's owner, for changes that no service may make."""
    engine = open_engine(mesh.database_url("agent", "owner"), {})
    async with engine.begin() as connection:
        yield connection
    await engine.dispose()


async def eventually[T](fetch: Callable[[], Awaitable[T]], holds: Callable[[T], object]) -> T:
    """Polls until `holds` and returns the value: for changes without an event. Fails after some seconds."""
    async with asyncio.timeout(_TIMEOUT_S):
        while not holds(value := await fetch()):  # noqa: ASYNC110 - no event across processes
            await asyncio.sleep(0.02)
    return value


def some_user() -> UserId:
    return UserId(new_id())


async def rows_of(database: Database, user_id: UserId) -> int:
    """How many threads and runs the user has."""
    async with database.as_subject(personal(user_id)) as connection:
        rows = text("SELECT (SELECT count(*) FROM agent.threads) + (SELECT count(*) FROM agent.runs)")
        count: int = (await connection.execute(rows)).scalar_one()
        return count
