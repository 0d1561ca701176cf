"""Runs of assistants: what they are asked with, which one a thread uses, and how one is stopped."""

import asyncio
from pathlib import Path

import pytest
from fakes.agent.neighbours import FakeEntitlements
from mesh_agent.domain.entitlements import Entitlements
from mesh_common.database.postgres import Database
from mesh_common.errors import InvalidInput, NotFound, PermissionDenied, PreconditionFailed
from mesh_common.ids import new_id
from mesh_common.subject import Subject
from sqlalchemy import text
from support.agent import AgentUnderTest, agent_settings, eventually, owner_connection, running_agent, some_user
from support.approval import asked, decision, guarding_agent, resume, resume_request
from support.assistants import AssistantCalls, member, spec
from support.mesh import TestMesh
from support.tool_server import ToolServer

MARK = '[[sim:tool=mark {"token": "t-1"}]] [[sim:reply=It says {tool_result}.]]'


def calls_of(agent: AgentUnderTest, *scopes: str) -> AssistantCalls:
    return AssistantCalls(agent, member(some_user(), *scopes))


async def test_run_uses_the_instructions_and_says_which_version_it_used(agent: AgentUnderTest) -> None:
    ada = calls_of(agent)
    await ada.create(spec(instructions="Speak $how.", variables={"how": "slowly"}))
    turn = await ada.start("[[sim:prompt]]", assistant="pirate")
    await ada.update(spec(instructions="Shout."))
    older = await ada.start("[[sim:prompt]]", assistant="pirate@1")
    newer = await ada.start("[[sim:prompt]]", assistant="pirate")
    runs = [await ada.run_of(one) for one in (turn, older, newer)]

    assert [turn.text, older.text, newer.text] == ["Speak slowly.", "Speak slowly.", "Shout."]
    assert [(run.assistant, run.assistant_version) for run in runs] == [
        ("pirate", "1"),
        ("pirate", "1"),
        ("pirate", "2"),
    ]


async def test_thread_remembers_its_assistant_on_every_replica(own_mesh: TestMesh, model_url: str) -> None:
    ada = member(some_user())
    async with (
        running_agent(own_mesh, agent_settings(own_mesh, model_url)) as one,
        running_agent(own_mesh, agent_settings(own_mesh, model_url)) as other,
    ):
        here, there = AssistantCalls(one, ada), AssistantCalls(other, ada)
        await here.create()
        first = await here.start("[[sim:prompt]]", assistant="pirate")
        second = await there.start("[[sim:prompt]]", thread_id=first.thread_id)
        third = await there.start("[[sim:prompt]]", thread_id=first.thread_id, assistant="default")
        fourth = await here.start("[[sim:prompt]]", thread_id=first.thread_id)
        thread = await here.thread_of(first)

    assert second.text == first.text == "Answer as a pirate."
    assert fourth.text == third.text != first.text
    assert thread.assistant == "default"


async def test_run_without_an_assistant_is_of_the_default_one(agent: AgentUnderTest) -> None:
    ada = calls_of(agent)

    turn = await ada.start()

    run = await ada.run_of(turn)
    assert (run.assistant, run.assistant_version) == ("default", "")
    assert (await ada.thread_of(turn)).assistant == ""


@pytest.mark.parametrize("reference", ["nobody", "nobody@1", "default@1", "pirate@9"])
async def test_unknown_assistant_or_version_starts_nothing(agent: AgentUnderTest, reference: str) -> None:
    ada = calls_of(agent)
    await ada.create()
    run_id = str(new_id())

    with pytest.raises(NotFound) as refused:
        await ada.start(assistant=reference, run_id=run_id)

    assert refused.value.reason == "NO_SUCH_ASSISTANT"


@pytest.mark.parametrize("reference", ["", "No Slug", "pirate@", "pirate@x y", "a" * 64, "pirate@1@2"])
async def test_reference_that_is_none_is_refused(agent: AgentUnderTest, reference: str) -> None:
    with pytest.raises(InvalidInput):
        await calls_of(agent).start(assistant=reference)


async def test_repeated_request_gives_its_run_although_the_assistant_is_gone(agent: AgentUnderTest) -> None:
    ada = calls_of(agent)
    await ada.create()
    first = await ada.start(assistant="pirate", idempotency_key="key")
    await ada.delete()

    again = await ada.start(assistant="pirate", idempotency_key="key")

    assert again.run_id == first.run_id


async def test_assistant_narrows_models_tools_and_rounds(agent: AgentUnderTest) -> None:
    ada = calls_of(agent)
    await ada.create(spec(models=["sim-small"], tools=[], limits={"rounds": 3}))

    turn = await ada.start(
        '[[sim:tool=calculate {"expression": "6*7"}]] [[sim:reply={tool_result}]]', assistant="pirate"
    )

    assert (await ada.run_of(turn)).model == "sim-small"
    assert not [event for event in turn.events if event.HasField("tool_started")]
    with pytest.raises(InvalidInput):
        await ada.start(assistant="pirate", model="sim-large")


async def test_models_and_tools_still_pass_the_entitlements(own_mesh: TestMesh, model_url: str) -> None:
    entitlements = FakeEntitlements()
    async with running_agent(own_mesh, agent_settings(own_mesh, model_url), entitlements=entitlements) as agent:
        ada = calls_of(agent)
        entitlements.by_user[ada.subject.user_id] = Entitlements(models=("sim-large",), tools=())
        await ada.create(spec(models=["sim-small"]))
        with pytest.raises(PermissionDenied):
            await ada.start(assistant="pirate")


async def test_used_up_tokens_make_the_next_answer_the_last(agent: AgentUnderTest) -> None:
    ada = calls_of(agent)
    await ada.create(spec(limits={"tokens": 1}))

    turn = await ada.start('[[sim:tool_loop=calculate {"expression": "6*7"}]]', assistant="pirate")

    assert turn.last.run_finished.finish_reason == "tool_rounds"
    assert len([event for event in turn.events if event.HasField("tool_started")]) == 1


async def test_plan_outlives_the_replica_that_knew_the_assistant(
    own_mesh: TestMesh, model_url: str, tool: ToolServer, tmp_path: Path
) -> None:
    """The run is resumed by a replica without the file."""
    (tmp_path / "pirate.yaml").write_text("instructions: Answer as a pirate.\n")
    user_id = some_user()
    ada = Subject.personal(user_id)
    async with guarding_agent(own_mesh, model_url, tool, AGENT_ASSISTANTS_DIR=str(tmp_path)) as agent:
        turn = await AssistantCalls(agent, ada).start(f"{MARK}", assistant="pirate")
        [question] = asked(turn)
    async with guarding_agent(own_mesh, model_url, tool) as agent:
        resumed = await resume(agent, user_id, resume_request(turn.run_id, decision(question.call_id)))
        run = await AssistantCalls(agent, ada).run_of(resumed)

    assert resumed.text == "It says marked."
    assert run.assistant == "pirate"


async def test_disabled_assistant_starts_no_run_and_stops_those_of_all_replicas(
    own_mesh: TestMesh, model_url: str
) -> None:
    ada = member(some_user())
    async with (
        running_agent(own_mesh, agent_settings(own_mesh, model_url)) as one,
        running_agent(own_mesh, agent_settings(own_mesh, model_url)) as other,
    ):
        here, there = AssistantCalls(one, ada), AssistantCalls(other, ada)
        await here.create()
        slow = "[[sim:itl=20000]] [[sim:tokens=9]]"
        async with asyncio.TaskGroup() as group, asyncio.timeout(10):
            running = [group.create_task(calls.start(slow, assistant="pirate")) for calls in (here, there)]
            default = group.create_task(there.start("[[sim:ttft=3000]] [[sim:reply=Fine.]]"))
            await eventually(lambda: _running(own_mesh), lambda count: count == 3)
            await here.disable()
            began_at = asyncio.get_running_loop().time()
            ends = [(await task).last.WhichOneof("event") for task in running]
            took_s = asyncio.get_running_loop().time() - began_at
        for calls in (here, there):
            with pytest.raises(PreconditionFailed) as refused:
                await _until_refused(calls)
            assert refused.value.reason == "ASSISTANT_DISABLED"
        await there.disable(is_disabled=False)
        again = await there.start("[[sim:reply=Aye.]]", assistant="pirate")

    assert ends == ["run_cancelled", "run_cancelled"]
    assert took_s < 5
    assert default.result().text == "Fine."
    assert again.text == "Aye."


async def _until_refused(calls: AssistantCalls) -> None:
    """Another replica learns of it within two seconds."""
    async with asyncio.timeout(5):
        while True:
            await calls.start("[[sim:reply=Aye.]]", assistant="pirate")


async def _running(mesh: TestMesh) -> int:
    async with owner_connection(mesh) as connection:
        return int((await connection.execute(text("SELECT count(*) FROM agent.leases"))).scalar_one())


async def test_waiting_run_of_a_disabled_assistant_is_not_resumed(
    own_mesh: TestMesh, model_url: str, tool: ToolServer
) -> None:
    user_id = some_user()
    async with guarding_agent(own_mesh, model_url, tool) as agent:
        ada = AssistantCalls(agent, Subject.personal(user_id))
        await ada.create()
        turn = await ada.start(MARK, assistant="pirate")
        [question] = asked(turn)
        await ada.disable()
        with pytest.raises(PreconditionFailed):
            await resume(agent, user_id, resume_request(turn.run_id, decision(question.call_id)))
        await ada.disable(is_disabled=False)
        resumed = await resume(agent, user_id, resume_request(turn.run_id, decision(question.call_id)))

    assert resumed.text == "It says marked."
    assert len(tool.calls) == 1


async def test_administrator_stops_the_default_assistant(own_mesh: TestMesh, model_url: str) -> None:
    async with running_agent(own_mesh, agent_settings(own_mesh, model_url)) as agent:
        admin, ada = calls_of(agent, "admin"), calls_of(agent)
        await admin.disable("default")
        with pytest.raises(PreconditionFailed):
            await ada.start()
        assert (await ada.get("default")).is_disabled
        await admin.disable("default", is_disabled=False)
        assert (await ada.start("[[sim:reply=Back.]]")).text == "Back."


async def test_run_whose_assistant_remembers_nothing_is_not_sent_to_memory(
    own_mesh: TestMesh, own_database: Database, model_url: str
) -> None:
    user_id = some_user()
    async with running_agent(own_mesh, agent_settings(own_mesh, model_url)) as agent:
        ada = AssistantCalls(agent, Subject.personal(user_id))
        await ada.create(spec(memory="off"))
        turn = await ada.start(assistant="pirate")
    async with own_database.as_worker() as connection:
        jobs = (
            await connection.execute(text("SELECT count(*) FROM agent.outbox WHERE kind = 'remember'"))
        ).scalar_one()

    assert turn.last.HasField("run_finished")
    assert not [event for event in turn.events if event.HasField("memory_recalled")]
    assert jobs == 0
