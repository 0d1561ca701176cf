"""What operators see of a run (trace, metrics, logs), and what they must not see."""

import pytest
from fakes.agent.neighbours import FakeReceivers
from mesh.agent.v1 import agent_pb2
from mesh_agent.domain.threads import RecalledMemory
from prometheus_client import REGISTRY
from simulator.client import SimulatorAdmin
from sqlalchemy import text
from support.agent import AgentUnderTest, agent_settings, eventually, owner_connection, running_agent, some_user
from support.mesh import TestMesh
from support.spans import RecordedSpans, spans

__all__ = ["spans"]

SECRET = "Xyzzy-7"
START = "mesh.agent.v1.AgentService/StartRun"


async def test_run_is_one_trace_under_the_call_that_started_it(agent: AgentUnderTest, spans: RecordedSpans) -> None:
    message = f'{SECRET} [[sim:tool=calculate {{"expression": "6*7"}}]] [[sim:reply={SECRET}]]'
    turn = await agent.run(some_user(), message)

    [server] = [span for span in spans.all() if span.name == START and span.kind.name == "SERVER"]
    run = spans.named("invoke_agent")
    inner = [span for span in spans.all() if span.name.startswith(("chat ", "execute_tool "))]
    assert run.parent is not None
    assert run.parent.span_id == server.context.span_id
    assert (run.attributes or {})["mesh.run_id"] == turn.run_id
    assert sorted(span.name for span in inner) == ["chat sim-large", "chat sim-large", "execute_tool calculate"]
    assert {span.context.trace_id for span in inner} == {server.context.trace_id}
    assert {span.parent.span_id for span in inner if span.parent} == {run.context.span_id}
    assert SECRET not in "".join(span.to_json() for span in spans.all())


async def test_usage_is_on_the_models_span(
    agent: AgentUnderTest, spans: RecordedSpans, simulator: SimulatorAdmin
) -> None:
    await agent.run(some_user(), "Hello")

    attributes = spans.named("chat sim-large").attributes or {}
    [sent] = await simulator.requests()
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.usage.output_tokens"] == sent["tokens"]
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_turn_is_counted(agent: AgentUnderTest) -> None:
    def counts() -> list[float]:
        return [
            value("mesh_agent_runs_total", status="succeeded"),
            value("mesh_agent_first_token_seconds_count"),
            value("mesh_agent_model_tokens_total", model="sim-large", direction="output"),
            value("mesh_agent_model_cost_usd_total", model="sim-large"),
        ]

    before = counts()

    turn = await agent.run(some_user(), "Hello")

    usage = turn.last.run_finished.usage
    added = [after - earlier for earlier, after in zip(before, counts(), strict=True)]
    assert added[:3] == [1, 1, usage.output_tokens]
    assert added[3] == pytest.approx(usage.cost_micro_usd / 1e6)


async def test_turn_that_was_cancelled_is_counted_with_what_it_cost(agent: AgentUnderTest) -> None:
    def counts() -> list[float]:
        return [
            value("mesh_agent_model_tokens_total", model="sim-large", direction="input"),
            value("mesh_agent_model_tokens_total", model="sim-large", direction="output"),
            value("mesh_agent_model_cost_usd_total", model="sim-large"),
        ]

    user_id, before = some_user(), counts()
    async with agent.starting(user_id, "[[sim:itl=20000]]") as started:
        await started.until("message_delta")

        usage = (await agent.cancel(user_id, started.run_id)).usage

    added = [after - earlier for earlier, after in zip(before, counts(), strict=True)]
    assert usage.input_tokens > 0
    assert added == pytest.approx([usage.input_tokens, usage.output_tokens, usage.cost_micro_usd / 1e6])


async def test_lines_of_a_run_and_of_its_call_name_it(
    agent: AgentUnderTest, capsys: pytest.CaptureFixture[str]
) -> None:
    user_id = some_user()
    turn = await agent.run(user_id, "Hello")
    await agent.follow(user_id, turn.run_id)
    await agent.create_thread(user_id)

    lines = capsys.readouterr().out.splitlines()
    for named in ("run.ended", "AgentService/StartRun", "AgentService/FollowRun"):
        [line] = [line for line in lines if named in line]
        assert f"run_id={turn.run_id}" in line
        assert f"thread_id={turn.thread_id}" in line
    [line] = [line for line in lines if "AgentService/CreateThread" in line]
    assert "run_id" not in line


async def test_running_runs_and_followers_are_counted(agent: AgentUnderTest) -> None:
    user_id = some_user()
    async with agent.starting(user_id, "[[sim:itl=20000]]") as started:
        await started.until("message_delta")

        counts = value("mesh_agent_runs_running"), value("mesh_agent_followers")

        await agent.cancel(user_id, started.run_id)
    assert counts[0] >= 1
    assert counts[1] >= 1


async def test_no_database_connection_is_held_while_text_streams(own_mesh: TestMesh, model_url: str) -> None:
    user_id = some_user()
    settings = agent_settings(own_mesh, model_url, AGENT_DATABASE_POOL_SIZE="1", AGENT_DATABASE_MAX_OVERFLOW="0")
    async with running_agent(own_mesh, settings) as narrow, narrow.starting(user_id, "[[sim:itl=20000]]") as one:
        await one.until("message_delta")

        async with narrow.starting(user_id, "[[sim:itl=20000]]") as other:
            await other.until("message_delta")

            for started in (one, other):
                await narrow.cancel(user_id, started.run_id)


async def test_run_whose_end_cannot_be_stored_crashes_alone_and_is_tried_again(
    own_mesh: TestMesh, model_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its lease is no longer renewed, so the next attempt starts when it expires. No text gets into the log."""
    user_id = some_user()
    memories = FakeReceivers(recalled=[RecalledMemory("1", "x", 0.9)])
    settings = agent_settings(own_mesh, model_url, AGENT_LEASE_TTL_S="1")
    async with running_agent(own_mesh, settings, memories=memories) as agent:
        async with agent.starting(user_id, f"{SECRET} [[sim:reply=Xyzzy-7 b]] [[sim:itl=300]]") as started:
            await started.until("message_delta")
            await _refuse_next_answer(own_mesh)
            rest = await started.rest()
        run = await eventually(
            lambda: agent.get_run(user_id, started.run_id),
            lambda found: found.status == agent_pb2.RUN_STATUS_SUCCEEDED,
        )

    out = capsys.readouterr().out
    assert "run_finished" not in [event.WhichOneof("event") for event in rest]
    assert run.attempt == 2
    assert "run.not_ended" in out
    assert SECRET not in out


async def _refuse_next_answer(mesh: TestMesh) -> None:
    """The next insert of an answer fails with an unexpected error; the one after it succeeds."""
    async with owner_connection(mesh) as connection:
        for statement in _REFUSAL:
            await connection.execute(text(statement))


# A sequence keeps its value even if the transaction is rolled back.
_REFUSAL = (
    "CREATE SEQUENCE agent.answers",
    "GRANT USAGE ON SEQUENCE agent.answers TO agent_app",
    """
    CREATE FUNCTION agent.refuse_first() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.part = 1 AND nextval('agent.answers') = 1 THEN
            RAISE 'refused: %', NEW.content;
        END IF;
        RETURN NEW;
    END $$
    """,
    "CREATE TRIGGER refuse_first BEFORE INSERT ON agent.messages FOR EACH ROW EXECUTE FUNCTION agent.refuse_first()",
)
