"""Answers that are JSON of a schema: checked, asked for once more, and never half shown."""

import json
from typing import Any

import pytest
from mesh.agent.v1 import agent_pb2 as pb
from mesh_common.errors import InvalidInput
from mesh_common.ids import new_id
from simulator.client import SimulatorAdmin
from support.agent import AgentUnderTest, Followed, agent_settings, running_agent, some_user
from support.mesh import TestMesh
from support.subjects import personal

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer", "minimum": 0}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
RIGHT = '{"city": "Paris", "people": 2000000}'
READ = {"city": "Paris", "people": 2_000_000}


def form(schema: Any = SCHEMA, **more: Any) -> str:
    return json.dumps({"type": "json_schema", "json_schema": {"schema": schema, **more}})


async def answering(simulator: SimulatorAdmin, *replies: str) -> None:
    """The model's answers, one after the other."""
    rules = [{"match": {"times": 1}, "action": {"reply": reply}} for reply in replies]
    await simulator.put_rules(rules)


async def run(agent: AgentUnderTest, **fields: Any) -> Followed:
    return await agent.run(some_user(), "Where?", **{"response_format_json": form()} | fields)


def completed(turn: Followed) -> pb.MessageCompleted:
    return next(event.message_completed for event in turn.events if event.HasField("message_completed"))


@pytest.mark.parametrize(
    "reply", [RIGHT, f"```json\n{RIGHT}\n```", f"<think>{{}}</think>{RIGHT}", f"Here you are: {RIGHT} Anything else?"]
)
async def test_answer_is_the_json_that_the_model_means(
    agent: AgentUnderTest, simulator: SimulatorAdmin, reply: str
) -> None:
    await answering(simulator, reply)

    turn = await run(agent)

    assert json.loads(turn.text) == READ
    assert (completed(turn).content, completed(turn).is_json, completed(turn).model) == (turn.text, True, "sim-large")
    [request] = await simulator.requests()
    assert request["body"]["response_format"]["json_schema"] == {"name": "answer", "schema": SCHEMA, "strict": False}
    assert turn.last.run_finished.finish_reason == "stop"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("I do not know.", "no JSON object"),
        ('{"city": "Paris"}', "people"),
        ('{"city": "Paris", "people": -1}', "people: "),
        ('{"city": "Par', "no JSON object"),
    ],
)
async def test_answer_that_does_not_fit_is_asked_for_once_more(
    agent: AgentUnderTest, simulator: SimulatorAdmin, wrong: str, named: str
) -> None:
    await answering(simulator, wrong, RIGHT)

    turn = await run(agent)

    _, second = await simulator.requests()
    assert json.loads(turn.text) == READ
    assert wrong not in turn.text
    assert named in json.dumps(second)
    # Both answers are paid.
    assert turn.last.run_finished.usage.output_tokens > len(RIGHT.split()) + len(wrong.split()) - 1


async def test_answer_that_does_not_fit_twice_fails_the_run_and_is_not_shown(
    agent: AgentUnderTest, simulator: SimulatorAdmin
) -> None:
    await answering(simulator, "No.", "Never.", RIGHT)

    turn = await run(agent)

    error = turn.last.run_failed.error
    assert (error.reason, error.is_retryable) == ("OUTPUT_INVALID", False)
    assert "no JSON object" in error.detail
    assert turn.text == ""
    assert len(await simulator.requests()) == 2


async def test_tools_are_called_before_the_answer(agent: AgentUnderTest, simulator: SimulatorAdmin) -> None:
    call = {"name": "calculate", "arguments": {"expression": "6*7"}}
    await simulator.put_rules(
        [
            {"match": {"times": 1}, "action": {"tool_calls": [call]}},
            {"action": {"reply": '{"city": "Bonn", "people": {tool_result}}'}},
        ]
    )

    turn = await run(agent)

    assert json.loads(turn.text) == {"city": "Bonn", "people": 42}


async def test_form_of_an_assistant_counts_unless_the_request_names_another(
    own_mesh: TestMesh, model_url: str, simulator: SimulatorAdmin, tmp_path: Any
) -> None:
    other = {"type": "array", "items": {"type": "integer"}}
    spec = {"parameters": {"response_format": json.loads(form())}}
    (tmp_path / "default.yaml").write_text(json.dumps(spec))
    settings = agent_settings(own_mesh, model_url, AGENT_ASSISTANTS_DIR=str(tmp_path))
    async with running_agent(own_mesh, settings) as agent:
        await answering(simulator, RIGHT)
        own = await agent.run(some_user(), "Where?")
        await answering(simulator, "[1, 2]")
        asked = await agent.run(some_user(), "How many?", response_format_json=form(other))

    assert json.loads(own.text) == READ
    assert json.loads(asked.text) == [1, 2]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ("{", "response_format"),
        ('{"type": "text"}', "response_format.type"),
        ('{"type": "json_schema"}', "response_format.json_schema"),
        (form({"type": "string"}), "response_format.json_schema.schema"),
        (form({"type": "object", "properties": 5}), "response_format.json_schema.schema"),
        (form({"$ref": "https://example.com/schema.json"}), "response_format.json_schema.schema"),
        (form({"type": "object", "description": "x" * 32_769}), "response_format.json_schema.schema"),
        (form(name="not a name"), "response_format.json_schema.name"),
    ],
)
async def test_form_that_is_none_is_refused(agent: AgentUnderTest, given: str, field: str) -> None:
    user_id = some_user()
    request = pb.StartRunRequest(run_id=str(new_id()), message="Hi", response_format_json=given)

    with pytest.raises(InvalidInput) as refused:
        async with agent.calls.stream(agent.stub.StartRun, request, timeout_s=5, subject=personal(user_id)) as stream:
            await stream.initial_metadata()

    assert [fault.field for fault in refused.value.fields] == [field]
