"""examples/team through the whole mesh: a supervisor of two, streamed, and a conversation that is passed on."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mesh_dev.stack import Stack
from support.api import User
from support.doc_blocks import ROOT
from support.stack import open_stack
from support.teams import asks, says

EXAMPLE = ROOT / "examples" / "team"


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory, mesh_template: Path) -> AsyncIterator[Stack]:
    environment = {"AGENT_ASSISTANTS_DIR": str(EXAMPLE)}
    folder = tmp_path_factory.mktemp("team")
    async with open_stack(folder, mesh_template, service_env={"agent": environment}) as running:
        yield running


async def test_supervisor_of_two_answers_and_its_members_are_marked(user: User) -> None:
    calculation = f"[[sim:tool=calculate {json.dumps({'expression': '6*7'})}]] [[sim:reply=6*7 is {{tool_result}}.]]"
    asked = f"{asks('calculator', calculation)} {asks('writer', says('Dear customer!'))}"
    message = f"{asked} {says('Here you are: {tool_result}')}"

    turn = await user.stream("/chatbot/chat/stream", {"message": message, "assistant": "helpdesk"})
    run = (await user.get(f"/runs/{turn.run_id}")).json()

    members = [(one["agent"], one["content"]) for one in turn.all("member_completed")]
    calls = [(one["tool"], one["agent"]) for one in turn.all("tool_started")]
    assert members == [("calculator", "6*7 is 42."), ("writer", "Dear customer!")]
    assert calls == [("ask_calculator", ""), ("calculate", "calculator"), ("ask_writer", "")]
    assert turn.text == "Here you are: 6*7 is 42.; Dear customer!" == run["message"]["content"]
    assert turn.first("message_completed")["agent"] == run["message"]["agent"] == ""
    assert set(run["usage_by_agent"]) == {"helpdesk", "calculator", "writer"}
    used = sum(one["output_tokens"] for one in run["usage_by_agent"].values())
    assert used == run["usage"]["output_tokens"]


async def test_conversation_is_passed_on(user: User) -> None:
    message = f"[[sim:tool=transfer_to_writer {{}}]] {says('What shall I write?')}"

    answer = (await user.post("/chatbot/chat", {"message": message, "assistant": "reception"})).json()
    again = (await user.post("/chatbot/chat", {"message": "[[sim:prompt]]", "thread_id": answer["thread_id"]})).json()

    assert answer["message"]["content"] == "What shall I write?"
    assert again["message"]["content"].startswith("You write short, friendly texts")
    assert [one["agent"] for one in await user.messages(answer["thread_id"])] == ["", "writer", "", "writer"]


async def test_members_of_an_assistant_by_the_api_are_those_that_its_user_may_use(user: User, stranger: User) -> None:
    single = {"name": "mine", "spec": {"instructions": "You are mine."}}
    circular = {"name": "loop", "spec": {"kind": "supervisor", "members": ["loop"]}}
    team = {"name": "team", "spec": {"kind": "supervisor", "members": ["mine", "writer"]}}

    made = [(await user.post("/assistants", body)).status_code for body in (single, team)]
    of_stranger = await stranger.post("/assistants", team)
    looping = await user.post("/assistants", circular)
    answer = await user.post(
        "/chatbot/chat", {"message": f"{asks('mine', '[[sim:prompt]]')} {says('{tool_result}')}", "assistant": "team"}
    )
    await user.delete("/assistants/mine")
    gone = await user.post("/chatbot/chat", {"message": "Hi", "assistant": "team"})

    assert made == [201, 201]
    assert (of_stranger.status_code, of_stranger.json()["errors"][0]["field"]) == (422, "members.0")
    assert (looping.status_code, looping.json()["errors"][0]["field"]) == (422, "members.0")
    assert answer.json()["message"]["content"].strip() == "You are mine."
    assert gone.status_code in {404, 409}
