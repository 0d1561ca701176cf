"""Turns whose provider fails: retries, the next model, or one clear error."""

import pytest
from mesh.agent.v1 import agent_pb2
from mesh_common.ids import new_id
from simulator.client import SimulatorAdmin
from support.agent import AgentUnderTest, agent_settings, running_agent, some_user
from support.mesh import TestMesh

LARGE = {"model": "sim-large"}


async def asked(simulator: SimulatorAdmin) -> list[str]:
    return [request["model"] for request in await simulator.requests()]


@pytest.mark.parametrize("fault", ["500", "503", "garbage", "end_early", "cut"])
async def test_second_model_answers_after_three_tries_of_the_first(
    fresh_agent: AgentUnderTest, simulator: SimulatorAdmin, fault: str
) -> None:
    await simulator.put_rules([{"match": LARGE, "action": {"fault": fault, "after_tokens": 0, "retry_after_s": 0}}])

    turn = await fresh_agent.run(some_user(), "Hello")

    assert await asked(simulator) == ["sim-large"] * 3 + ["sim-small"]
    assert turn.kinds[-1] == "run_finished"
    assert turn.events[-2].message_completed.model == "sim-small"


async def test_tries_back_off(fresh_agent: AgentUnderTest, simulator: SimulatorAdmin) -> None:
    await simulator.put_rules([{"match": LARGE, "action": {"fault": "500"}}])

    await fresh_agent.run(some_user(), "Hello")

    first, second, third, _ = [request["received_at_s"] for request in await simulator.requests()]
    assert second - first >= 0.2
    assert third - second >= 0.4


async def test_model_that_asks_for_long_patience_is_passed_over(
    fresh_agent: AgentUnderTest, simulator: SimulatorAdmin
) -> None:
    await simulator.put_rules([{"match": LARGE, "action": {"fault": "429", "retry_after_s": 60}}])

    turn = await fresh_agent.run(some_user(), "Hello")

    assert await asked(simulator) == ["sim-large", "sim-small"]
    assert turn.kinds[-1] == "run_finished"


async def test_silent_model_is_passed_over(migrated_mesh: TestMesh, simulator: SimulatorAdmin, model_url: str) -> None:
    await simulator.put_rules([{"match": LARGE, "action": {"fault": "hang"}}])
    settings = agent_settings(migrated_mesh, model_url, AGENT_MODEL_READ_TIMEOUT_S="0.2")

    async with running_agent(migrated_mesh, settings) as impatient:
        turn = await impatient.run(some_user(), "Hello")

    assert await asked(simulator) == ["sim-large", "sim-small"]
    assert turn.kinds[-1] == "run_finished"


@pytest.mark.parametrize("fault", ["cut", "end_early", "garbage"])
async def test_answer_that_is_cut_off_fails_once_and_is_kept_as_partial(
    fresh_agent: AgentUnderTest, simulator: SimulatorAdmin, fault: str
) -> None:
    user_id = some_user()

    turn = await fresh_agent.run(user_id, f"[[sim:reply=one two three four five six]] [[sim:fault={fault}@3]]")

    run = await fresh_agent.get_run(user_id, turn.run_id)
    messages = await fresh_agent.messages(user_id, turn.thread_id)
    failed = turn.last.run_failed
    assert await asked(simulator) == ["sim-large"]
    assert failed.error.reason == ("MODEL_INVALID_ANSWER" if fault == "garbage" else "MODEL_CUT_OFF")
    assert failed.error.is_retryable
    assert failed.usage.output_tokens == 3
    assert failed.usage.input_tokens > 0
    assert failed.usage.cost_micro_usd == failed.usage.input_tokens + 6
    assert run.status == agent_pb2.RUN_STATUS_FAILED
    assert run.model == "sim-large"
    assert turn.text == messages[1].content == run.message.content
    assert messages[1].content.split() == ["one", "two", "three"]
    assert messages[1].is_partial


async def test_thread_goes_on_after_a_failure(fresh_agent: AgentUnderTest, simulator: SimulatorAdmin) -> None:
    user_id = some_user()
    failed = await fresh_agent.run(user_id, "First [[sim:fault=cut@3]]")

    turn = await fresh_agent.run(user_id, "Second", thread_id=failed.thread_id)

    last = (await simulator.requests())[-1]
    assert turn.kinds[-1] == "run_finished"
    assert last["body"]["messages"][-1]["content"] == "Second"


async def test_failure_of_all_models_is_never_said_by_the_assistant(
    fresh_agent: AgentUnderTest, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    await simulator.put_rules([{"action": {"fault": "500"}}])

    turn = await fresh_agent.run(user_id, "Hello")

    messages = await fresh_agent.messages(user_id, turn.thread_id)
    assert turn.kinds == ["run_started", "memory_recalled", "run_failed"]
    assert turn.last.run_failed.error.reason == "MODEL_UNAVAILABLE"
    assert turn.last.run_failed.error.is_retryable
    assert turn.last.run_failed.usage == agent_pb2.Usage()
    assert [message.content for message in messages] == ["Hello"]


async def test_nobody_listening_is_a_model_unavailable(migrated_mesh: TestMesh) -> None:
    settings = agent_settings(migrated_mesh, "http://127.0.0.1:9/v1")

    async with running_agent(migrated_mesh, settings) as alone:
        turn = await alone.run(some_user(), "Hello")

    assert turn.last.run_failed.error.reason == "MODEL_UNAVAILABLE"


async def test_model_that_is_asked_for_comes_first(fresh_agent: AgentUnderTest, simulator: SimulatorAdmin) -> None:
    await fresh_agent.run(some_user(), "Hello", model="sim-small")

    assert await asked(simulator) == ["sim-small"]


async def test_nul_in_an_answer_is_replaced(fresh_agent: AgentUnderTest, simulator: SimulatorAdmin) -> None:
    user_id = some_user()
    await simulator.put_rules([{"action": {"reply": "a\x00b"}}])

    turn = await fresh_agent.run(user_id, "Hello", run_id=str(new_id()))

    assert turn.text == "a\ufffdb"
    assert (await fresh_agent.get_run(user_id, turn.run_id)).message.content == "a\ufffdb"
