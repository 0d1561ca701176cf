"""One turn through the real gRPC server, the real database and a provider's real HTTP protocol."""

import pytest
from fakes.agent.neighbours import FakeReceivers
from mesh.agent.v1 import agent_pb2
from mesh_agent.domain.threads import RecalledMemory
from mesh_common.errors import DeadlineExceeded, Internal, MeshError, Unavailable
from simulator.client import SimulatorAdmin
from support.agent import AgentUnderTest, agent_settings, running_agent, some_user
from support.mesh import TestMesh


async def test_turn_streams_its_answer_and_keeps_it(agent: AgentUnderTest, simulator: SimulatorAdmin) -> None:
    user_id = some_user()

    turn = await agent.run(user_id, "Hello there")

    [sent] = await simulator.requests()
    messages = await agent.messages(user_id, turn.thread_id)
    run = await agent.get_run(user_id, turn.run_id)
    assert turn.kinds == ["run_started", "memory_recalled", "message_delta", "message_completed", "run_finished"]
    assert [event.seq for event in turn.events] == list(range(1, len(turn.events) + 1))
    assert turn.text == sent["reply"]
    assert [message.content for message in messages] == ["Hello there", sent["reply"]]
    assert run.status == agent_pb2.RUN_STATUS_SUCCEEDED
    assert run.usage.output_tokens == sent["tokens"]
    assert run.message.content == sent["reply"]


@pytest.mark.parametrize("error", [Unavailable("away"), DeadlineExceeded("slow"), Internal("at odds with itself")])
async def test_turn_answers_without_memory_and_says_so(
    migrated_mesh: TestMesh, model_url: str, error: MeshError
) -> None:
    memories = FakeReceivers(away=error)
    settings = agent_settings(migrated_mesh, model_url)

    async with running_agent(migrated_mesh, settings, memories=memories) as forgetful:
        turn = await forgetful.run(some_user(), "Hello there")

    [recalled] = [event.memory_recalled for event in turn.events if event.HasField("memory_recalled")]
    assert recalled.is_unavailable
    assert turn.kinds[-1] == "run_finished"


async def test_recalled_memories_are_told_and_shown_to_the_model(
    migrated_mesh: TestMesh, simulator: SimulatorAdmin, model_url: str
) -> None:
    memories = FakeReceivers(recalled=[RecalledMemory("1", "Likes green tea", 0.9)])
    settings = agent_settings(migrated_mesh, model_url)

    async with running_agent(migrated_mesh, settings, memories=memories) as mindful:
        turn = await mindful.run(some_user(), "What do I like?")

    [recalled] = [event.memory_recalled for event in turn.events if event.HasField("memory_recalled")]
    [sent] = await simulator.requests()
    assert [memory.text for memory in recalled.memories] == ["Likes green tea"]
    assert "- Likes green tea" in sent["body"]["messages"][0]["content"]


async def test_model_is_shown_the_thread_before(agent: AgentUnderTest, simulator: SimulatorAdmin) -> None:
    user_id = some_user()
    first = await agent.run(user_id, "My first question [[sim:reply=My first answer]]")

    await agent.run(user_id, "My second question", thread_id=first.thread_id)

    last = (await simulator.requests())[-1]
    shown = [message["content"] for message in last["body"]["messages"]][1:]
    assert shown == ["My first question [[sim:reply=My first answer]]", "My first answer", "My second question"]
