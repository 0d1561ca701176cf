"""Which resumes are refused, and that of several at once one wins."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.database.postgres import Database
from mesh_common.errors import Conflict, IdempotencyKeyReused, InvalidInput, MeshError, NotFound, PermissionDenied
from mesh_common.ids import OrganisationId, UserId, new_id
from mesh_common.subject import APPROVE_RUNS, Subject
from sqlalchemy import text
from support.agent import AgentUnderTest, Followed, eventually, some_user
from support.approval import (
    ANSWER,
    APPROVE,
    EDIT,
    MARK,
    REJECT,
    asked,
    decision,
    guarding_agent,
    interrupts,
    resume,
    resume_request,
)
from support.mesh import TestMesh
from support.subjects import elsewhere, personal
from support.tool_server import ToolServer, running_tool_server


@pytest.fixture
async def tool() -> AsyncIterator[ToolServer]:
    async with running_tool_server() as server:
        yield server


@pytest.fixture
async def guarded(own_mesh: TestMesh, model_url: str, tool: ToolServer) -> AsyncIterator[AgentUnderTest]:
    async with guarding_agent(own_mesh, model_url, tool) as agent:
        yield agent


type Decisions = Callable[[str], list[pb.Decision]]

REFUSED: list[tuple[str, Decisions, str]] = [
    ("none", lambda _: [], "decisions"),
    ("unknown call", lambda _: [decision("other")], "decisions.0.call_id"),
    ("twice", lambda id_: [decision(id_), decision(id_)], "decisions.1.call_id"),
    ("one too many", lambda id_: [decision(id_), decision("other")], "decisions.1.call_id"),
    ("no decision", lambda id_: [pb.Decision(call_id=id_)], "decisions.0.decision"),
    ("not allowed", lambda id_: [decision(id_, ANSWER, value="yes")], "decisions.0.decision"),
    ("no arguments", lambda id_: [decision(id_, EDIT)], "decisions.0.arguments"),
    ("no object", lambda id_: [decision(id_, EDIT, value=["t"])], "decisions.0.arguments"),
    ("against the schema", lambda id_: [decision(id_, EDIT, value={"token": 5})], "decisions.0.arguments"),
    ("too long", lambda id_: [decision(id_, EDIT, value={"token": "x" * 70_000})], "decisions.0.arguments"),
    ("no JSON", lambda id_: [pb.Decision(call_id=id_, kind=EDIT, value_json="{")], "decisions.0.arguments"),
    (
        "nested",
        lambda id_: [pb.Decision(call_id=id_, kind=EDIT, value_json="[" * 30_000 + "]" * 30_000)],
        "decisions.0.arguments",
    ),
    ("edited approval", lambda id_: [decision(id_, APPROVE, value={"token": "x"})], "decisions.0"),
    ("message of an approval", lambda id_: [decision(id_, APPROVE, message="ok")], "decisions.0.message"),
    ("long message", lambda id_: [decision(id_, REJECT, message="x" * 2_001)], "decisions.0.message"),
    ("NUL", lambda id_: [decision(id_, REJECT, message="a\x00b")], "decisions.0.message"),
]


@pytest.mark.parametrize(("decisions", "field"), [pytest.param(one, field, id=id_) for id_, one, field in REFUSED])
async def test_resume_that_does_not_decide_exactly_what_waits_is_refused(
    guarded: AgentUnderTest, tool: ToolServer, decisions: Decisions, field: str
) -> None:
    user_id = some_user()
    turn = await guarded.run(user_id, MARK)
    [question] = asked(turn)

    with pytest.raises(InvalidInput) as refused:
        await resume(guarded, user_id, resume_request(turn.run_id, *decisions(question.call_id)))

    assert [fault.field for fault in refused.value.fields] == [field]
    assert tool.calls == []
    assert [one.id for one in (await interrupts(guarded, user_id)).interrupts] == [question.id]


@pytest.mark.parametrize(
    "more", [{"message": "Hi"}, {"model": "sim-large"}, {"thread_id": str(new_id())}, {"assistant": "x"}]
)
async def test_resume_takes_nothing_but_decisions(guarded: AgentUnderTest, more: dict[str, Any]) -> None:
    request = resume_request(str(new_id()), decision("call_0"), **more)

    with pytest.raises(InvalidInput) as refused:
        await resume(guarded, some_user(), request)

    assert [fault.field for fault in refused.value.fields] == list(more)


async def test_half_of_the_calls_cannot_be_decided(guarded: AgentUnderTest, tool: ToolServer, simulator: Any) -> None:
    user_id = some_user()
    calls = [{"name": "mark", "arguments": {"token": token}} for token in ("a", "b")]
    await simulator.put_rules([{"action": {"tool_calls": calls, "reply": "ok"}}])
    turn = await guarded.run(user_id, "Mark both.")
    first, second = asked(turn)

    with pytest.raises(InvalidInput) as refused:
        await resume(guarded, user_id, resume_request(turn.run_id, decision(first.call_id)))

    assert second.call_id in refused.value.message
    assert tool.calls == []


async def test_run_that_does_not_wait_cannot_be_resumed(guarded: AgentUnderTest) -> None:
    user_id = some_user()
    turn = await guarded.run(user_id, "Hello")

    with pytest.raises(Conflict) as refused:
        await resume(guarded, user_id, resume_request(turn.run_id, decision("call_0")))

    assert refused.value.reason == "RUN_NOT_WAITING"


async def waiting_run(agent: AgentUnderTest, user_id: UserId) -> tuple[Followed, pb.Decision]:
    turn = await agent.run(user_id, MARK)
    [question] = asked(turn)
    return turn, decision(question.call_id)


async def test_resume_after_the_time_is_refused(guarded: AgentUnderTest, own_database: Database) -> None:
    user_id = some_user()
    turn, approval = await waiting_run(guarded, user_id)
    async with own_database.as_worker() as connection:
        await connection.execute(text("UPDATE agent.interrupts SET expires_at = now()"))

    with pytest.raises(Conflict) as refused:
        await resume(guarded, user_id, resume_request(turn.run_id, approval))

    assert refused.value.reason == "RUN_NOT_WAITING"
    assert not (await interrupts(guarded, user_id)).interrupts


async def test_of_many_resumes_at_once_one_wins(guarded: AgentUnderTest, tool: ToolServer) -> None:
    user_id = some_user()
    turn, approval = await waiting_run(guarded, user_id)
    requests = [resume_request(turn.run_id, approval, idempotency_key=f"key-{number}") for number in range(8)]

    results = await asyncio.gather(*(resume(guarded, user_id, request) for request in requests), return_exceptions=True)

    [won] = [result for result in results if isinstance(result, Followed)]
    refused = [result for result in results if isinstance(result, MeshError)]
    assert won.text == "It says marked."
    assert {type(error) for error in refused} == {Conflict}
    assert len(refused) == 7
    assert len(tool.calls) == 1


async def test_repeated_resume_is_the_same_run(guarded: AgentUnderTest, tool: ToolServer) -> None:
    user_id = some_user()
    turn, approval = await waiting_run(guarded, user_id)
    requests = [resume_request(turn.run_id, approval, idempotency_key="key") for _ in range(4)]

    results = await asyncio.gather(*(resume(guarded, user_id, request) for request in requests))
    again = await resume(guarded, user_id, requests[0])

    assert len({result.run_id for result in [*results, again]}) == 1
    assert len(tool.calls) == 1


async def test_key_of_another_resume_is_refused(guarded: AgentUnderTest) -> None:
    user_id = some_user()
    turn, approval = await waiting_run(guarded, user_id)
    await resume(guarded, user_id, resume_request(turn.run_id, approval, idempotency_key="key"))

    other = resume_request(turn.run_id, decision(approval.call_id, REJECT), idempotency_key="key")
    with pytest.raises(IdempotencyKeyReused):
        await resume(guarded, user_id, other)


def colleague(user_id: UserId, *scopes: str) -> Subject:
    """Another user of the organisation."""
    return Subject(OrganisationId(user_id), some_user(), scopes=frozenset(scopes))


async def test_stranger_finds_no_run_to_resume(guarded: AgentUnderTest) -> None:
    user_id = some_user()
    turn, approval = await waiting_run(guarded, user_id)
    request = resume_request(turn.run_id, approval)
    approver_elsewhere = Subject(OrganisationId(new_id()), some_user(), scopes=frozenset({APPROVE_RUNS}))

    for stranger in (
        personal(some_user()),
        elsewhere(personal(user_id)),
        colleague(user_id),
        colleague(user_id, "runs:other"),
        approver_elsewhere,
    ):
        with pytest.raises(NotFound):
            await resume(guarded, stranger, request)
        assert not (await interrupts(guarded, stranger)).interrupts
    assert not (await interrupts(guarded, approver_elsewhere, is_of_organisation=True)).interrupts
    with pytest.raises(PermissionDenied):
        await interrupts(guarded, colleague(user_id), is_of_organisation=True)


@pytest.mark.parametrize("scope", [APPROVE_RUNS, "admin"])
async def test_approver_of_the_organisation_decides_but_sees_no_more(
    guarded: AgentUnderTest, tool: ToolServer, scope: str
) -> None:
    user_id = some_user()
    approver = colleague(user_id, scope)
    turn, approval = await waiting_run(guarded, user_id)
    listed = (await interrupts(guarded, approver, is_of_organisation=True)).interrupts
    with pytest.raises(PermissionDenied):
        await resume(guarded, approver, resume_request(turn.run_id, approval, follower_id=str(new_id())))

    resumed = await resume(guarded, approver, resume_request(turn.run_id, approval, idempotency_key="key"))
    repeated = await resume(guarded, approver, resume_request(turn.run_id, approval, idempotency_key="key"))
    run = await eventually(lambda: guarded.get_run(user_id, resumed.run_id), lambda found: found.HasField("ended_at"))
    [decided] = (await guarded.get_run(user_id, turn.run_id)).interrupts

    assert turn.run_id in {one.run_id for one in listed}
    assert not any(event.WhichOneof("event") for event in resumed.events)
    assert repeated.run_id == resumed.run_id
    assert (run.status, run.message.content) == (pb.RUN_STATUS_SUCCEEDED, "It says marked.")
    assert decided.decision.decided_by == str(approver.user_id)
    assert [call.headers["Mesh-On-Behalf-Of"] for call in tool.calls] == [str(user_id)]
    with pytest.raises(NotFound):
        await guarded.calls.unary(
            guarded.stub.GetRun, pb.GetRunRequest(run_id=resumed.run_id), timeout_s=5, subject=approver
        )


async def test_what_waits_is_listed_in_pages_oldest_first(guarded: AgentUnderTest) -> None:
    user_id = some_user()
    turns = [await guarded.run(user_id, MARK) for _ in range(3)]

    first = await interrupts(guarded, user_id, limit=2)
    rest = await interrupts(guarded, user_id, limit=2, cursor=first.next_cursor)

    assert [one.run_id for one in [*first.interrupts, *rest.interrupts]] == [turn.run_id for turn in turns]
    assert not rest.HasField("next_cursor")
    with pytest.raises(InvalidInput):
        await interrupts(guarded, user_id, cursor="x")
