"""What the extraction makes of a model server's refusals."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from mesh_admin.secrets import make_secrets
from mesh_common.errors import InvalidInput, Unavailable
from mesh_common.model_server import PossiblyPaid
from mesh_memory.extraction.extractor import Mem0Extractor, open_extractor
from mesh_memory.ports import UnreadableAnswer
from mesh_memory.settings import MemorySettings
from support.net import free_port
from support.turns import said

TURN = [said("I like tea.")]
FACTS = json.dumps({"memory": [{"text": "The user likes tea."}]})


class Server:
    """Refuses the first call, and answers the others."""

    def __init__(self, status: int, headers: dict[str, str], error: dict[str, str]) -> None:
        self._status, self._headers, self._error = status, headers, error
        self.calls = 0

    async def respond(self, _: web.Request) -> web.Response:
        self.calls += 1
        if self.calls == 1:
            return web.json_response({"error": self._error}, status=self._status, headers=self._headers)
        message = {"role": "assistant", "content": FACTS}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        return web.json_response(body)


class Slow(Server):
    async def respond(self, request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return await super().respond(request)


class BreakingOff(Server):
    async def respond(self, request: web.Request) -> web.Response:
        assert request.transport
        request.transport.abort()
        return await super().respond(request)


@asynccontextmanager
async def _extractor(server: Server, tmp_path: Path, **changes: object) -> AsyncIterator[Mem0Extractor]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.respond)
    secrets = make_secrets()
    jwks_file = tmp_path / "jwks.json"
    jwks_file.write_text(secrets.service_jwks())
    async with TestServer(app) as listening:
        values: dict[str, Any] = {
            "service_key": secrets.service_keys["memory"],
            "service_jwks_file": jwks_file,
            "database_url": "postgresql://memory_login_a:secret@localhost:5432/mesh",
            "extraction_model": "m",
            "openai_base_url": str(listening.make_url("/v1")),
        }
        async with open_extractor(MemorySettings(**(values | changes))) as extractor:
            yield extractor


@pytest.mark.parametrize(
    ("status", "headers", "wait_s"),
    [
        *((status, {}, 5.0) for status in (408, 409, 425, 429, 500, 529)),
        (503, {"Retry-After": "0.1"}, 0.1),
        (503, {"Retry-After": "\u00b2"}, 5.0),
        (429, {"Retry-After": "60"}, 60.0),
    ],
)
async def test_temporary_refusal_is_left_to_the_queue(
    tmp_path: Path, status: int, headers: dict[str, str], wait_s: float
) -> None:
    """One attempt of the job is one call."""
    server = Server(status, headers, {})

    async with _extractor(server, tmp_path) as extractor:
        with pytest.raises(Unavailable) as raised:
            await extractor.facts(TURN, [])

    assert not isinstance(raised.value, UnreadableAnswer)
    assert (raised.value.retry_after_s, server.calls) == (wait_s, 1)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_wrong_key_or_address_waits_for_an_operator(tmp_path: Path, status: int) -> None:
    server = Server(status, {}, {})

    async with _extractor(server, tmp_path) as extractor:
        with pytest.raises(Unavailable) as raised:
            await extractor.facts(TURN, [])

    assert (raised.value.reason, server.calls) == ("EXTRACTION_MISCONFIGURED", 1)


@pytest.mark.parametrize(("status", "code"), [(400, "x"), (413, "x"), (500, "context_length_exceeded")])
async def test_turn_that_is_refused_or_too_long_is_final(tmp_path: Path, status: int, code: str) -> None:
    server = Server(status, {}, {"code": code})

    async with _extractor(server, tmp_path) as extractor:
        with pytest.raises(InvalidInput) as raised:
            await extractor.facts(TURN, [])

    assert (raised.value.reason, server.calls) == ("EXTRACTION_REFUSED", 1)


@pytest.mark.parametrize("status", [504, 524])
async def test_answer_that_a_proxy_did_not_wait_for_may_be_paid(tmp_path: Path, status: int) -> None:
    server = Server(status, {}, {})

    async with _extractor(server, tmp_path) as extractor:
        with pytest.raises(PossiblyPaid):
            await extractor.facts(TURN, [])


async def test_answer_that_comes_too_late_may_be_paid(tmp_path: Path) -> None:
    async with _extractor(Slow(200, {}, {}), tmp_path, extraction_timeout_s=0.2) as extractor:
        with pytest.raises(PossiblyPaid) as raised:
            await extractor.facts(TURN, [])

    assert raised.value.reason == "EXTRACTION_TIMEOUT"


async def test_server_that_breaks_off_may_be_paid(tmp_path: Path) -> None:
    async with _extractor(BreakingOff(200, {}, {}), tmp_path) as extractor:
        with pytest.raises(PossiblyPaid):
            await extractor.facts(TURN, [])


async def test_server_that_is_not_reached_costs_nothing(tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}/v1"
    async with _extractor(Server(200, {}, {}), tmp_path, openai_base_url=away) as extractor:
        with pytest.raises(Unavailable) as raised:
            await extractor.facts(TURN, [])

    assert not isinstance(raised.value, PossiblyPaid)
