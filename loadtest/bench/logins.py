"""Users who log in through the gateway, and the outcome of each login."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from itertools import cycle
from typing import Final
from urllib.parse import urlencode

from mesh_common.ids import new_id
from mesh_dev.mesh_client import MeshClient

from bench.connection import Connection, Connections, post, status_of
from bench.load import PASSWORD

REFUSED: Final = "503 with Retry-After"
_PATH: Final = "/api/v1/auth/login"
_FORM: Final = "application/x-www-form-urlencoded"
# Twice the gateway's own timeout for a login.
_TIMEOUT_S: Final = 20.0
_REGISTRATIONS_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class Login:
    took_s: float
    """Time since the login was due."""
    end: str
    """The status; `REFUSED` for a 503 with Retry-After; `none` without an answer."""


class People:
    """Users who log in in rotation. A user may log in again while an earlier login is pending."""

    def __init__(self, url: str, emails: list[str]) -> None:
        self.connections = Connections(Connection, url)
        self._forms = cycle(urlencode({"username": email, "password": PASSWORD}).encode() for email in emails)

    async def log_in(self, due_s: float) -> Login:
        try:
            async with self.connections.one() as connection:
                answer = await connection.ask(post(connection.host, _PATH, _FORM, next(self._forms)), _TIMEOUT_S)
        except OSError:
            answer = b""
        return Login(time.monotonic() - due_s, _end(answer))


@asynccontextmanager
async def open_people(url: str, count: int) -> AsyncIterator[People]:
    """Registers `count` new accounts."""
    emails = [f"login-{number}-{new_id().hex}@example.com" for number in range(count)]
    gate = asyncio.Semaphore(_REGISTRATIONS_AT_ONCE)

    async def register(client: MeshClient, email: str) -> None:
        async with gate:
            (await client.register(email, PASSWORD)).raise_for_status()

    async with MeshClient(url) as client:
        await asyncio.gather(*(register(client, email) for email in emails))
    people = People(url, emails)
    try:
        yield people
    finally:
        people.connections.close()


def _end(answer: bytes) -> str:
    status = status_of(answer)
    head = answer.partition(b"\r\n\r\n")[0].lower()
    if status == HTTPStatus.SERVICE_UNAVAILABLE and b"\r\nretry-after:" in head:
        return REFUSED
    return str(status) if status else "none"
