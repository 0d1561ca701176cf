"""Graphs of installed packages, run by the agent as it runs: their answers, events, effects and questions."""

from pathlib import Path

import pytest
from fakes.agent.neighbours import FakeReceivers
from langgraph.checkpoint.memory import InMemorySaver
from mesh.agent.v1 import agent_pb2 as pb
from mesh_agent.graph.coded.definitions import installed_graphs
from mesh_common.database.postgres import Database
from support.agent import agent_settings, running_agent, some_user
from support.approval import ANSWER, REJECT, asked, decision, interrupts, resume, resume_request, stored
from support.coded_graphs import FAILURES, Opening, install, times_blocked
from support.mesh import TestMesh
from support.tool_server import ToolServer


async def test_graph_answers_with_steps_events_and_one_bill(opening: Opening, tool: ToolServer) -> None:
    async with opening("report", config={"topics": 3}) as agent:
        turn = await agent.run(some_user(), "Report!")
    steps = [event.step_started.step for event in turn.events if event.HasField("step_started")]
    customs = sorted(event.custom.data_json for event in turn.events if event.HasField("custom"))

    assert turn.text == "Report on about t0, about t1, about t2.\n\nIt says marked."
    assert turn.last.run_finished.finish_reason == "stop"
    assert steps == ["plan", "search", "search", "search", "publish"]
    assert customs == [f'{{"topic":"t{number}"}}' for number in range(3)]
    assert len(tool.calls) == 1
    # Five answers of models: three of a word or two, which the user does not see, count as well.
    assert turn.last.run_finished.usage.output_tokens > 10


async def test_call_that_needs_approval_waits_and_what_came_before_is_not_repeated(
    opening: Opening, tool: ToolServer, own_database: Database
) -> None:
    user_id = some_user()
    async with opening("report", approval="always") as agent:
        turn = await agent.run(user_id, "Report!")
        [question] = asked(turn)
        resumed = await resume(agent, user_id, resume_request(turn.run_id, decision(question.call_id)))

    assert (question.tool, question.arguments_json) == ("mark", '{"token":"t-1"}')
    assert turn.text == "Report on about t0, about t1."
    assert resumed.text == "It says marked."
    assert len(tool.calls) == 1
    # One answer of a model, and not the three of the run before.
    assert resumed.last.run_finished.usage.output_tokens < turn.last.run_interrupted.usage.output_tokens
    assert [event.step_started.step for event in resumed.events if event.HasField("step_started")] == ["publish"]
    assert await stored(own_database, turn.run_id) == 0


async def test_rejected_call_is_told_to_the_graph(opening: Opening, tool: ToolServer) -> None:
    user_id = some_user()
    async with opening("report", approval="always") as agent:
        turn = await agent.run(user_id, "Report!")
        [question] = asked(turn)
        request = resume_request(turn.run_id, decision(question.call_id, REJECT, message="Not now."))
        resumed = await resume(agent, user_id, request)

    assert "A person rejected this call" in resumed.text
    assert "Not now." in resumed.text
    assert tool.calls == []


async def test_graph_asks_a_person_in_both_ways_within_one_node(opening: Opening) -> None:
    user_id = some_user()
    async with opening("asking") as agent:
        first = await agent.run(user_id, "Trip")
        [city] = asked(first)
        second = await resume(
            agent, user_id, resume_request(first.run_id, decision(city.call_id, ANSWER, value="Rome"))
        )
        [days] = asked(second)
        waiting = (await interrupts(agent, user_id)).interrupts
        third = await resume(agent, user_id, resume_request(second.run_id, decision(days.call_id, ANSWER, value=3)))

    assert (city.question, city.tool, city.kind) == ("Which city?", "", pb.INTERRUPT_KIND_QUESTION)
    assert (days.question, days.answer_schema_json) == ("How many days?", '{"type":"integer"}')
    assert [one.id for one in waiting] == [days.id]
    assert third.text == "one: 3 days in Rome"


async def test_refused_answer_is_told_to_the_graph(opening: Opening) -> None:
    user_id = some_user()
    async with opening("asking") as agent:
        first = await agent.run(user_id, "Trip")
        [city] = asked(first)
        request = resume_request(first.run_id, decision(city.call_id, REJECT, message="I stay."))
        second = await resume(agent, user_id, request)

    assert second.text == "No city: I stay."


async def test_node_that_is_tried_again_repeats_nothing(opening: Opening, tool: ToolServer) -> None:
    FAILURES.clear()
    async with opening("flaky") as agent:
        turn = await agent.run(some_user(), "Go")

    assert turn.text == "one marked"
    assert len(FAILURES) == 2
    assert len(tool.calls) == 1
    assert turn.last.run_finished.usage.output_tokens == 1


async def test_graph_within_a_graph_waits_for_approval(opening: Opening, tool: ToolServer) -> None:
    user_id = some_user()
    async with opening("nested", approval="always") as agent:
        turn = await agent.run(user_id, "Go")
        [question] = asked(turn)
        resumed = await resume(agent, user_id, resume_request(turn.run_id, decision(question.call_id)))

    assert resumed.text == "inner marked"
    assert len(tool.calls) == 1


async def test_last_message_is_the_answer_of_a_graph_that_says_nothing(opening: Opening) -> None:
    user_id = some_user()
    async with opening("silent", fakes={"memories": FakeReceivers()}) as agent:
        first = await agent.run(user_id, "Hello")
        second = await agent.run(user_id, "Again", thread_id=first.thread_id)

    assert first.text == "heard Hello after () knowing ()"
    assert second.text == f"heard Again after (Hello and {first.text}) knowing ()"


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("crashing", {}, "GRAPH_FAILED"),
        ("endless", {"rounds": 3}, "ROUND_LIMIT"),
    ],
)
async def test_graph_that_cannot_run_fails_alone(
    opening: Opening, capsys: pytest.CaptureFixture[str], name: str, options: dict[str, object], reason: str
) -> None:
    async with opening(name, **options) as agent:
        turn = await agent.run(some_user(), "my secret")

    assert turn.last.run_failed.error.reason == reason
    assert "secret" not in turn.last.run_failed.error.detail
    assert "my secret" not in capsys.readouterr().out


async def test_run_of_a_graph_that_is_not_installed_any_more_fails(
    opening: Opening, own_mesh: TestMesh, model_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_id = some_user()
    async with opening("asking") as agent:
        first = await agent.run(user_id, "Trip")
        [city] = asked(first)
    monkeypatch.undo()
    async with running_agent(own_mesh, agent_settings(own_mesh, model_url)) as agent:
        request = resume_request(first.run_id, decision(city.call_id, ANSWER, value="Rome"))
        second = await resume(agent, user_id, request)

    assert second.last.run_failed.error.reason == "GRAPH_UNAVAILABLE"


@pytest.mark.parametrize(
    ("name", "config", "path"),
    [
        ("report", '{"topics": 9}', "graph.config.topics"),
        ("asking", '{"topics": 9}', "graph.config"),
        ("untidy", '{"fails": true}', "graph.config"),
        ("broken", "{}", "graph.name"),
        ("no_graph", "{}", "graph.name"),
    ],
)
def test_configuration_that_a_graph_does_not_take_is_a_fault_of_its_assistant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, config: str, path: str
) -> None:
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    graphs = installed_graphs(InMemorySaver())

    fault = graphs.fault(name, config)

    assert fault is not None
    assert fault.field == path
    assert graphs.fault("report", '{"topics": 3}') is None


async def test_graph_that_blocks_the_event_loop_is_named_and_goes_on(opening: Opening) -> None:
    before = times_blocked()
    async with opening("blocking", AGENT_LEASE_TTL_S="30") as agent:
        turn = await agent.run(some_user(), "Hello")

    assert turn.text == "Hello"
    assert times_blocked() > before
