"""`python -m bare.gateway`: the three calls of the load generator's preparation, and a turn as a stream of events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

import grpc
import orjson
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from mesh.agent.v1 import agent_pb2, agent_pb2_grpc
from mesh_common.grpc.client import USER_METADATA
from mesh_common.ids import new_id
from mesh_common.jwt import JWTVerifier, SigningKey, public_jwk
from mesh_common.process.collector import pause_collector, resume_collector
from pydantic import BaseModel
from redis.asyncio import Redis

from bare.settings import BareSettings

_NAME: Final = "bare"
# In the year 2096.
_FAR_OFF_EPOCH_S: Final = 4_000_000_000


class Said(BaseModel):
    message: str
    thread_id: UUID


def build_app(settings: BareSettings) -> FastAPI:
    key = SigningKey.from_pem(settings.signing_key)
    verifier = JWTVerifier(
        {key.kid: public_jwk(settings.signing_key)},
        token_type="at+jwt",  # noqa: S106 - no password
        audience=_NAME,
        issuer=_NAME,
    )

    @asynccontextmanager
    async def opened(app: FastAPI) -> AsyncIterator[None]:
        channel = grpc.aio.insecure_channel(settings.agent_address)  # noqa: TID251 - without the mesh's interceptors
        async with channel, Redis.from_url(settings.redis_url) as redis:
            app.state.redis = redis
            app.state.agent = agent_pb2_grpc.AgentServiceStub(channel)
            app.state.runs = Runs()
            reading = asyncio.ensure_future(app.state.runs.read(app.state.agent))
            resume_collector()
            yield
            reading.cancel()

    app = FastAPI(lifespan=opened)

    @app.post("/api/v1/auth/register", status_code=HTTPStatus.CREATED)
    async def register() -> dict[str, str]:
        return {}

    @app.post("/api/v1/auth/login")
    async def login() -> dict[str, str]:
        claims = {"sub": str(new_id()), "aud": _NAME, "iss": _NAME, "exp": _FAR_OFF_EPOCH_S}
        return {"access_token": key.sign(claims, "at+jwt")}

    @app.post("/api/v1/threads", status_code=HTTPStatus.CREATED)
    async def create_thread() -> dict[str, str]:
        return {"id": str(new_id())}

    @app.post("/api/v1/chatbot/chat/stream")
    async def chat(said: Said, request: Request) -> StreamingResponse:
        user_id = verifier.verify(request.headers["authorization"].removeprefix("Bearer "))["sub"]
        await request.app.state.redis.incr(f"{_NAME}:{user_id}")
        order = agent_pb2.StartRunRequest(run_id=str(new_id()), thread_id=str(said.thread_id), message=said.message)
        events = request.app.state.runs.expect(order.run_id)
        async for _ in request.app.state.agent.StartRun(order, metadata=((USER_METADATA, user_id),)):
            pass
        return StreamingResponse(_frames(events, order.run_id), media_type="text/event-stream")

    return app


class Runs:
    """Distributes the events of all runs, which arrive in a single stream."""

    def __init__(self) -> None:
        self._expected: dict[str, asyncio.Queue[agent_pb2.RunEvent]] = {}

    def expect(self, run_id: str) -> AsyncIterator[agent_pb2.RunEvent]:
        queue = self._expected[run_id] = asyncio.Queue()
        return self._events(run_id, queue)

    async def read(self, agent: Any) -> None:
        async for response in agent.FollowStartedRuns(agent_pb2.FollowStartedRunsRequest()):
            for event in response.events:
                self._expected[event.run_id].put_nowait(event)

    async def _events(
        self, run_id: str, queue: "asyncio.Queue[agent_pb2.RunEvent]"
    ) -> AsyncIterator[agent_pb2.RunEvent]:
        while True:
            event = await queue.get()
            yield event
            if event.HasField("run_finished"):
                del self._expected[run_id]
                return


async def _frames(events: AsyncIterator[agent_pb2.RunEvent], run_id: str) -> AsyncIterator[bytes]:
    async for event in events:
        name = event.WhichOneof("event")
        fields: dict[str, Any] = {"type": name, "seq": event.seq}
        if name == "message_delta":
            fields["text"] = event.message_delta.text
        elif name == "message_completed":
            fields["content"] = event.message_completed.content
        yield f"id: {run_id}:1:{event.seq}\nevent: {name}\ndata: ".encode() + orjson.dumps(fields) + b"\n\n"


if __name__ == "__main__":
    pause_collector()
    chosen = BareSettings()
    uvicorn.run(
        build_app(chosen),
        host="127.0.0.1",
        port=chosen.gateway_port,
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
