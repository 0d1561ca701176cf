"""Outages of parts of the mesh: what still works, what is postponed, and what recovers by itself."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mesh_common.ids import new_id
from mesh_dev.errors import ChildDiedError, PortTakenError
from mesh_dev.mesh_client import MeshClient
from mesh_dev.ports import require_free
from mesh_dev.stack import Stack
from support.api import PASSWORD, User, eventually, new_user

# Every hop has a deadline; their sum is less than this.
ANSWERED_WITHIN_S = 15.0


@pytest.fixture
async def guest(fragile_stack: Stack) -> AsyncIterator[User]:
    """A user of an intact mesh: after a restart, callers take up to 2 s to reconnect."""
    async with new_user(fragile_stack.url) as user:

        async def chat() -> bool:
            response = await user.post("/chatbot/chat", {"message": "Hello."})
            return response.is_success and not response.json()["is_memory_unavailable"]

        await eventually("the whole mesh", chat, bool)
        yield user


async def test_memory_down_is_reported_and_the_turn_is_remembered_later(fragile_stack: Stack, guest: User) -> None:
    await fragile_stack.stop("memory")
    turn = await guest.chat("I am afraid of spiders.")
    unavailable = await guest.get("/memories")

    await fragile_stack.start("memory")

    assert turn.last.type == "run_finished"
    assert turn.text
    recalled = turn.first("memory_recalled")
    assert (recalled["is_unavailable"], recalled["memories"]) == (True, [])
    require_unavailable(unavailable)
    await eventually(
        "the memory",
        lambda: tolerant_items(guest, "/memories"),
        lambda items: [item["text"] for item in items] == ["I am afraid of spiders."],
        45,
    )


async def test_eval_down_goes_unnoticed_and_scores_come_later(fragile_stack: Stack, guest: User) -> None:
    await fragile_stack.kill("eval")
    turn = await guest.chat("Who judges me?")

    await fragile_stack.start("eval")

    assert turn.last.type == "run_finished"

    async def scores() -> list[dict[str, Any]]:
        return await tolerant_items(guest, f"/runs/{turn.run_id}/scores")

    assert len(await eventually("the scores", scores, lambda items: len(items) == 5, 45)) == 5


async def test_auth_down_leaves_valid_tokens_valid(fragile_stack: Stack, guest: User) -> None:
    await fragile_stack.stop("auth")
    turn = await guest.chat("Still there?")
    async with MeshClient(fragile_stack.url) as nobody:
        login = await nobody.login(guest.email, PASSWORD)
    await fragile_stack.restart("gateway")
    after_restart = await guest.chat("And now?")

    await fragile_stack.start("auth")

    assert turn.last.type == "run_finished"
    require_unavailable(login)
    assert after_restart.last.type == "run_finished"
    await eventually("login", lambda: guest.login(guest.email, PASSWORD), lambda answer: answer.is_success)


async def test_redis_down_leaves_chat_going(fragile_stack: Stack, guest: User) -> None:
    await fragile_stack.valkey.kill()
    try:
        turns = [await guest.chat("Without Redis.") for _ in range(3)]
        login = await guest.login(guest.email, PASSWORD)
    finally:
        await fragile_stack.valkey.start()

    assert [turn.last.type for turn in turns] == ["run_finished"] * 3
    assert login.status_code == 200
    assert (await guest.chat("And with.")).last.type == "run_finished"


async def test_redis_down_leaves_repeated_requests_one(fragile_stack: Stack, guest: User) -> None:
    key, body = new_id().hex, {"message": "Only once, please. [[sim:itl=20]]"}
    await fragile_stack.valkey.kill()
    try:
        first, second = await asyncio.gather(
            *(guest.stream("/chatbot/chat/stream", body, idempotency_key=key) for _ in range(2))
        )
        again = await guest.post("/chatbot/chat", body, idempotency_key=key)
        other = await guest.post("/chatbot/chat", {"message": "Another."}, idempotency_key=key)
    finally:
        await fragile_stack.valkey.start()

    assert [event.id for event in first.events] == [event.id for event in second.events]
    assert again.json()["run_id"] == first.run_id
    assert other.json()["reason"] == "IDEMPOTENCY_KEY_REUSED"


async def test_postgres_down_is_reported_in_time_and_everything_works_again(fragile_stack: Stack, guest: User) -> None:
    before = await guest.chat("Before.")
    await fragile_stack.postgres.kill()
    try:
        started = time.monotonic()
        refused = await asyncio.gather(
            guest.get("/threads"),
            guest.get(f"/threads/{before.thread_id}/messages"),
            guest.get("/memories"),
            guest.get(f"/runs/{before.run_id}/scores"),
            guest.post("/chatbot/chat", {"message": "During."}),
            guest.post("/chatbot/chat/stream", {"message": "During."}),
            guest.login(guest.email, PASSWORD),
        )
        took_s = time.monotonic() - started
    finally:
        await fragile_stack.postgres.start()

    for response in refused:
        require_unavailable(response)
    assert took_s < ANSWERED_WITHIN_S

    async def chat_again() -> int:
        return (await guest.post("/chatbot/chat", {"message": "After.", "thread_id": before.thread_id})).status_code

    await eventually("the mesh", chat_again, lambda status: status == httpx.codes.OK)
    contents = [message["content"] for message in await guest.messages(before.thread_id)]
    assert contents[:2] == ["Before.", before.text]
    assert contents[2] == "After."
    assert (await guest.login(guest.email, PASSWORD)).status_code == 200


async def test_postgres_that_hangs_is_reported_in_time(fragile_stack: Stack, guest: User) -> None:
    processes = [fragile_stack.postgres.child.pid, *children_of(fragile_stack.postgres.child.pid)]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        refused = await asyncio.gather(
            guest.get("/threads"), guest.get("/memories"), guest.post("/chatbot/chat", {"message": "During."})
        )
        took_s = time.monotonic() - started
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)

    assert {response.status_code for response in refused} <= {503, 504}
    assert took_s < ANSWERED_WITHIN_S
    await eventually("the mesh", lambda: guest.get("/threads"), lambda answer: answer.is_success)


async def test_postgres_that_stops_during_a_run_leaves_its_thread_whole(fragile_stack: Stack, guest: User) -> None:
    thread_id = await guest.new_thread()
    async with guest.open_stream(
        "/chatbot/chat/stream", {"message": "[[sim:itl=20]] [[sim:tokens=150]] Go on.", "thread_id": thread_id}
    ) as (_, events):
        first = await anext(events)
        await fragile_stack.postgres.restart()
        types = [event.type async for event in events]

    async def run() -> dict[str, Any]:
        response = await guest.get(f"/runs/{first.run_id}")
        return response.json() if response.is_success else {"ended_at": None}

    ended = await eventually("the end of the run", run, lambda one: one["ended_at"] is not None, 45)
    assert ended["status"] == "succeeded"
    assert types[-1] == "run_finished"
    assert [message["role"] for message in await guest.messages(thread_id)] == ["user", "assistant"]


async def test_agent_down_is_reported_and_recovers(fragile_stack: Stack, guest: User) -> None:
    await fragile_stack.stop("agent")
    started = time.monotonic()
    refused = await guest.post("/chatbot/chat/stream", {"message": "Anybody?"})
    took_s = time.monotonic() - started

    await fragile_stack.start("agent")

    require_unavailable(refused)
    assert took_s < ANSWERED_WITHIN_S
    again = await eventually(
        "the agent", lambda: guest.post("/chatbot/chat", {"message": "Hello?"}), lambda answer: answer.is_success
    )
    assert again.json()["finish_reason"] == "stop"


async def test_agent_stopped_under_a_run_lets_it_end(fragile_stack: Stack, guest: User) -> None:
    async with guest.open_stream("/chatbot/chat/stream", {"message": "[[sim:itl=20]] [[sim:tokens=60]] Go on."}) as (
        _,
        events,
    ):
        await anext(events)
        await fragile_stack.stop("agent")
        types = [event.type async for event in events]
    await fragile_stack.start("agent")

    assert types[-1] == "run_finished"


async def test_two_stacks_know_nothing_of_each_other(stack: Stack, guest: User) -> None:
    async with MeshClient(stack.url) as other:
        other.use_token(guest.tokens["access_token"])

        assert (await other.get("/auth/me")).status_code == 401
        assert (await other.login(guest.email, PASSWORD)).status_code == 401
    assert (await guest.chat("Hello.")).last.type == "run_finished"


async def test_second_stack_on_the_same_ports_is_refused_in_one_line(fragile_stack: Stack) -> None:
    ports = fragile_stack.ports

    with pytest.raises(PortTakenError, match=f"port {ports.base}, needed for gateway, is taken: .*MESH_PORT_BASE"):
        require_free(ports.needed(), ports.base)


async def test_child_that_dies_is_named_in_one_line(fragile_stack: Stack) -> None:
    async with asyncio.TaskGroup() as group:
        watcher = group.create_task(died(fragile_stack))
        await asyncio.wait({watcher}, timeout=0)
        await fragile_stack.kill("eval")
    await fragile_stack.start("eval")

    line = watcher.result()
    assert line == f"eval was killed by SIGKILL (log: {fragile_stack.log_dir / 'eval.log'})"


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def died(stack: Stack) -> str:
    try:
        await stack.watch()
    except ChildDiedError as error:
        return str(error)
    return "nobody died"


async def tolerant_items(user: User, path: str) -> list[dict[str, Any]]:
    """The items of a list; empty while the service behind it is unavailable."""
    response = await user.get(path)
    return list(response.json()["items"]) if response.is_success else []


def require_unavailable(response: httpx.Response) -> None:
    assert response.status_code == 503, response.text
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers["content-type"] == "application/problem+json"
