"""One user's searches and written memories do not switch recall off for others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from google.protobuf.message import Message
from mesh.memory.v1 import memory_pb2 as pb
from mesh_common.errors import RateLimited
from mesh_common.subject import Subject
from mesh_memory.settings import MemorySettings
from support.memory import MemoryClient, memory_settings, new_subject, open_memory
from support.mesh import TestMesh

_HELD = "tortoise"
_REQUESTS = 200
# Two calls and those that wait for them.
_PENDING = 34


@dataclass
class SlowEmbeddings:
    """An embedding server that does not answer for texts with `tortoise` until it is let go."""

    url: str = ""
    held: int = 0
    most_held: int = 0
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def respond(self, request: web.Request) -> web.Response:
        texts = (await request.json())["input"]
        if any(_HELD in text for text in texts):
            self.held += 1
            self.most_held = max(self.most_held, self.held)
            await self.let_go.wait()
            self.held -= 1
        data = [{"index": index, "embedding": [1.0] * 384} for index, _ in enumerate(texts)]
        return web.json_response({"data": data})


@asynccontextmanager
async def _slow_embeddings() -> AsyncIterator[SlowEmbeddings]:
    embeddings, app = SlowEmbeddings(), web.Application()
    app.router.add_post("/v1/embeddings", embeddings.respond)
    async with TestServer(app) as server:
        embeddings.url = str(server.make_url("")).rstrip("/")
        try:
            yield embeddings
        finally:
            embeddings.let_go.set()


@pytest.mark.parametrize(
    ("rpc", "request_"),
    [
        ("SearchMemories", pb.SearchMemoriesRequest(query=f"Where is my {_HELD}?")),
        ("CreateMemory", pb.CreateMemoryRequest(text=f"I have a {_HELD}.")),
    ],
)
async def test_many_requests_of_one_user_leave_recall_to_the_others(
    memory_mesh: TestMesh, rpc: str, request_: Message
) -> None:
    """They have two calls at a time, the next wait, and the others are refused."""
    ada, eve = new_subject(), new_subject()
    async with _slow_embeddings() as embeddings:
        settings: MemorySettings = memory_settings(memory_mesh, embeddings.url)
        async with open_memory(settings, memory_mesh) as memory, asyncio.TaskGroup() as group:
            refused: asyncio.Queue[float | None] = asyncio.Queue()
            calls = [group.create_task(_answered(memory, rpc, request_, eve, refused)) for _ in range(_REQUESTS)]
            waits_s = {await refused.get() for _ in range(_REQUESTS - _PENDING)}
            assert waits_s == {1.0}

            # Its time limit is that of a busy machine, and the server answers none of the others within it.
            assert await memory.recall(ada, "What do I like?") == []
            assert embeddings.held == 2
            another = await memory.call("SearchMemories", ada, pb.SearchMemoriesRequest(query="tea"))
            assert not another.memories

            embeddings.let_go.set()
    assert embeddings.most_held == 2
    assert sum(call.result() for call in calls) == _PENDING


async def _answered(
    memory: MemoryClient, rpc: str, request: Message, user: Subject, refused: asyncio.Queue[float | None]
) -> bool:
    try:
        await memory.call(rpc, user, request)
    except RateLimited as error:
        refused.put_nowait(error.retry_after_s)
        return False
    return True
