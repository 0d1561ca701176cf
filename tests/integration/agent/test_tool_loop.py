"""Rounds of model and tools, and their checkpoints."""

import pytest
from mesh.agent.v1 import agent_pb2
from mesh_common.database.postgres import Database
from simulator.client import SimulatorAdmin
from sqlalchemy import text
from support.agent import AgentUnderTest, Followed, some_user


def results(turn: Followed) -> list[tuple[str, str, bool]]:
    finished = [event.tool_finished for event in turn.events if event.HasField("tool_finished")]
    return [(result.tool, result.content, result.is_error) for result in finished]


async def checkpoint_rows(database: Database, run_id: str) -> int:
    async with database.as_worker() as connection:
        count: int = (await connection.execute(_COUNT, {"id": run_id})).scalar_one()
        return count


_COUNT = text("""
    SELECT (SELECT count(*) FROM agent.checkpoints WHERE thread_id = :id)
         + (SELECT count(*) FROM agent.checkpoint_blobs WHERE thread_id = :id)
         + (SELECT count(*) FROM agent.checkpoint_writes WHERE thread_id = :id)
""")


async def test_result_of_a_tool_reaches_the_answer(agent: AgentUnderTest) -> None:
    message = '[[sim:tool=calculate {"expression": "6*7"}]] [[sim:reply=It is {tool_result}.]]'

    turn = await agent.run(some_user(), message)

    assert turn.kinds == [
        "run_started",
        "memory_recalled",
        "tool_started",
        "tool_finished",
        "message_delta",
        "message_completed",
        "run_finished",
    ]
    assert results(turn) == [("calculate", "42", False)]
    assert turn.text == "It is 42."
    assert turn.last.run_finished.finish_reason == "stop"


async def test_usage_counts_all_rounds(agent: AgentUnderTest, simulator: SimulatorAdmin) -> None:
    turn = await agent.run(some_user(), '[[sim:tool=calculate {"expression": "6*7"}]]')

    sent = await simulator.requests()
    usage = turn.last.run_finished.usage
    assert len(sent) == 2
    assert usage.output_tokens == sum(request["tokens"] for request in sent)
    assert usage.cost_micro_usd == usage.input_tokens + 2 * usage.output_tokens


async def test_current_time_is_told_in_a_zone(agent: AgentUnderTest) -> None:
    turn = await agent.run(some_user(), '[[sim:tool=current_time {"timezone": "Asia/Seoul"}]]')

    [(tool, content, is_error)] = results(turn)
    assert tool == "current_time"
    assert "(UTC+0900)" in content
    assert not is_error


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("delete_everything {}", "There is no tool 'delete_everything'."),
        ('calculate {"wrong": 1}', "The arguments are not valid: expression: "),
        ('calculate {"expression": "open(1)"}', "Only numbers, + - * / // % **, parentheses and functions"),
        ('current_time {"timezone": "../etc"}', "This time zone is not known."),
    ],
)
async def test_faulty_call_is_told_to_the_model_which_goes_on(agent: AgentUnderTest, call: str, expected: str) -> None:
    turn = await agent.run(some_user(), f"[[sim:tool={call}]] [[sim:reply=Sorry]]")

    [(_, content, is_error)] = results(turn)
    assert is_error
    assert content.startswith(expected)
    assert turn.text == "Sorry"


async def test_arguments_that_are_no_json_are_told_to_the_model(
    agent: AgentUnderTest, simulator: SimulatorAdmin
) -> None:
    await simulator.put_rules(
        [{"action": {"tool_calls": [{"name": "calculate", "arguments": '{"expr'}], "reply": "ok"}}]
    )

    turn = await agent.run(some_user(), "Hello")

    [(_, content, is_error)] = results(turn)
    assert is_error
    assert content.startswith("The arguments are not a JSON object, and the call was not made.")
    assert turn.text == "ok"


async def test_several_calls_of_one_answer_all_come_back(agent: AgentUnderTest, simulator: SimulatorAdmin) -> None:
    calls = [{"name": "calculate", "arguments": {"expression": f"{number}+1"}} for number in range(3)]
    await simulator.put_rules([{"action": {"tool_calls": calls, "reply": "done"}}])

    turn = await agent.run(some_user(), "Hello")

    shown = (await simulator.requests())[-1]["body"]["messages"]
    assert sorted(content for _, content, _ in results(turn)) == ["1", "2", "3"]
    assert [message["role"] for message in shown] == ["system", "user", "assistant", "tool", "tool", "tool"]


async def test_calls_beyond_the_bound_are_taken_back(agent: AgentUnderTest, simulator: SimulatorAdmin) -> None:
    """A provider rejects the next request while calls of the last answer have no result."""
    calls = [{"name": "calculate", "arguments": {"expression": f"{number}+1"}} for number in range(12)]
    await simulator.put_rules([{"action": {"tool_calls": calls, "reply": "done"}}])

    turn = await agent.run(some_user(), "Hello")

    shown = (await simulator.requests())[-1]["body"]["messages"]
    [answer] = [message for message in shown if message["role"] == "assistant"]
    assert len(results(turn)) == len(answer["tool_calls"]) == 8


async def test_model_that_calls_tools_for_ever_is_stopped_after_eight_rounds(
    agent: AgentUnderTest, simulator: SimulatorAdmin
) -> None:
    turn = await agent.run(some_user(), '[[sim:tool_loop=calculate {"expression": "1+1"}]] [[sim:reply=enough]]')

    sent = await simulator.requests()
    assert len(sent) == 8
    assert "tools" not in sent[-1]["body"]
    assert len(results(turn)) == 7
    assert turn.last.run_finished.finish_reason == "tool_rounds"
    assert turn.text == "enough"


async def test_checkpoints_are_there_while_a_tool_loop_runs_and_gone_after(
    agent: AgentUnderTest, agent_database: Database, simulator: SimulatorAdmin
) -> None:
    user_id = some_user()
    await simulator.put_rules([{"match": {"anywhere": "42"}, "action": {"itl_ms": 20_000}}])
    message = '[[sim:tool=calculate {"expression": "6*7"}]]'

    async with agent.starting(user_id, message) as started:
        await started.until("tool_finished")
        await started.until("message_delta")
        while_running = await checkpoint_rows(agent_database, started.run_id)
        run = await agent.cancel(user_id, started.run_id)

    assert while_running > 0
    assert run.status == agent_pb2.RUN_STATUS_CANCELLED
    assert await checkpoint_rows(agent_database, started.run_id) == 0


async def test_plain_turn_writes_no_checkpoint(agent: AgentUnderTest, agent_database: Database) -> None:
    async with agent.starting(some_user(), "[[sim:reply=a b c]] [[sim:itl=50]]") as started:
        await started.until("message_delta")
        while_running = await checkpoint_rows(agent_database, started.run_id)
        await started.rest()

    assert while_running == 0
    assert await checkpoint_rows(agent_database, started.run_id) == 0
