"""Interrupted runs at the gateway: what clients see, what the agent gets, and an agent that cannot do any of it yet."""

from http import HTTPStatus
from typing import Any

import pytest
from fakes.gateway.agent_servicer import an_interrupt
from fakes.gateway.fake_runs import FakeRun, answer_begin
from mesh.agent.v1 import agent_pb2
from mesh_common.errors import InvalidInput
from mesh_common.ids import new_id
from support.gateway import Client

DECISION = {"call_id": "call_0", "decision": "approve"}


async def _asking_run(run: FakeRun) -> None:
    await answer_begin(run)
    usage = agent_pb2.Usage(input_tokens=12, output_tokens=3)
    interrupted = agent_pb2.RunInterrupted(interrupts=[an_interrupt(run.id)], usage=usage)
    await run.write(run_interrupted=interrupted, is_terminal=True, type="run_interrupted")


async def test_answer_of_an_interrupted_run_says_what_it_asks(gateway: Client) -> None:
    gateway.mesh.agent.plan = _asking_run

    response = await gateway.http.post("/api/v1/chatbot/chat", json={"message": "Hi"}, headers=gateway.as_user())

    answer = response.json()
    assert response.status_code == HTTPStatus.OK
    assert answer["finish_reason"] == "interrupted"
    assert answer["usage"]["input_tokens"] == 12
    [asked] = answer["interrupts"]
    assert (asked["tool"], asked["arguments"], asked["allowed"]) == ("pay", {"amount": 5}, ["approve", "reject"])
    assert asked["decision"] is None


@pytest.mark.parametrize(
    ("decision", "kind", "value_json", "message"),
    [
        ({"decision": "approve"}, agent_pb2.DECISION_KIND_APPROVE, "", ""),
        ({"decision": "reject", "message": "No."}, agent_pb2.DECISION_KIND_REJECT, "", "No."),
        ({"decision": "edit", "arguments": {"a": [1]}}, agent_pb2.DECISION_KIND_EDIT, '{"a":[1]}', ""),
        ({"decision": "edit", "arguments": {"a": 2**70}}, agent_pb2.DECISION_KIND_EDIT, f'{{"a":{2**70}}}', ""),
        ({"decision": "answer", "answer": None}, agent_pb2.DECISION_KIND_ANSWER, "null", ""),
        ({"decision": "answer", "answer": "서울"}, agent_pb2.DECISION_KIND_ANSWER, '"서울"', ""),
        ({"decision": "answer"}, agent_pb2.DECISION_KIND_ANSWER, "", ""),
    ],
)
async def test_decision_reaches_the_agent_as_it_was_given(
    gateway: Client,
    decision: dict[str, Any],
    kind: "agent_pb2.DecisionKind.ValueType",
    value_json: str,
    message: str,
) -> None:
    run_id = str(new_id())

    response = await gateway.http.post(
        f"/api/v1/runs/{run_id}/resume",
        json={"decisions": [{"call_id": "call_0"} | decision]},
        headers={**gateway.as_user(), "Idempotency-Key": "k-1"},
    )

    (order,) = gateway.mesh.agent.started
    assert response.status_code == HTTPStatus.ACCEPTED
    assert response.headers["location"] == f"/api/v1/runs/{order.run_id}"
    assert order.run_id != order.resume.run_id == run_id
    [given] = order.resume.decisions
    assert (given.call_id, given.kind, given.value_json, given.message) == ("call_0", kind, value_json, message)
    assert (order.message, order.idempotency_key) == ("", "k-1")
    assert not order.HasField("thread_id")
    # Who resumes in the background, perhaps for somebody else, does not follow.
    assert not order.HasField("follower_id")


async def test_resume_at_an_agent_that_knows_none_can_be_repeated(gateway: Client) -> None:
    """It ignores the field that it does not know, and misses the message."""
    gateway.mesh.agent.error = InvalidInput.of_field("message", "is empty")

    response = await gateway.http.post(
        f"/api/v1/runs/{new_id()}/resume", json={"decisions": [DECISION]}, headers=gateway.as_user()
    )

    assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert int(response.headers["retry-after"]) > 0


async def test_agent_that_knows_no_interrupts_is_unavailable_for_their_list(gateway: Client) -> None:
    gateway.mesh.agent.knows_interrupts = False

    response = await gateway.http.get("/api/v1/interrupts", headers=gateway.as_user())

    assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE


async def test_interrupts_of_the_organisation_need_a_scope(gateway: Client) -> None:
    path = "/api/v1/interrupts?scope=organisation"

    refused = await gateway.http.get(path, headers=gateway.as_user())
    mine = await gateway.http.get("/api/v1/interrupts", headers=gateway.as_user())
    wrong = await gateway.http.get("/api/v1/interrupts?scope=all", headers=gateway.as_user())

    assert refused.status_code == HTTPStatus.FORBIDDEN
    assert [one["tool"] for one in mine.json()["items"]] == ["pay"]
    assert wrong.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
