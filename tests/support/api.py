"""Users of the mesh for end-to-end tests: each one new, over real HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from mesh_common.ids import new_id
from mesh_dev.mesh_client import Event, MeshClient
from mesh_dev.wait import Waiter

PASSWORD = "violet harbour lantern 27"


@dataclass(frozen=True)
class Turn:
    """A stream that was read to its end."""

    status: int
    headers: Mapping[str, str]
    events: Sequence[Event] = field(default_factory=tuple)

    @property
    def run_id(self) -> str:
        return self.events[0].run_id

    @property
    def thread_id(self) -> str:
        return str(self.first("run_started")["thread_id"])

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    @property
    def text(self) -> str:
        return "".join(event.fields["text"] for event in self.events if event.type == "message_delta")

    @property
    def memories(self) -> list[str]:
        return [memory["text"] for memory in self.first("memory_recalled")["memories"]]

    @property
    def last(self) -> Event:
        return self.events[-1]

    def first(self, kind: str) -> Mapping[str, Any]:
        return next(event.fields for event in self.events if event.type == kind)

    def all(self, kind: str) -> list[Mapping[str, Any]]:
        return [event.fields for event in self.events if event.type == kind]


class User(MeshClient):
    """One registered and logged-in user."""

    def __init__(self, base_url: str, email: str) -> None:
        super().__init__(base_url)
        self.email = email
        self.tokens: Mapping[str, Any] = {}

    async def chat(self, message: str, *, thread_id: str | None = None, **headers: str) -> Turn:
        """One streamed turn, which must be accepted; in a new thread if none is given."""
        body = {"message": message} | ({"thread_id": thread_id} if thread_id else {})
        return await self.stream("/chatbot/chat/stream", body, **headers)

    async def stream(self, path: str, body: Mapping[str, Any], **headers: str) -> Turn:
        async with self.open_stream(path, body, **headers) as (response, events):
            if response.status_code != httpx.codes.OK:
                raise AssertionError(f"{response.status_code} {(await response.aread()).decode()}")
            return Turn(response.status_code, response.headers, tuple([event async for event in events]))

    async def new_thread(self) -> str:
        response = await self.post("/threads", {})
        assert response.status_code == httpx.codes.CREATED, response.text
        return str(response.json()["id"])

    async def messages(self, thread_id: str) -> list[dict[str, Any]]:
        """All of them, oldest first, page by page."""
        return await self.items(f"/threads/{thread_id}/messages")

    async def memories(self) -> list[str]:
        return [memory["text"] for memory in await self.items("/memories")]

    async def items(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        query: dict[str, str | int] = {"limit": 100}
        while True:
            response = await self.get(path, **query)
            assert response.status_code == httpx.codes.OK, response.text
            page = response.json()
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            query["cursor"] = page["next_cursor"]


@asynccontextmanager
async def new_user(base_url: str) -> AsyncIterator[User]:
    """A user registered and logged in under a new e-mail address."""
    async with User(base_url, f"{new_id().hex}@example.com") as user:
        registered = await user.register(user.email, PASSWORD)
        assert registered.status_code == httpx.codes.CREATED, registered.text
        login = await user.login(user.email, PASSWORD)
        assert login.status_code == httpx.codes.OK, login.text
        user.tokens = login.json()
        yield user


async def eventually[T](
    what: str, fetch: Callable[[], Awaitable[T]], holds: Callable[[T], object], within_s: float = 20.0
) -> T:
    """Polls `fetch` until `holds` and returns the value; the test fails if that takes too long."""
    values: list[T] = []

    async def probe() -> bool:
        values[:] = [await fetch()]
        return bool(holds(values[0]))

    waiter = Waiter(say=lambda _: None, deadline_s=within_s, probe_interval_s=0.1)
    await waiter.ready(what, probe)
    return values[0]
