"""Following a run again: Last-Event-ID, cut streams, ended runs."""

import asyncio
from http import HTTPStatus

import pytest
from fakes.gateway.fake_runs import FakeRun, answer_begin, answer_whole
from mesh.agent.v1 import agent_pb2
from mesh_common.ids import new_id
from mesh_dev.valkey import EmbeddedValkey
from support.gateway import Client, FakeMesh, frames_of, read_frames, running_gateway
from support.ids import SOME_ID

STREAM = "/api/v1/chatbot/chat/stream"


async def _ended_run(gateway: Client, user: dict[str, str]) -> FakeRun:
    await gateway.http.post("/api/v1/chatbot/chat", json={"message": "Hi"}, headers=user)
    return gateway.mesh.agent.runs[gateway.mesh.agent.started[-1].run_id]


async def test_events_after_last_event_id(gateway: Client) -> None:
    user = gateway.as_user()
    run = await _ended_run(gateway, user)

    response = await gateway.http.get(
        f"/api/v1/runs/{run.id}/events", headers={**user, "Last-Event-ID": f"{run.id}:1:5"}
    )

    assert [frame.id for frame in frames_of(response.text)] == [f"{run.id}:1:6", f"{run.id}:1:7"]


async def test_events_from_the_beginning(gateway: Client) -> None:
    user = gateway.as_user()
    run = await _ended_run(gateway, user)

    response = await gateway.http.get(f"/api/v1/runs/{run.id}/events", headers=user)

    assert len(frames_of(response.text)) == 7


@pytest.mark.parametrize("path", [STREAM, f"/api/v1/threads/{SOME_ID}/runs/stream"])
async def test_post_with_last_event_id_follows_and_never_starts(gateway: Client, path: str) -> None:
    user = gateway.as_user()
    run = await _ended_run(gateway, user)

    response = await gateway.http.post(path, json={"message": "Hi"}, headers={**user, "Last-Event-ID": f"{run.id}:1:6"})

    assert [frame.event for frame in frames_of(response.text)] == ["run_finished"]
    assert len(gateway.mesh.agent.started) == 1


async def test_events_that_are_kept_no_longer_are_204(gateway: Client) -> None:
    user = gateway.as_user()
    run = await _ended_run(gateway, user)
    run.is_expired = True

    response = await gateway.http.get(f"/api/v1/runs/{run.id}/events", headers=user)

    assert response.status_code == HTTPStatus.NO_CONTENT


async def test_position_of_another_run_is_409(gateway: Client) -> None:
    response = await gateway.http.get(
        f"/api/v1/runs/{new_id()}/events", headers={**gateway.as_user(), "Last-Event-ID": f"{new_id()}:1:5"}
    )

    assert (response.status_code, response.json()["reason"]) == (409, "EVENT_OF_OTHER_RUN")


@pytest.mark.parametrize("position", ["1", "x:1:1", f"{SOME_ID}:1", f"{SOME_ID}:1:99999999999", f"{SOME_ID}:-1:1"])
async def test_malformed_position_is_422(gateway: Client, position: str) -> None:
    response = await gateway.http.get(
        f"/api/v1/runs/{new_id()}/events", headers={**gateway.as_user(), "Last-Event-ID": position}
    )

    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert response.json()["errors"][0]["field"] == "Last-Event-ID"


async def test_anothers_run_is_404(gateway: Client) -> None:
    run = await _ended_run(gateway, gateway.as_user())

    response = await gateway.http.get(f"/api/v1/runs/{run.id}/events", headers=gateway.as_user(new_id()))

    assert response.status_code == HTTPStatus.NOT_FOUND


async def test_cut_stream_is_followed_again_without_gap_or_repeat(gateway: Client) -> None:
    gateway.mesh.agent.cut_after = 3

    response = await gateway.http.post(STREAM, json={"message": "Hi"}, headers=gateway.as_user())

    frames = frames_of(response.text)
    assert [frame.data["seq"] for frame in frames] == list(range(1, 8))
    assert [(one.after_attempt, one.after_seq) for one in gateway.mesh.agent.follows] == [(1, 3)]


async def test_later_attempt_is_given_whole_as_the_agent_numbers_it(gateway: Client) -> None:
    async def taken_over(run: FakeRun) -> None:
        await answer_begin(run)
        await gateway.mesh.agent.release.wait()
        run.attempt = 2
        await run.write(run_restarted=agent_pb2.RunRestarted(thread_id=run.thread_id))
        await answer_whole(run)

    gateway.mesh.agent.plan = taken_over
    gateway.mesh.agent.cut_after = 3

    async with gateway.http.stream("POST", STREAM, json={"message": "Hi"}, headers=gateway.as_user()) as response:
        frames = read_frames(response)
        first = [await anext(frames) for _ in range(3)]
        gateway.mesh.agent.release.set()
        rest = [frame async for frame in frames]

    run_id = gateway.mesh.agent.started[0].run_id
    assert [frame.id for frame in first] == [f"{run_id}:1:{seq}" for seq in (1, 2, 3)]
    assert [frame.id for frame in rest] == [f"{run_id}:2:{seq}" for seq in range(1, 9)]


async def test_run_that_cannot_be_followed_again_closes_without_a_terminal_event(gateway: Client) -> None:
    async def expire(run: FakeRun) -> None:
        run.is_expired = True
        await answer_begin(run)

    gateway.mesh.agent.plan = expire
    gateway.mesh.agent.cut_after = 3

    response = await gateway.http.post(STREAM, json={"message": "Hi"}, headers=gateway.as_user())

    assert [frame.event for frame in frames_of(response.text)][-1] == "message_delta"


async def test_silent_run_is_opened_before_its_first_event(gateway: Client) -> None:
    agent = gateway.mesh.agent
    user_id = new_id()

    async def silent(run: FakeRun) -> None:
        await agent.release.wait()
        await answer_whole(run)

    agent.plan = silent
    user = gateway.as_user(user_id)

    async with gateway.http.stream("POST", STREAM, json={"message": "Hi"}, headers=user):
        events_path = f"/api/v1/runs/{agent.started[0].run_id}/events"
        async with gateway.http.stream("GET", events_path, headers=user) as response:
            agent.release.set()
            frames = [frame async for frame in read_frames(response)]

    assert len(frames) == 7


@pytest.mark.parametrize("says_has_ended", [True, False], ids=["agent", "agent-of-the-release-before"])
async def test_coming_back_after_the_end_is_always_204(
    gateway: Client,
    says_has_ended: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    gateway.mesh.agent.says_has_ended = says_has_ended
    user = gateway.as_user()
    run = await _ended_run(gateway, user)
    ends = (f"{run.id}:1:7", f"{run.id}:1:9")

    answers = [
        await gateway.http.get(f"/api/v1/runs/{run.id}/events", headers={**user, "Last-Event-ID": ends[number % 2]})
        for number in range(50)
    ]

    assert {response.status_code for response in answers} == {204}


async def test_coming_back_before_the_end_always_gives_the_rest(gateway: Client) -> None:
    user = gateway.as_user()
    run = await _ended_run(gateway, user)

    answers = [
        await gateway.http.get(f"/api/v1/runs/{run.id}/events", headers={**user, "Last-Event-ID": f"{run.id}:1:6"})
        for _ in range(50)
    ]

    assert {response.status_code for response in answers} == {200}
    assert {frame.id for response in answers for frame in frames_of(response.text)} == {f"{run.id}:1:7"}


async def test_silent_run_is_opened_at_once_after_a_position_too(gateway: Client) -> None:
    agent = gateway.mesh.agent

    async def silent_after_three(run: FakeRun) -> None:
        await answer_begin(run)
        await agent.release.wait()
        await run.write(run_finished=agent_pb2.RunFinished(finish_reason="stop"))

    agent.plan = silent_after_three
    user = gateway.as_user()

    async with gateway.http.stream("POST", STREAM, json={"message": "Hi"}, headers=user) as first:
        start = read_frames(first)
        last = [await anext(start) for _ in range(3)][-1]
        path = f"/api/v1/runs/{agent.started[0].run_id}/events"
        async with gateway.http.stream("GET", path, headers={**user, "Last-Event-ID": last.id}) as response:
            status = response.status_code
            agent.release.set()
            events = [frame.event async for frame in read_frames(response)]

    assert (status, events) == (200, ["run_finished"])


async def test_idle_stream_gets_pings(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    mesh.agent.plan = answer_begin
    comments: list[str] = []

    async with (
        running_gateway(mesh, valkey.url, ping_interval_s=0.05) as quick,
        quick.http.stream("POST", STREAM, json={"message": "Hi"}, headers=quick.as_user()) as response,
        asyncio.timeout(5),
    ):
        async for line in response.aiter_lines():
            comments += [line] if line.startswith(":") else []
            if len(comments) == 2:
                break

    assert comments == [": ping", ": ping"]
