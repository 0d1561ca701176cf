"""A client of the mesh's HTTP API, for `make demo` and the end-to-end tests."""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import Any, Final, Self

import httpx
import orjson

API: Final = "/api/v1"
TERMINAL: Final = frozenset({"run_finished", "run_failed", "run_cancelled", "run_interrupted"})
# Above the ping interval of 15 s, so that it affects only dead streams.
READ_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Event:
    """One SSE frame; `id` is `<run>:<attempt>:<seq>`."""

    id: str
    type: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        return self.id.split(":")[0]

    @property
    def seq(self) -> int:
        return int(self.id.split(":")[2])

    @property
    def is_terminal(self) -> bool:
        return self.type in TERMINAL


class MeshClient:
    """The client of one user, unauthenticated before `login`. Every call returns the response, whatever its status."""

    def __init__(self, base_url: str) -> None:
        self.http = httpx.AsyncClient(
            base_url=base_url,
            timeout=READ_TIMEOUT_S,
            # Ignores proxies from the environment, because requests go to loopback.
            trust_env=False,
            limits=httpx.Limits(max_connections=None),
            verify=_tls(),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.aclose()

    async def register(self, email: str, password: str) -> httpx.Response:
        return await self.post("/auth/register", {"email": email, "password": password})

    async def login(self, email: str, password: str) -> httpx.Response:
        """After success, the client acts as this user."""
        form = {"username": email, "password": password}
        response = await self.http.post(f"{API}/auth/login", data=form)
        if response.is_success:
            self.use_token(response.json()["access_token"])
        return response

    def use_token(self, access_token: str) -> None:
        self.http.headers["authorization"] = f"Bearer {access_token}"

    async def get(self, path: str, **query: str | int) -> httpx.Response:
        return await self.http.get(API + path, params=query)

    async def post(self, path: str, body: object = None, **headers: str) -> httpx.Response:
        return await self.http.post(API + path, json=body, headers=_dashed(headers))

    async def patch(self, path: str, body: object) -> httpx.Response:
        return await self.http.patch(API + path, json=body)

    async def delete(self, path: str) -> httpx.Response:
        return await self.http.delete(API + path)

    @asynccontextmanager
    async def open_stream(
        self, path: str, body: Mapping[str, Any], **headers: str
    ) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[Event]]]:
        """The response and its events. The events can be read only inside the block."""
        url = API + path
        async with self.http.stream("POST", url, json=body, headers=_dashed(headers)) as response:
            yield response, events_of(response)


async def events_of(response: httpx.Response) -> AsyncIterator[Event]:
    """The frames of an SSE body as they arrive, without comments and frames without data."""
    text = ""
    # Not by lines: httpx also splits at U+2028, which an answer may contain.
    async for chunk in response.aiter_text():
        *frames, text = (text + chunk).split("\n\n")
        for one in frames:
            pairs = (line.partition(":") for line in one.split("\n"))
            fields = {name: value.removeprefix(" ") for name, _, value in pairs}
            if "data" in fields:
                yield Event(fields.get("id", ""), fields.get("event", ""), orjson.loads(fields["data"]))


@cache
def _tls() -> ssl.SSLContext:
    # Shared by all clients, because loading the authorities takes 25 ms of CPU.
    return ssl.create_default_context()


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
