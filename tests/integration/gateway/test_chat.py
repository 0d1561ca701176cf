"""One turn through the gateway, as a stream and as one answer."""

import asyncio
from http import HTTPStatus

import httpx
import pytest
from fakes.gateway.fake_runs import FakeRun, answer_begin, answer_whole, failing_with
from mesh.agent.v1 import agent_pb2
from mesh_common.errors import Conflict, QuotaExceeded
from mesh_common.ids import new_id
from mesh_dev.valkey import EmbeddedValkey
from support.gateway import Client, FakeMesh, frames_of, read_frames, running_gateway

CHAT = "/api/v1/chatbot/chat"
STREAM = "/api/v1/chatbot/chat/stream"


async def _thread(gateway: Client, user: dict[str, str]) -> str:
    created = await gateway.http.post("/api/v1/threads", json={}, headers=user)
    return str(created.json()["id"])


async def test_stream_gives_every_event_of_the_run_in_frames(gateway: Client) -> None:
    response = await gateway.http.post(STREAM, json={"message": "Capital of France?"}, headers=gateway.as_user())

    frames = frames_of(response.text)
    run_id = gateway.mesh.agent.started[0].run_id
    assert response.status_code == HTTPStatus.OK
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["location"] == f"/api/v1/runs/{run_id}"
    assert response.headers["content-location"] == f"/api/v1/runs/{run_id}/events"
    assert [frame.id for frame in frames] == [f"{run_id}:1:{seq}" for seq in range(1, 8)]
    assert [frame.event for frame in frames] == [
        "run_started",
        "memory_recalled",
        "message_delta",
        "message_delta",
        "message_delta",
        "message_completed",
        "run_finished",
    ]
    assert all(frame.data["type"] == frame.event for frame in frames)
    assert [frame.data["seq"] for frame in frames] == list(range(1, 8))
    assert frames[-1].data["usage"] == {"input_tokens": 12, "output_tokens": 3, "cost_usd": 0.000045}


async def test_events_arrive_as_the_agent_sends_them(gateway: Client) -> None:
    async def begin_and_wait(run: FakeRun) -> None:
        await answer_begin(run)
        await gateway.mesh.agent.release.wait()
        await run.write(run_finished=agent_pb2.RunFinished(finish_reason="stop"))

    gateway.mesh.agent.plan = begin_and_wait

    async with gateway.http.stream("POST", STREAM, json={"message": "Hi"}, headers=gateway.as_user()) as response:
        frames = read_frames(response)
        early = [await anext(frames) for _ in range(3)]
        gateway.mesh.agent.release.set()
        late = [frame.event async for frame in frames]

    assert early[-1].data["text"] == "Pa"
    assert late == ["run_finished"]


async def test_stream_is_open_before_the_first_event(gateway: Client) -> None:
    async def wait(run: FakeRun) -> None:
        await gateway.mesh.agent.release.wait()
        await answer_whole(run)

    gateway.mesh.agent.plan = wait

    async with gateway.http.stream("POST", STREAM, json={"message": "Hi"}, headers=gateway.as_user()) as response:
        status = response.status_code
        gateway.mesh.agent.release.set()
        await response.aread()

    assert status == HTTPStatus.OK


async def test_chat_answers_in_one_piece(gateway: Client) -> None:
    response = await gateway.http.post(CHAT, json={"message": "Capital?"}, headers=gateway.as_user())

    answer = response.json()
    run = next(iter(reversed(gateway.mesh.agent.runs.values())))
    assert response.status_code == HTTPStatus.OK
    assert answer["run_id"] == run.id
    assert answer["thread_id"] == run.thread_id
    assert answer["message"] == {"id": run.id, "role": "assistant", "content": "Paris.", "parsed": None}
    assert answer["finish_reason"] == "stop"
    assert answer["usage"] == {"input_tokens": 12, "output_tokens": 3, "cost_usd": 0.000045}
    assert [memory["text"] for memory in answer["memories"]] == ["Lives in Lyon"]


async def test_run_on_a_thread_passes_all_fields_on(gateway: Client) -> None:
    user = gateway.as_user()
    thread_id = await _thread(gateway, user)
    body = {
        "message": "Hi",
        "model": "sim",
        "metadata": {"a": "b"},
        "multitask": "reject",
        "on_disconnect": "cancel",
        "unknown": 1,
    }

    response = await gateway.http.post(
        f"/api/v1/threads/{thread_id}/runs/wait", json=body, headers={**user, "Idempotency-Key": "k-1"}
    )

    (order,) = gateway.mesh.agent.started
    assert response.status_code == HTTPStatus.OK
    assert (order.thread_id, order.message, order.model) == (thread_id, "Hi", "sim")
    assert dict(order.metadata) == {"a": "b"}
    assert order.multitask == agent_pb2.MULTITASK_REJECT
    assert order.on_disconnect == agent_pb2.ON_DISCONNECT_CANCEL
    assert order.idempotency_key == "k-1"


@pytest.mark.parametrize("path", [CHAT, STREAM])
async def test_error_before_the_acknowledgement_is_a_problem(gateway: Client, path: str) -> None:
    gateway.mesh.agent.error = QuotaExceeded("The month's tokens are used up.", retry_after_s=60)

    response = await gateway.http.post(path, json={"message": "Hi"}, headers=gateway.as_user())

    assert response.status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"] == "60"
    assert response.json()["reason"] == "QUOTA_EXCEEDED"
    assert "run_id" not in response.json()


async def test_busy_thread_is_409_when_the_caller_wants_no_queue(gateway: Client) -> None:
    user = gateway.as_user()
    thread_id = await _thread(gateway, user)
    gateway.mesh.agent.error = Conflict("The thread has a run.", reason="THREAD_BUSY")

    response = await gateway.http.post(
        f"/api/v1/threads/{thread_id}/runs/stream", json={"message": "Hi", "multitask": "reject"}, headers=user
    )

    assert (response.status_code, response.json()["reason"]) == (409, "THREAD_BUSY")


@pytest.mark.parametrize(("retryable", "status"), [(True, 503), (False, 500)])
async def test_failed_run_is_a_problem_with_the_runs_reason(gateway: Client, retryable: bool, status: int) -> None:  # noqa: FBT001
    error = agent_pb2.RunError(reason="MODEL_UNAVAILABLE", detail="No model answered.", is_retryable=retryable)
    gateway.mesh.agent.plan = failing_with(error)

    response = await gateway.http.post(CHAT, json={"message": "Hi"}, headers=gateway.as_user())

    problem = response.json()
    assert response.status_code == status
    assert ("retry-after" in response.headers) is retryable
    assert (problem["reason"], problem["detail"]) == ("MODEL_UNAVAILABLE", "No model answered.")
    assert (problem["run_id"], problem["run_status"]) == (gateway.mesh.agent.started[0].run_id, "failed")


async def test_failed_run_is_the_same_for_its_key_and_another_for_a_new_one(gateway: Client) -> None:
    error = agent_pb2.RunError(reason="MODEL_UNAVAILABLE", detail="No model answered.", is_retryable=True)
    gateway.mesh.agent.plan = failing_with(error)
    user = gateway.as_user()

    keys = ("k-1", "k-1", "k-2")
    headers = [{**user, "Idempotency-Key": key} for key in keys]
    problems = [(await gateway.http.post(CHAT, json={"message": "Hi"}, headers=sent)).json() for sent in headers]

    first, again, new = [problem["run_id"] for problem in problems]
    assert first == again != new
    assert [problem["run_status"] for problem in problems] == ["failed"] * 3


async def test_problem_of_a_run_that_goes_on_does_not_say_that_it_ended(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    mesh.agent.plan = answer_begin
    async with running_gateway(mesh, valkey.url, wait_timeout_s=1.0) as gateway:
        response = await gateway.http.post(CHAT, json={"message": "Hi"}, headers=gateway.as_user())

    problem = response.json()
    assert response.status_code == HTTPStatus.GATEWAY_TIMEOUT
    assert problem["run_id"] == mesh.agent.started[0].run_id
    assert "run_status" not in problem


async def test_failed_run_ends_its_stream_with_run_failed(gateway: Client) -> None:
    error = agent_pb2.RunError(reason="MODEL_UNAVAILABLE", detail="No model answered.", is_retryable=True)
    gateway.mesh.agent.plan = failing_with(error)

    response = await gateway.http.post(STREAM, json={"message": "Hi"}, headers=gateway.as_user())

    last = frames_of(response.text)[-1]
    assert last.event == "run_failed"
    assert (last.data["reason"], last.data["retryable"]) == ("MODEL_UNAVAILABLE", True)


async def test_client_that_leaves_ends_the_agents_stream(gateway: Client) -> None:
    gateway.mesh.agent.plan = answer_begin

    async with gateway.http.stream("POST", STREAM, json={"message": "Hi"}, headers=gateway.as_user()) as response:
        frames = read_frames(response)
        await anext(frames)

    async with asyncio.timeout(5):
        await gateway.mesh.agent.follow_ended.wait()


async def test_client_that_leaves_a_json_answer_ends_the_agents_stream(gateway: Client) -> None:
    gateway.mesh.agent.plan = answer_begin

    with pytest.raises(httpx.ReadTimeout):
        await gateway.http.post(CHAT, json={"message": "Hi"}, headers=gateway.as_user(), timeout=0.3)

    async with asyncio.timeout(5):
        await gateway.mesh.agent.follow_ended.wait()


async def test_client_that_leaves_and_wanted_that_has_its_run_cancelled(gateway: Client) -> None:
    user, agent = gateway.as_user(), gateway.mesh.agent
    agent.plan = answer_begin
    path = f"/api/v1/threads/{await _thread(gateway, user)}/runs/stream"

    body = {"message": "Hi", "on_disconnect": "cancel"}
    async with gateway.http.stream("POST", path, json=body, headers=user) as response:
        await anext(read_frames(response))

    async with asyncio.timeout(5):
        await agent.run_cancelled.wait()


async def test_following_a_run_of_before_and_leaving_cancels_nothing(gateway: Client) -> None:
    user, agent = gateway.as_user(), gateway.mesh.agent
    agent.plan = answer_begin
    path = f"/api/v1/threads/{await _thread(gateway, user)}/runs/stream"
    body = {"message": "Hi", "on_disconnect": "cancel"}
    headers = {**user, "Idempotency-Key": "k-1"}

    async with gateway.http.stream("POST", path, json=body, headers=headers) as first:
        # Kept in a variable, because httpx closes a response whose reader is garbage-collected.
        frames = read_frames(first)
        await anext(frames)
        async with gateway.http.stream("POST", path, json=body, headers=headers) as second:
            await anext(read_frames(second))
        async with asyncio.timeout(5):
            await agent.follow_ended.wait()

        assert not agent.run_cancelled.is_set()
    async with asyncio.timeout(5):
        await agent.run_cancelled.wait()


async def test_gateway_that_stops_cancels_no_run_whatever_its_client_wanted(
    mesh: FakeMesh, valkey: EmbeddedValkey
) -> None:
    mesh.agent.plan = answer_begin
    async with running_gateway(mesh, valkey.url, drain_s=0.1) as going:
        user = going.as_user()
        path = f"/api/v1/threads/{await _thread(going, user)}/runs/stream"
        body = {"message": "Hi", "on_disconnect": "cancel"}
        async with going.http.stream("POST", path, json=body, headers=user) as response:
            frames = read_frames(response)
            await anext(frames)
            await going.process.drain()
            rest = [frame async for frame in frames]

    assert not [frame for frame in rest if frame.event == "run_cancelled"]
    assert not mesh.agent.run_cancelled.is_set()


async def test_anothers_thread_is_404(gateway: Client) -> None:
    thread_id = await _thread(gateway, gateway.as_user())

    response = await gateway.http.post(
        CHAT, json={"message": "Hi", "thread_id": thread_id}, headers=gateway.as_user(new_id())
    )

    assert response.status_code == HTTPStatus.NOT_FOUND
