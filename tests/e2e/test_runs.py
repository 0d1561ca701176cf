"""Several runs on one thread, the same run twice, runs that are cancelled or lose their thread."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import httpx
from mesh_common.ids import new_id
from mesh_dev.mesh_client import Event
from simulator.client import SimulatorAdmin
from support.api import Turn, User, eventually

SLOW = "[[sim:itl=20]] [[sim:tokens=50]]"
# Runs for as long as a test may want.
ENDLESS = "[[sim:itl=100]] [[sim:tokens=2000]]"


@asynccontextmanager
async def running(user: User, thread_id: str) -> AsyncIterator[tuple[str, AsyncIterator[Event]]]:
    """A run whose answer has started and continues: its id and its further events."""
    async with user.open_stream("/chatbot/chat/stream", {"message": ENDLESS, "thread_id": thread_id}) as (_, events):
        async for event in events:
            if event.type == "message_delta":
                yield event.run_id, events
                return


async def test_two_runs_on_one_thread_go_one_after_the_other(user: User, simulator: SimulatorAdmin) -> None:
    thread_id, marker = await user.new_thread(), new_id().hex

    turns = await asyncio.gather(*(user.chat(f"{SLOW} {marker} {number}", thread_id=thread_id) for number in range(3)))

    asked = [one for one in await simulator.requests() if one["body"].get("stream") and marker in str(one["body"])]
    assert len(asked) == 3
    for before, after in pairwise(asked):
        assert before["ended_at_s"] <= after["received_at_s"]
    messages = await user.messages(thread_id)
    assert [message["role"] for message in messages] == ["user", "assistant"] * 3
    by_run = {turn.run_id: turn.text for turn in turns}
    assert [message["content"] for message in messages[1::2]] == [by_run[one["run_id"]] for one in messages[1::2]]
    assert [turn.last.type for turn in turns] == ["run_finished"] * 3


async def test_busy_thread_refuses_when_asked_to(user: User) -> None:
    thread_id = await user.new_thread()
    async with running(user, thread_id) as (run_id, _):
        refused = await user.post(f"/threads/{thread_id}/runs/stream", {"message": "Me too.", "multitask": "reject"})
        await user.post(f"/runs/{run_id}/cancel")

    assert refused.status_code == 409, refused.text
    assert len(await user.items(f"/threads/{thread_id}/runs")) == 1


async def test_same_idempotency_key_gives_the_same_run(user: User) -> None:
    key, body = new_id().hex, {"message": "Only once, please."}

    first = await user.stream("/chatbot/chat/stream", body, idempotency_key=key)
    second = await user.stream("/chatbot/chat/stream", body, idempotency_key=key)
    whole = await user.post("/chatbot/chat", body, idempotency_key=key)

    assert [event.id for event in second.events] == [event.id for event in first.events]
    assert second.text == first.text
    assert whole.json()["run_id"] == first.run_id
    assert len(await user.messages(first.thread_id)) == 2
    assert len(await user.items("/threads")) == 1


async def test_same_key_at_the_same_time_gives_the_same_run(user: User) -> None:
    key, body = new_id().hex, {"message": f"{SLOW} Only once, please."}

    turns = await asyncio.gather(*(user.stream("/chatbot/chat/stream", body, idempotency_key=key) for _ in range(5)))

    assert len({turn.run_id for turn in turns}) == 1
    assert len({turn.text for turn in turns}) == 1
    assert len(await user.messages(turns[0].thread_id)) == 2


async def test_same_key_with_another_body_is_refused(user: User) -> None:
    key = new_id().hex
    turn = await user.stream("/chatbot/chat/stream", {"message": "One."}, idempotency_key=key)

    response = await user.post("/chatbot/chat/stream", {"message": "Two."}, idempotency_key=key)

    assert response.status_code == 422, response.text
    assert response.json()["reason"] == "IDEMPOTENCY_KEY_REUSED"
    assert len(await user.messages(turn.thread_id)) == 2


async def test_keys_of_two_users_have_nothing_to_do_with_each_other(user: User, stranger: User) -> None:
    key, body = new_id().hex, {"message": "Mine."}

    mine = await user.stream("/chatbot/chat/stream", body, idempotency_key=key)
    theirs = await stranger.stream("/chatbot/chat/stream", body, idempotency_key=key)

    assert mine.run_id != theirs.run_id


async def test_thread_made_twice_with_one_key_is_one(user: User) -> None:
    key = new_id().hex

    made = await asyncio.gather(*(user.post("/threads", {"title": "Plans"}, idempotency_key=key) for _ in range(4)))

    assert len({response.json()["id"] for response in made}) == 1
    assert len(await user.items("/threads")) == 1


async def test_cancelled_run_ends_and_keeps_what_it_said(user: User, simulator: SimulatorAdmin) -> None:
    thread_id = await user.new_thread()
    async with running(user, thread_id) as (run_id, events):
        cancelled = await user.post(f"/runs/{run_id}/cancel")
        rest = [event async for event in events]

    assert cancelled.status_code == 200, cancelled.text
    assert rest[-1].type == "run_cancelled"
    run = (await user.get(f"/runs/{run_id}")).json()
    assert run["status"] == "cancelled"
    answer = (await user.messages(thread_id))[-1]
    assert answer["is_partial"]
    assert answer["content"]
    await require_no_open_streams(simulator)


async def test_run_goes_on_when_its_client_leaves(user: User) -> None:
    thread_id = await user.new_thread()
    async with user.open_stream("/chatbot/chat/stream", {"message": SLOW, "thread_id": thread_id}) as (_, events):
        run_id = (await anext(events)).run_id

    run = await ended(user, run_id)

    assert run["status"] == "succeeded"
    assert len(run["message"]["content"].split()) == 50


async def test_run_is_cancelled_when_its_client_leaves_and_wanted_that(user: User, simulator: SimulatorAdmin) -> None:
    thread_id = await user.new_thread()
    body = {"message": ENDLESS, "on_disconnect": "cancel"}
    async with user.open_stream(f"/threads/{thread_id}/runs/stream", body) as (_, events):
        run_id = (await anext(events)).run_id

    run = await ended(user, run_id)

    assert run["status"] == "cancelled"
    await require_no_open_streams(simulator)


async def test_thread_deleted_under_a_run_cancels_it_and_nothing_comes_back(
    user: User, simulator: SimulatorAdmin
) -> None:
    thread_id = await user.new_thread()
    async with running(user, thread_id) as (run_id, events):
        deleted = await user.delete(f"/threads/{thread_id}")
        rest = [event async for event in events]

    assert deleted.status_code == 204, deleted.text
    assert "run_finished" not in [event.type for event in rest]
    await require_no_open_streams(simulator)
    for path in (f"/threads/{thread_id}", f"/threads/{thread_id}/messages", f"/runs/{run_id}"):
        assert (await user.get(path)).status_code == 404
    assert await user.items("/threads") == []
    assert await user.memories() == []


async def test_runs_waiting_on_a_deleted_thread_go_with_it(user: User) -> None:
    thread_id = await user.new_thread()
    async with asyncio.TaskGroup() as group, running(user, thread_id):
        waiting = group.create_task(tolerant_chat(user, thread_id))
        await eventually(
            "the second run", lambda: user.items(f"/threads/{thread_id}/runs"), lambda runs: len(runs) == 2
        )
        assert (await user.delete(f"/threads/{thread_id}")).status_code == 204

    turn = waiting.result()
    assert turn is None or "message_delta" not in turn.types


async def tolerant_chat(user: User, thread_id: str) -> Turn | None:
    try:
        return await user.chat("Waiting.", thread_id=thread_id)
    except (AssertionError, httpx.RemoteProtocolError):
        return None


async def ended(user: User, run_id: str) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        return dict((await user.get(f"/runs/{run_id}")).json())

    return await eventually("the end", run, lambda one: one["ended_at"] is not None)


async def require_no_open_streams(simulator: SimulatorAdmin) -> None:
    """Asserts that the provider's connection is closed too, so that an unread answer costs nothing."""
    await eventually("the model to be left", simulator.stats, lambda stats: stats["streams_open"] == 0, 5)
