"""Requests in the form that each provider demands."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from fakes.agent.chat_models import Heard
from fakes.agent.runs import a_model
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolCall, ToolMessage
from mesh_agent.llm.completion import Completion
from mesh_agent.llm.openai_compatible.chunks import merge
from mesh_agent.llm.openai_compatible.messages import message_of
from mesh_agent.llm.openai_compatible.provider import OpenAICompatible
from mesh_agent.llm.openai_compatible.request import RequestForm
from mesh_agent.llm.openai_compatible.source import Source, family_of
from mesh_agent.llm.presets import PRESETS
from mesh_agent.llm.quirks import Quirks
from mesh_agent.llm.registry import Model
from mesh_agent.model_settings import Provider
from support.strict_servers import mistral_like, openai_like, opened

TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
}
AN_OPENAI_ID = "call_5Nd0DLYWh9tMKLu1GFvCzVJC"


def of(provider: Provider, **quirks: Any) -> Model:
    return replace(a_model(), provider=provider, quirks=replace(PRESETS[provider].quirks, **quirks))


def payload(model: Model, *messages: BaseMessage, tools: bool = False) -> dict[str, Any]:
    return RequestForm.of(model).payload(messages, [TOOL] if tools else (), None)


def sent(model: Model, *messages: BaseMessage) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = payload(model, *messages)["messages"]
    return entries


def calling(*ids: str, text: str = "") -> AIMessage:
    return AIMessage(text, tool_calls=[ToolCall(name="f", args={}, id=each) for each in ids])


@pytest.mark.parametrize(
    ("provider", "fields"),
    [
        ("openai", {"max_completion_tokens": 1_000, "stream_options": {"include_usage": True}}),
        ("mistral", {"max_tokens": 1_000}),
        ("ollama", {"max_tokens": 1_000, "stream_options": {"include_usage": True}}),
        ("other", {"max_tokens": 1_000, "stream_options": {"include_usage": True}}),
    ],
)
def test_fields_are_those_of_the_provider(provider: Provider, fields: dict[str, Any]) -> None:
    assert payload(of(provider), HumanMessage("Hi")) == {
        "model": "provider-large",
        "stream": True,
        "messages": [{"role": "user", "content": "Hi"}],
        **fields,
    }


def test_quirks_change_the_fields() -> None:
    model = of("other", output_limit="none", parallel_tool_calls=False, extra_body={"seed": 7, "user": "u"})

    fields = payload(model, HumanMessage("Hi"), tools=True)

    assert "max_tokens" not in fields
    assert (fields["seed"], fields["user"], fields["parallel_tool_calls"]) == (7, "u", False)
    assert "parallel_tool_calls" not in payload(model, HumanMessage("Hi"))
    assert "parallel_tool_calls" not in payload(of("other"), HumanMessage("Hi"), tools=True)


@pytest.mark.parametrize("provider", ["mistral", "anthropic", "vllm", "llama_cpp", "ollama", "other"])
def test_messages_of_one_role_are_merged_where_roles_must_alternate(provider: Provider) -> None:
    """The turn between the two questions failed."""
    entries = sent(of(provider), SystemMessage("Be brief."), HumanMessage("6 * 7?"), HumanMessage("Hello?"))

    assert entries == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "6 * 7?\n\nHello?"},
    ]


def test_messages_stay_as_they_are_where_roles_need_not_alternate() -> None:
    entries = sent(of("openai"), HumanMessage("6 * 7?"), HumanMessage("Hello?"))

    assert [entry["content"] for entry in entries] == ["6 * 7?", "Hello?"]


def test_instructions_come_first_and_empty_answers_are_left_out() -> None:
    entries = sent(
        of("mistral"),
        SystemMessage("Be brief."),
        HumanMessage("a"),
        AIMessage(""),
        SystemMessage("Be kind."),
        HumanMessage("b"),
        AIMessage("c"),
        AIMessage("d"),
    )

    assert [(entry["role"], entry["content"]) for entry in entries] == [
        ("system", "Be brief.\n\nBe kind."),
        ("user", "a\n\nb"),
        ("assistant", "c\n\nd"),
    ]


def test_after_a_tools_result_comes_an_answer() -> None:
    entries = sent(
        of("mistral"), HumanMessage("a"), AIMessage("x"), calling("123456789"),
        ToolMessage("42", tool_call_id="123456789"), HumanMessage("b"),
    )  # fmt: skip

    assert [entry["role"] for entry in entries] == ["user", "assistant", "tool", "assistant", "user"]
    assert entries[1]["content"] == "x"
    assert len(entries[1]["tool_calls"]) == 1


def test_calls_and_their_results_are_not_merged() -> None:
    entries = sent(
        of("mistral"),
        HumanMessage("a"),
        calling("123456789", "abcdefghi"),
        ToolMessage("1", tool_call_id="123456789"),
        ToolMessage("2", tool_call_id="abcdefghi"),
        calling("ABCDEFGHI"),
        ToolMessage("3", tool_call_id="ABCDEFGHI"),
    )

    assert [entry["role"] for entry in entries] == ["user", "assistant", "tool", "tool", "assistant", "tool"]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_instructions_have_the_role_of_the_quirk(role: str) -> None:
    entries = sent(of("other", instructions_role=role), SystemMessage("Be brief."), HumanMessage("a"))

    assert [entry["role"] for entry in entries] == [role, "user"]


def test_model_without_a_role_for_instructions_reads_them_from_the_user() -> None:
    entries = sent(of("other", instructions_role="user"), SystemMessage("Be brief."), HumanMessage("a"))

    assert entries == [{"role": "user", "content": "Be brief.\n\na"}]


@pytest.mark.parametrize(
    ("empty_content", "shown"), [("none", {"content": None}), ("empty", {"content": ""}), ("absent", {})]
)
def test_content_of_an_answer_that_only_calls_tools(empty_content: str, shown: dict[str, Any]) -> None:
    [entry, _] = sent(of("openai", empty_content=empty_content), calling("x"), ToolMessage("1", tool_call_id="x"))
    [with_text] = sent(of("openai", empty_content=empty_content), calling("x", text="Well"))

    assert {name: value for name, value in entry.items() if name == "content"} == shown
    assert with_text["content"] == "Well"


def test_ids_of_another_providers_calls_get_the_form_that_this_one_demands() -> None:
    """A run that OpenAI began and Mistral continues, with a call of each; the ids differ in their last characters."""
    ids = [AN_OPENAI_ID, f"{AN_OPENAI_ID}x", "abc123XYZ"]
    history = [HumanMessage("a"), calling(*ids), *(ToolMessage(each, tool_call_id=each) for each in ids)]

    _, call, *results = sent(of("mistral"), *history)

    mapped = [each["id"] for each in call["tool_calls"]]
    assert [entry["tool_call_id"] for entry in results] == mapped
    assert [entry["content"] for entry in results] == ids
    assert len(set(mapped)) == 3
    assert all(re.fullmatch("[a-zA-Z0-9]{9}", each) for each in mapped)
    assert mapped[2] == "abc123XYZ"
    assert sent(of("mistral"), *history)[1] == call, "the prompt cache would not find it again"
    assert [each["id"] for each in sent(of("openai"), *history)[1]["tool_calls"]] == ids


def test_long_ids_are_shortened_where_40_characters_are_the_limit() -> None:
    long = "chatcmpl-tool-" + "0123456789abcdef" * 2

    [openai] = sent(of("openai"), calling(long))
    [vllm] = sent(of("vllm"), calling(long))

    assert len(openai["tool_calls"][0]["id"]) <= 40
    assert vllm["tool_calls"][0]["id"] == long


async def test_run_that_openai_began_is_continued_by_mistral() -> None:
    asked: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage("Hello?"), HumanMessage("Weather?")]
    async with opened(openai_like()) as openai, opened(mistral_like()) as mistral, aiohttp.ClientSession() as session:
        first = OpenAICompatible(replace(of("openai"), base_url=openai.url), session)
        second = OpenAICompatible(replace(of("mistral"), base_url=mistral.url), session)
        called = (await first.ask(asked, Heard(), [TOOL])).message
        results = [ToolMessage("Rain.", tool_call_id=call["id"]) for call in called.tool_calls]
        answer = await second.ask([*asked, called, *results], Heard(), [TOOL])

    assert [len(str(call["id"])) for call in called.tool_calls] == [29, 29]
    assert answer.message.content == "Yes."
    assert mistral.refused == []


SIGNATURE = {"google": {"thought_signature": "c2ln"}}
NO_SIGNATURE = {"google": {"thought_signature": "skip_thought_signature_validator"}}


def answer_of(model: Model, *, calls: int = 1) -> AIMessage:
    """An answer with everything opaque that there is, as this model's provider reads it."""
    completion = Completion()
    deltas = [{"id": f"call_{n}", "index": n, "function": {"name": "f", "arguments": "{}"}} for n in range(calls)]
    deltas[0]["extra_content"] = SIGNATURE
    opaque = {"reasoning_content": "a", "reasoning": "b", "reasoning_details": [{"data": "c"}]}
    merge(completion, {"choices": [{"delta": {"tool_calls": deltas, **opaque}}]})
    return message_of(completion, [], RequestForm.of(model).source, model.quirks.reasoning_fields)


@pytest.mark.parametrize(
    ("provider", "fields"),
    [
        ("openai", {}),
        ("azure", {}),
        ("anthropic", {}),
        ("mistral", {}),
        ("gemini", {"extra_content"}),
        ("deepseek", {"reasoning_content"}),
        ("openrouter", {"reasoning", "reasoning_details", "extra_content"}),
        ("vllm", {"reasoning_content", "reasoning"}),
        ("llama_cpp", {"reasoning_content"}),
        ("ollama", {"reasoning"}),
        ("other", {"reasoning_content", "reasoning_details", "extra_content"}),
    ],
)
def test_reasoning_goes_back_as_the_provider_demands(provider: Provider, fields: set[str]) -> None:
    model = of(provider)

    [entry] = sent(model, answer_of(model))

    shown = {*entry, *entry["tool_calls"][0]} - {"role", "content", "tool_calls", "id", "type", "function"}
    assert shown == set(fields)


@pytest.mark.parametrize(
    ("change", "is_shown"),
    [
        ({"provider_model": "provider-large-2026-08-06"}, True),
        ({"provider_model": "Provider-large-latest"}, True),
        ({"api_key": "another"}, True),
        ({"provider_model": "provider-small"}, False),
        ({"base_url": "http://elsewhere/v1"}, False),
        ({"provider": "vllm"}, False),
    ],
)
def test_reasoning_goes_back_to_its_provider_and_family_only(change: dict[str, Any], is_shown: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    model = of("openrouter")
    message = answer_of(model)

    [entry] = sent(replace(model, **change), message)

    assert ("reasoning_details" in entry) is is_shown
    assert ("extra_content" in entry["tool_calls"][0]) is is_shown


def test_reasoning_that_the_release_before_stored_goes_back() -> None:
    model = of("deepseek")
    message = calling("x")
    kept = {"source": f"{model.base_url} {model.provider_model}", "fields": {"reasoning_content": "a"}, "calls": {}}
    message.additional_kwargs["opaque"] = kept

    assert sent(model, message)[0]["reasoning_content"] == "a"
    assert answer_of(model).additional_kwargs["opaque"]["source"] == kept["source"], (
        "for that release, after a rollback"
    )


def test_calls_of_another_model_get_a_placeholder_where_reasoning_is_required() -> None:
    foreign = answer_of(of("openai"), calls=2)

    [deepseek], [gemini], [other] = (sent(of(provider), foreign) for provider in ("deepseek", "gemini", "other"))

    assert deepseek["reasoning_content"] == ""
    assert [call.get("extra_content") for call in gemini["tool_calls"]] == [NO_SIGNATURE, None]
    assert "extra_content" not in other["tool_calls"][0]
    assert "reasoning_content" not in sent(of("deepseek"), AIMessage("No calls."))[0]


def test_own_signature_is_not_replaced() -> None:
    gemini = of("gemini")

    [entry] = sent(gemini, answer_of(gemini, calls=2))

    assert [call.get("extra_content") for call in entry["tool_calls"]] == [SIGNATURE, None]


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("mistral-large-2411", "mistral-large"),
        ("Mistral-Large-latest", "mistral-large"),
        ("claude-opus-4-20250514", "claude-opus-4"),
        ("deepseek/deepseek-r1:free", "deepseek/deepseek-r1"),
        ("gemini-2.5-flash-preview-05-20", "gemini-2.5-flash"),
        ("llama-3-70b", "llama-3-70b"),
        ("gpt-5.5", "gpt-5.5"),
    ],
)
def test_family_is_the_name_without_a_version(model: str, family: str) -> None:
    assert family_of(model) == family


def test_source_names_provider_and_address() -> None:
    assert Source.of("vllm", "http://a/v1/", "m").endpoint == "vllm http://a/v1"


def test_quirks_can_be_hashed_with_any_field() -> None:
    assert len({Quirks(extra_body={"a": [1]}), Quirks(extra_body={"a": [1]})}) == 1
