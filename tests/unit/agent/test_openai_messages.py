"""Messages of requests and answers, as strict servers want them."""

import json
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langchain_openai import ChatOpenAI
from mesh_agent.llm.completion import Completion
from mesh_agent.llm.finish_reasons import Finish
from mesh_agent.llm.openai_compatible.chunks import merge
from mesh_agent.llm.openai_compatible.messages import CUT, UNREADABLE, message_of
from mesh_agent.llm.openai_compatible.request_messages import request_messages
from mesh_agent.llm.openai_compatible.source import Source
from mesh_agent.llm.presets import PRESETS
from mesh_agent.llm.quirks import Quirks
from mesh_agent.model_settings import ReasoningField
from pydantic import SecretStr

HERE = Source.of("other", "http://here/v1", "m")
ELSEWHERE = Source.of("other", "http://elsewhere/v1", "m")
ALL: tuple[ReasoningField, ...] = ("reasoning_content", "reasoning", "reasoning_details", "extra_content")


def completion_of(*calls: dict[str, Any], finish: Finish = Finish.END, **delta: Any) -> Completion:
    completion = Completion(finish_reason=finish)
    merge(completion, {"choices": [{"delta": {"tool_calls": list(calls), **delta}}]})
    return completion


def call(arguments: str = '{"a": 1}', *, call_id: object = None, index: int = 0, name: str = "f", **fields: Any) -> Any:
    return {"id": call_id, "index": index, "function": {"name": name, "arguments": arguments}, **fields}


def asked(*ids: str) -> list[BaseMessage]:
    return [HumanMessage("Hi"), AIMessage("", tool_calls=[ToolCall(name="f", args={}, id=each) for each in ids])]


def ids_of(message: AIMessage) -> list[str | None]:
    return [each["id"] for each in (*message.tool_calls, *message.invalid_tool_calls)]


@pytest.mark.parametrize(
    "ids", [[None, None], ["", ""], ["a", "a"], ["old", "a"], ["a b", "\x00"], ["x" * 41, "é"], [None, "a"], [[1], {}]]
)
def test_each_call_has_an_id_of_its_own(ids: list[object]) -> None:
    calls = [call(call_id=each, index=index) for index, each in enumerate(ids)]

    message = message_of(completion_of(*calls, call("{", call_id="a", index=9)), asked("old"), HERE, ALL)

    made = ids_of(message)
    assert len({*made, "old"}) == 4
    assert all(each == "a" or (each and len(each) == 9 and each.isalnum()) for each in made)


def test_id_of_the_provider_is_kept() -> None:
    assert ids_of(message_of(completion_of(call(call_id="call_1")), asked("old"), HERE, ALL)) == ["call_1"]


@pytest.mark.parametrize("finish", [Finish.LENGTH, Finish.FILTERED])
def test_last_call_of_an_interrupted_answer_is_cut(finish: Finish) -> None:
    """Some servers complete the JSON of a call that was cut, so that it looks whole."""
    completion = completion_of(call(call_id="x"), call(call_id="y", index=1), finish=finish)

    message = message_of(completion, [], HERE, ALL)

    assert [each["id"] for each in message.tool_calls] == ["x"]
    assert [(each["id"], each["error"]) for each in message.invalid_tool_calls] == [("y", CUT)]


def test_history_has_arguments_that_are_objects_and_names_that_servers_accept() -> None:
    bad = [
        InvalidToolCall(name="f", args='{"a', id="x", error=UNREADABLE, type="invalid_tool_call"),
        InvalidToolCall(name=None, args=None, id="y", error=CUT, type="invalid_tool_call"),
    ]
    good = [ToolCall(name="functions.f g", args={"a": "é"}, id="z")]

    [sent, result] = request_messages(
        [AIMessage("", tool_calls=good, invalid_tool_calls=bad), ToolMessage("42", tool_call_id="z", name="f")],
        HERE,
        Quirks(),
    )

    functions = [each["function"] for each in sent["tool_calls"]]
    assert [each["id"] for each in sent["tool_calls"]] == ["z", "x", "y"]
    assert [each["name"] for each in functions] == ["functions_f_g", "f", "unknown"]
    assert [json.loads(each["arguments"]) for each in functions] == [
        {"a": "é"},
        {"unreadable": '{"a'},
        {"unreadable": None},
    ]
    assert sent["content"] is None
    assert result == {"role": "tool", "tool_call_id": "z", "content": "42"}


@pytest.mark.parametrize(
    ("fields", "sent_back"),
    [
        ({"reasoning_content": "hm"}, {"reasoning_content": "hm"}),
        ({"reasoning_content": ""}, {"reasoning_content": ""}),
        ({"reasoning_details": [{"type": "x", "data": "y"}]}, {"reasoning_details": [{"type": "x", "data": "y"}]}),
        ({"reasoning": "hm"}, {}),
        ({"reasoning_content": 5, "reasoning_details": "x"}, {}),
    ],
)
def test_reasoning_goes_back_to_the_model_that_sent_it(fields: dict[str, Any], sent_back: dict[str, Any]) -> None:
    signature = {"google": {"thought_signature": "c2ln"}}
    message = message_of(completion_of(call(extra_content=signature), **fields), [], HERE, ALL)

    [same], [other] = (request_messages([message], who, PRESETS["other"].quirks) for who in (HERE, ELSEWHERE))

    assert {name: value for name, value in same.items() if "reasoning" in name} == sent_back
    assert same["tool_calls"][0]["extra_content"] == signature
    assert other.keys() == {"role", "content", "tool_calls"}
    assert other["tool_calls"][0].keys() == {"id", "type", "function"}


class Recorded(Exception):
    pass


class Recorder:
    """In place of OpenAI's client: keeps the request."""

    payload: dict[str, Any]

    @property
    def with_raw_response(self) -> "Recorder":
        return self

    async def create(self, **payload: Any) -> None:
        self.payload = payload
        raise Recorded


async def test_messages_are_those_that_langchain_openai_sends() -> None:
    messages = [
        SystemMessage("Be brief."),
        HumanMessage("6 * 7?"),
        ChatMessage(role="assistant", content="42."),
        HumanMessage("é\U0001f375"),
        AIMessage("", tool_calls=[ToolCall(name="f", args={"a": "é"}, id="x")]),
        ToolMessage("42", tool_call_id="x", name="f", status="error"),
        AIMessage("Done."),
    ]
    recorder = Recorder()
    theirs = ChatOpenAI(model="m", api_key=SecretStr("k"), async_client=recorder, root_async_client=recorder)

    with pytest.raises(Recorded):
        await theirs.ainvoke(messages)

    assert request_messages(messages, HERE, Quirks()) == recorder.payload["messages"]
