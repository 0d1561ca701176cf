"""This release's gateway with agents of the next and of the previous release."""

from http import HTTPStatus
from typing import Any, cast

import pytest
from fakes.gateway.fake_runs import FakeRun, answer_begin, answer_whole
from mesh.agent.v1 import agent_pb2
from support.gateway import Client, frames_of
from support.newer_release import newer_release

CHAT = "/api/v1/chatbot/chat"
STREAM = "/api/v1/chatbot/chat/stream"


def _event(name: str, *, is_terminal: bool = False, **fields: Any) -> bytes:
    """An event of a newer agent in its wire encoding."""
    newer = newer_release()
    kind = "".join(part.capitalize() for part in name.split("_"))
    event = newer.message("RunEvent")(type=name, is_terminal=is_terminal, **{name: newer.message(kind)(**fields)})
    return bytes(event.SerializeToString())


async def _newer_run(run: FakeRun) -> None:
    newer = newer_release()
    await answer_begin(run)
    await run.write_wire(_event("plan_made", steps=["look", "answer"]))
    await run.write_wire(_event("message_delta", message_id=run.id, text="ris.", language="fr"))
    await run.write_wire(_event("message_completed", message_id=run.id, content="Paris.", model="sim"))
    usage = newer.message("Usage")(input_tokens=12, output_tokens=3, cost_micro_usd=45, cached_input_tokens=7)
    await run.write_wire(_event("run_finished", is_terminal=True, finish_reason="stop", usage=usage))


async def _interrupted_run(run: FakeRun) -> None:
    await answer_begin(run)
    await run.write_wire(_event("run_paused", is_terminal=True, question="May I?"))


async def test_events_and_fields_of_a_newer_agent_do_not_stop_a_stream(gateway: Client) -> None:
    gateway.mesh.agent.plan = _newer_run

    response = await gateway.http.post(STREAM, json={"message": "Hi"}, headers=gateway.as_user())

    frames = frames_of(response.text)
    assert [frame.event for frame in frames] == [
        "run_started",
        "memory_recalled",
        "message_delta",
        "plan_made",
        "message_delta",
        "message_completed",
        "run_finished",
    ]
    assert [frame.data["seq"] for frame in frames] == list(range(1, 8))
    assert frames[3].data == {"type": "plan_made", "seq": 4}
    assert set(frames[4].data) == {"type", "seq", "message_id", "text"}
    assert frames[6].data["usage"] == {"input_tokens": 12, "output_tokens": 3, "cost_usd": 0.000045}
    assert gateway.mesh.agent.follows == []


async def test_events_of_a_newer_agent_do_not_stop_an_answer(gateway: Client) -> None:
    gateway.mesh.agent.plan = _newer_run

    response = await gateway.http.post(CHAT, json={"message": "Hi"}, headers=gateway.as_user())

    assert response.json()["message"]["content"] == "Paris."


async def test_end_that_only_a_newer_agent_knows_ends_a_stream(gateway: Client) -> None:
    user = gateway.as_user()
    gateway.mesh.agent.plan = _interrupted_run

    response = await gateway.http.post(STREAM, json={"message": "Hi"}, headers=user)
    frames = frames_of(response.text)
    again = await gateway.http.get(
        response.headers["content-location"], headers={**user, "Last-Event-ID": frames[-1].id}
    )

    assert frames[-1].data == {"type": "run_paused", "seq": 4}
    assert again.status_code == HTTPStatus.NO_CONTENT
    # Only the requested one: the gateway did not treat the stream as cut.
    assert len(gateway.mesh.agent.follows) == 1


async def test_end_that_only_a_newer_agent_knows_is_the_end_of_waiting(gateway: Client) -> None:
    gateway.mesh.agent.plan = _interrupted_run

    response = await gateway.http.post(CHAT, json={"message": "Hi"}, headers=gateway.as_user())

    problem = response.json()
    assert response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert (problem["reason"], problem["run_status"]) == ("UNKNOWN_END", "unknown")


async def test_one_status_of_a_newer_agent_is_unknown_and_the_list_is_whole(gateway: Client) -> None:
    user = gateway.as_user()
    thread = (await gateway.http.post("/api/v1/threads", json={}, headers=user)).json()["id"]
    path = f"/api/v1/threads/{thread}/runs"
    for _ in range(2):
        await gateway.http.post(f"{path}/wait", json={"message": "Hi"}, headers=user)
    interrupted = newer_release().value("RunStatus", "RUN_STATUS_PAUSED")
    newest = list(gateway.mesh.agent.runs.values())[-1]
    newest.shown_status = cast("agent_pb2.RunStatus.ValueType", interrupted)

    listed = await gateway.http.get(path, headers=user)
    one = await gateway.http.get(f"/api/v1/runs/{newest.id}", headers=user)

    assert sorted(run["status"] for run in listed.json()["items"]) == ["succeeded", "unknown"]
    assert one.json()["status"] == "unknown"


async def test_runs_cannot_be_listed_by_an_unknown_status(gateway: Client) -> None:
    user = gateway.as_user()
    thread = (await gateway.http.post("/api/v1/threads", json={}, headers=user)).json()["id"]

    response = await gateway.http.get(f"/api/v1/threads/{thread}/runs?status=unknown", headers=user)

    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY


async def test_role_of_a_newer_agent_is_unknown(gateway: Client) -> None:
    user = gateway.as_user()
    thread = (await gateway.http.post("/api/v1/threads", json={}, headers=user)).json()["id"]
    narrator = newer_release().value("MessageRole", "MESSAGE_ROLE_NARRATOR")
    gateway.mesh.agent.role = cast("agent_pb2.MessageRole.ValueType", narrator)

    response = await gateway.http.get(f"/api/v1/threads/{thread}/messages", headers=user)

    assert [message["role"] for message in response.json()["items"]] == ["unknown"]


@pytest.mark.parametrize(
    "acknowledges_by",
    [{"metadata"}, {"metadata", "message"}, {"message"}],
    ids=["release 0.1.0", "this release", "next release"],
)
async def test_acknowledgement_of_each_release_is_understood(gateway: Client, acknowledges_by: set[str]) -> None:
    user = gateway.as_user()
    gateway.mesh.agent.acknowledges_by = frozenset(acknowledges_by)

    started = await gateway.http.post(STREAM, json={"message": "Hi"}, headers=user)
    frames = frames_of(started.text)
    run_id = gateway.mesh.agent.started[0].run_id
    followed = await gateway.http.get(f"/api/v1/runs/{run_id}/events", headers=user)
    seen_whole = await gateway.http.get(
        f"/api/v1/runs/{run_id}/events", headers={**user, "Last-Event-ID": frames[-1].id}
    )

    assert started.headers["location"] == f"/api/v1/runs/{run_id}"
    assert [frame.data["seq"] for frame in frames] == list(range(1, 8))
    assert followed.text == started.text
    assert seen_whole.status_code == HTTPStatus.NO_CONTENT


async def test_run_that_the_next_release_carries_on_a_shared_stream_is_delivered_there(gateway: Client) -> None:
    agent = gateway.mesh.agent
    agent.acknowledges_by = frozenset({"message"})
    agent.address = f"127.0.0.1:{gateway.mesh.ports['agent']}"
    agent.plan = answer_whole
    user = gateway.as_user()
    await gateway.http.post(STREAM, json={"message": "Hi"}, headers=user)
    await agent.shared_opened.wait()

    response = await gateway.http.post(STREAM, json={"message": "Hi"}, headers=user)

    assert [frame.data["seq"] for frame in frames_of(response.text)] == list(range(1, 8))
    assert agent.follows == []
