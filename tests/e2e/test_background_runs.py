"""Background runs: accepted, listed by status, waited for, cancelled; and the effect of a second run on the first."""

import asyncio
import time

from mesh_common.ids import new_id
from support.api import User, eventually

SHORT = "[[sim:itl=20]] [[sim:tokens=30]]"
# Runs for as long as a test may want.
ENDLESS = "[[sim:itl=50]] [[sim:tokens=2000]]"


async def started(user: User, thread_id: str, message: str, **more: str) -> str:
    response = await user.post(f"/threads/{thread_id}/runs", {"message": message, **more})
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"/api/v1/runs/{response.json()['run_id']}"
    assert response.json()["thread_id"] == thread_id
    return str(response.json()["run_id"])


async def ids(user: User, thread_id: str, status: str) -> list[str]:
    response = await user.get(f"/threads/{thread_id}/runs", status=status)
    return [run["id"] for run in response.json()["items"]]


async def test_run_in_the_background_ends_by_itself_and_can_be_waited_for(user: User) -> None:
    thread_id = await user.new_thread()
    run_id = await started(user, thread_id, SHORT)

    waited = await user.get(f"/runs/{run_id}", wait_s=20)

    run = waited.json()
    assert run["status"] == "succeeded"
    assert len(run["message"]["content"].split()) == 30
    assert [message["content"] for message in await user.messages(thread_id)][1] == run["message"]["content"]


async def test_waiting_gives_the_run_in_its_final_state(user: User) -> None:
    run_id = await started(user, await user.new_thread(), ENDLESS)
    begun_s = time.monotonic()

    waited = await user.get(f"/runs/{run_id}", wait_s="0.5")

    took_s = time.monotonic() - begun_s
    await user.post(f"/runs/{run_id}/cancel")
    assert waited.json()["status"] in {"pending", "running"}
    assert 0.5 <= took_s < 5


async def test_waiting_ends_with_a_cancellation(user: User) -> None:
    run_id = await started(user, await user.new_thread(), ENDLESS)

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(user.get(f"/runs/{run_id}", wait_s=60))
        await eventually("it to run", lambda: user.get(f"/runs/{run_id}"), lambda one: one.json()["attempt"] == 1)
        await user.post(f"/runs/{run_id}/cancel")

    assert waiting.result().json()["status"] == "cancelled"


async def test_runs_are_listed_by_status(user: User) -> None:
    thread_id = await user.new_thread()
    done = await started(user, thread_id, SHORT)
    await user.get(f"/runs/{done}", wait_s=20)
    going = await started(user, thread_id, ENDLESS)
    waiting = await started(user, thread_id, SHORT)
    await eventually("the second run", lambda: ids(user, thread_id, "running"), bool)

    by_status = {name: await ids(user, thread_id, name) for name in ("pending", "running", "succeeded", "failed")}

    assert by_status == {"pending": [waiting], "running": [going], "succeeded": [done], "failed": []}
    await user.post(f"/runs/{going}/cancel")
    assert (await user.get(f"/runs/{waiting}", wait_s=20)).json()["status"] == "succeeded"
    assert await ids(user, thread_id, "cancelled") == [going]


async def test_same_key_gives_the_same_run_in_the_background_too(user: User) -> None:
    thread_id, key = await user.new_thread(), new_id().hex
    path, body = f"/threads/{thread_id}/runs", {"message": SHORT}

    answers = await asyncio.gather(*(user.post(path, body, idempotency_key=key) for _ in range(4)))
    streamed = await user.stream(f"{path}/stream", body, idempotency_key=key)
    other = await user.post(path, {"message": "Another."}, idempotency_key=key)

    assert {response.status_code for response in answers} == {202}
    assert {response.json()["run_id"] for response in answers} == {streamed.run_id}
    assert (other.status_code, other.json()["reason"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert len(await user.items(path)) == 1


async def test_interrupt_cancels_what_runs_and_keeps_what_it_said(user: User) -> None:
    thread_id = await user.new_thread()
    async with user.open_stream(f"/threads/{thread_id}/runs/stream", {"message": ENDLESS}) as (_, events):
        async for event in events:
            if event.type == "message_delta":
                break
        first = event.run_id
        second = await started(user, thread_id, SHORT, multitask="interrupt")
        rest = [one async for one in events]

    run = (await user.get(f"/runs/{second}", wait_s=20)).json()
    assert rest[-1].type == "run_cancelled"
    assert run["status"] == "succeeded"
    assert (await user.get(f"/runs/{first}")).json()["status"] == "cancelled"
    contents = [(message["role"], message["is_partial"]) for message in await user.messages(thread_id)]
    assert contents == [("user", False), ("assistant", True), ("user", False), ("assistant", False)]


async def test_reject_refuses_in_the_background_too(user: User) -> None:
    thread_id = await user.new_thread()
    first = await started(user, thread_id, ENDLESS)

    refused = await user.post(f"/threads/{thread_id}/runs", {"message": SHORT, "multitask": "reject"})

    await user.post(f"/runs/{first}/cancel")
    assert (refused.status_code, refused.json()["reason"]) == (409, "THREAD_BUSY")
    assert len(await user.items(f"/threads/{thread_id}/runs")) == 1
