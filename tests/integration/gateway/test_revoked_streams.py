"""Open streams end when their session is revoked, through this gateway or another one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from uuid import UUID

import httpx
import pytest
from fakes.gateway.fake_runs import FakeRun, answer_begin
from mesh.agent.v1 import agent_pb2
from mesh_common.ids import new_id
from support.gateway import Client

CHAT = "/api/v1/chatbot/chat"
STREAM = f"{CHAT}/stream"
LOGOUT = "/api/v1/auth/logout"
# Revocations reach every replica within this time.
WITHIN_S = 5.0
ENDED = ": the session has ended, log in again"


@pytest.fixture
def gateway(gateway: Client) -> Client:
    """A gateway whose runs begin their answers, and end them when the agent is released."""

    async def begin_and_wait(run: FakeRun) -> None:
        await answer_begin(run)
        await gateway.mesh.agent.release.wait()
        await run.write(run_finished=agent_pb2.RunFinished(finish_reason="stop"))

    gateway.mesh.agent.plan = begin_and_wait
    return gateway


def _in_session(gateway: Client, session_id: str, user_id: UUID | None = None) -> dict[str, str]:
    return {"Authorization": f"Bearer {gateway.mesh.auth.access_token(user_id, sid=session_id)}"}


@asynccontextmanager
async def _open(gateway: Client, method: str, path: str, headers: dict[str, str]) -> AsyncIterator[AsyncIterator[str]]:
    """The lines of a stream, after its first event."""
    body = {"message": "Hi"} if method == "POST" else None
    async with gateway.http.stream(method, path, json=body, headers=headers) as response:
        assert response.status_code == HTTPStatus.OK
        lines = response.aiter_lines()
        assert (await anext(lines)).startswith("id: ")
        yield lines


async def _rest(lines: AsyncIterator[str]) -> list[str]:
    async with asyncio.timeout(WITHIN_S):
        return [line async for line in lines if line]


async def _revoke_elsewhere(gateway: Client, session_id: str, headers: dict[str, str]) -> None:
    del headers
    gateway.mesh.auth.revoke_elsewhere(session_id)


async def _log_out_here(gateway: Client, session_id: str, headers: dict[str, str]) -> None:
    del session_id
    assert (await gateway.http.post(LOGOUT, headers=headers)).status_code == HTTPStatus.NO_CONTENT


@pytest.mark.parametrize("revoke", [_revoke_elsewhere, _log_out_here])
async def test_stream_of_a_revoked_session_ends_within_five_seconds(
    gateway: Client, revoke: Callable[[Client, str, dict[str, str]], Awaitable[None]]
) -> None:
    session_id = str(new_id())
    headers = _in_session(gateway, session_id)

    async with _open(gateway, "POST", STREAM, headers) as lines:
        await revoke(gateway, session_id, headers)
        rest = await _rest(lines)

    comment, retry = rest[-2:]
    assert comment == ENDED
    assert retry.startswith("retry: ")
    assert not [line for line in rest if line.startswith("event: run_f")]
    run = gateway.mesh.agent.started[-1]
    again = await gateway.http.get(f"/api/v1/runs/{run.run_id}/events", headers=headers)
    assert again.status_code == HTTPStatus.UNAUTHORIZED
    assert not gateway.mesh.agent.run_cancelled.is_set()


async def test_other_sessions_of_the_user_keep_their_streams(gateway: Client) -> None:
    user_id, ended, kept = new_id(), str(new_id()), str(new_id())

    async with (
        _open(gateway, "POST", STREAM, _in_session(gateway, kept, user_id)) as kept_lines,
        _open(gateway, "POST", STREAM, _in_session(gateway, ended, user_id)) as ended_lines,
    ):
        gateway.mesh.auth.revoke_elsewhere(ended)
        ended_rest = await _rest(ended_lines)
        gateway.mesh.agent.release.set()
        kept_rest = await _rest(kept_lines)

    assert ENDED in ended_rest
    assert ENDED not in kept_rest
    assert "event: run_finished" in kept_rest


async def test_stream_that_a_ticket_opened_ends_too(gateway: Client) -> None:
    session_id = str(new_id())
    headers = _in_session(gateway, session_id)

    async with _open(gateway, "POST", STREAM, headers):
        run_id = gateway.mesh.agent.started[-1].run_id
        ticket = (await gateway.http.post(f"/api/v1/runs/{run_id}/ticket", headers=headers)).json()
        async with _open(gateway, "GET", ticket["url"], {}) as lines:
            gateway.mesh.auth.revoke_elsewhere(session_id)
            rest = await _rest(lines)

    assert ENDED in rest


async def test_requests_that_wait_for_a_run_get_401(gateway: Client) -> None:
    session_id = str(new_id())
    headers = _in_session(gateway, session_id)

    async def wait_for_run() -> httpx.Response:
        return await gateway.http.get(f"/api/v1/runs/{run_id}?wait_s=30", headers=headers)

    async with (
        _open(gateway, "POST", STREAM, headers) as lines,
        asyncio.timeout(3 * WITHIN_S),
        asyncio.TaskGroup() as tasks,
    ):
        run_id = gateway.mesh.agent.started[-1].run_id
        chat = tasks.create_task(gateway.http.post(CHAT, json={"message": "Hi"}, headers=headers))
        waiting = tasks.create_task(wait_for_run())
        while len(gateway.mesh.agent.started) < 2 or not gateway.mesh.agent.follows:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
        async with asyncio.timeout(WITHIN_S):
            gateway.mesh.auth.revoke_elsewhere(session_id)
            assert ENDED in await _rest(lines)

    assert [chat.result().status_code, waiting.result().status_code] == [401, 401]
