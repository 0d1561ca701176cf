"""A gateway and an agent that start while auth is unavailable still serve users who are logged in."""

from collections.abc import AsyncIterator

import httpx
import pytest
from mesh_dev.mesh_client import API, MeshClient
from mesh_dev.stack import Stack
from support.api import PASSWORD, User, eventually, new_user


@pytest.fixture
async def guest(fragile_stack: Stack) -> AsyncIterator[User]:
    async with new_user(fragile_stack.url) as user:
        yield user


async def test_known_users_are_served_by_services_that_start_without_auth(fragile_stack: Stack, guest: User) -> None:
    before = await guest.chat("Before.")
    await fragile_stack.stop("auth")
    try:
        await fragile_stack.restart("gateway")
        await fragile_stack.restart("agent")

        async def chat() -> httpx.Response:
            return await guest.post("/chatbot/chat", {"message": "During.", "thread_id": before.thread_id})

        during = await eventually("the agent", chat, lambda answer: answer.status_code == httpx.codes.OK, 10)
        streamed = await guest.chat("Streamed.", thread_id=before.thread_id)
        run = await guest.get(f"/runs/{streamed.run_id}")
        # Forged tokens are still rejected, because the keys are known.
        async with MeshClient(fragile_stack.url) as forger:
            forger.use_token(f"{guest.tokens['access_token'][:-4]}AAAA")
            forged = await forger.get("/threads")
    finally:
        await fragile_stack.start("auth")

    assert during.json()["finish_reason"] == "stop"
    assert streamed.last.type == "run_finished"
    assert run.json()["status"] == "succeeded"
    assert forged.status_code == httpx.codes.UNAUTHORIZED
    roles = [message["role"] for message in await guest.messages(before.thread_id)]
    assert roles[:2] + roles[-2:] == ["user", "assistant"] * 2
    await eventually("login", lambda: guest.login(guest.email, PASSWORD), lambda answer: answer.is_success)
    assert (await guest.http.get(f"{API}/auth/me")).json()["email"] == guest.email
