"""How an answer ends, and what an answer is that is no stream of events."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest
from fakes.agent.chat_models import Heard
from fakes.agent.loop_time import in_jumping_time, loop_time_ms
from fakes.agent.runs import a_model
from langchain_core.messages import HumanMessage
from mesh_agent.llm.completion import Completion
from mesh_agent.llm.finish_reasons import Finish
from mesh_agent.llm.openai_compatible.provider import OpenAICompatible
from mesh_agent.llm.openai_compatible.stream import read_chunks
from mesh_agent.llm.provider import ChatAnswer
from mesh_agent.llm.provider_errors import ProviderError
from support.odd_provider import Piece, odd_provider

SAID = {"text": 'data: {"choices": [{"delta": {"content": "Hello."}}]}\n\n'}
FINISH = {"text": 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'}
USAGE = {"text": 'data: {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7}}\n\n'}
DONE = {"text": "data: [DONE]\n\n"}
BREAK = {"end": "closed inside the chunked body"}
HOLD = {"hold": True}


def delta(finish_reason: str | None = None, **fields: Any) -> Piece:
    return {"text": f"data: {json.dumps({'choices': [{'delta': fields, 'finish_reason': finish_reason}]})}\n\n"}


def whole(message: object, **fields: object) -> Piece:
    return {"text": json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], **fields})}


async def ask(pieces: Sequence[Piece], content_type: str = "text/event-stream") -> ChatAnswer:
    timeout = aiohttp.ClientTimeout(total=None, sock_read=5.0)
    async with odd_provider(pieces, content_type) as provider, aiohttp.ClientSession(timeout=timeout) as session:
        return await OpenAICompatible(a_model(base_url=provider.url), session).ask([HumanMessage("Hi")], Heard())


async def failure(pieces: Sequence[Piece], content_type: str = "text/event-stream") -> ProviderError:
    with pytest.raises(ProviderError) as failed:
        await ask(pieces, content_type)
    return failed.value


@pytest.mark.parametrize(
    "pieces",
    [
        [SAID, FINISH, USAGE, DONE],
        [SAID, USAGE, DONE],
        [SAID, FINISH, USAGE],
        [SAID, FINISH, USAGE, BREAK],
        [SAID, FINISH, USAGE, HOLD],
        [SAID, USAGE, FINISH, HOLD],
        [SAID, USAGE, DONE, HOLD],
        [SAID, FINISH, USAGE, {"text": 'data: {"cut'}, BREAK],
        [SAID, FINISH, {"text": USAGE["text"].strip()}],
    ],
)
async def test_each_sign_of_an_end_is_one(pieces: list[Piece]) -> None:
    answer = await ask(pieces)

    assert answer.message.content == "Hello."
    assert answer.completion.finish_reason is Finish.END
    assert answer.message.usage_metadata == {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}


@pytest.mark.parametrize("pieces", [[SAID], [SAID, BREAK], [SAID, USAGE], [SAID, USAGE, BREAK]])
async def test_close_alone_is_no_end(pieces: list[Piece]) -> None:
    failed = await failure(pieces)

    assert (failed.reason, failed.has_spoken) == ("MODEL_CUT_OFF", True)


@in_jumping_time
async def test_connection_that_stays_open_after_the_finish_reason_is_left_after_a_second() -> None:
    async def received() -> Any:
        yield SAID["text"].encode()
        await asyncio.sleep(20)
        yield FINISH["text"].encode()
        while True:
            await asyncio.sleep(0.3)
            yield b": still here\n\n"

    completion = Completion()
    await read_chunks(received(), completion, Heard().on_text)

    assert (completion.text, loop_time_ms()) == ("Hello.", 21_000)


@pytest.mark.parametrize(
    ("pieces", "is_retryable"),
    [
        ([delta(reasoning_content="hm"), FINISH, DONE], True),
        ([delta(reasoning="hm"), FINISH, DONE], True),
        ([delta(content=[{"type": "thinking", "thinking": "hm"}]), FINISH, DONE], True),
        ([delta(content="\n \n"), FINISH, DONE], True),
        ([delta(content=""), DONE], True),
        ([FINISH], True),
        ([DONE], True),
        ([delta("length", reasoning_content="hm"), DONE], False),
        ([delta("content_filter", content=""), DONE], False),
    ],
)
async def test_answer_that_says_nothing_is_none(pieces: list[Piece], is_retryable: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    failed = await failure(pieces)

    assert (failed.reason, failed.is_retryable) == ("EMPTY_ANSWER", is_retryable)


@pytest.mark.parametrize(
    "pieces",
    [
        [delta(refusal="I can"), delta(refusal="not."), FINISH, DONE],
        [delta(content="", refusal="I cannot."), delta("content_filter"), DONE],
        [whole({"content": None, "refusal": "I cannot."})],
        [delta(content=[{"type": "refusal", "refusal": "I cannot."}]), FINISH, DONE],
    ],
)
async def test_refusal_is_an_answer(pieces: list[Piece]) -> None:
    answer = await ask(pieces)

    assert answer.message.content == "".join(answer.completion.parts) == "I cannot."


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", "text/plain"])
@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "Hello."},
        {"content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo."}]},
    ],
)
async def test_whole_completion_is_read(message: object, content_type: str) -> None:
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}

    answer = await ask([{"text": "\n\n \r\n"}, whole(message, usage=usage, model="m1")], content_type)

    assert (answer.message.content, answer.completion.model) == ("Hello.", "m1")
    assert answer.message.usage_metadata == {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}


async def test_tools_of_a_whole_completion_are_called() -> None:
    calls = [
        {"id": "a", "type": "function", "function": {"name": "calculate", "arguments": '{"expression": "1"}'}},
        {"id": "b", "type": "function", "function": {"name": "calculate", "arguments": {"expression": "2"}}},
    ]

    answer = await ask([whole({"content": None, "tool_calls": calls})])

    assert [(call["id"], call["args"]) for call in answer.message.tool_calls] == [
        ("a", {"expression": "1"}),
        ("b", {"expression": "2"}),
    ]


@pytest.mark.parametrize("name", ["calculate", " calculate\n", "functions.calculate"])
@pytest.mark.parametrize("is_listed", [True, False])
async def test_call_is_read_although_its_form_is_another(name: str, *, is_listed: bool) -> None:
    call = {"index": 0, "id": "a", "function": {"name": name, "arguments": '{"expression": "1"}'}}

    answer = await ask([delta("tool_calls", tool_calls=[call] if is_listed else call), DONE])

    assert [(each["name"], each["args"]) for each in answer.message.tool_calls] == [("calculate", {"expression": "1"})]


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        ("<!DOCTYPE html><html>Bad gateway</html>", "text/html", "MODEL_INVALID_ANSWER"),
        ("\n<?xml version='1.0'?><Error/>", "application/xml", "MODEL_INVALID_ANSWER"),
        ("<html>", "text/event-stream", "MODEL_INVALID_ANSWER"),
        ('{"choices": [', "application/json", "MODEL_INVALID_ANSWER"),
        ('{"status": "ok"}', "application/json", "MODEL_INVALID_ANSWER"),
        ("[]", "application/json", "MODEL_INVALID_ANSWER"),
        ('{"error": "quota"}', "application/json", "MODEL_CUT_OFF"),
        ('[{"error": {"code": 429}}]', "application/json", "MODEL_RATE_LIMITED"),
        ("Service unavailable", "text/plain", "MODEL_CUT_OFF"),
        ("", "text/event-stream", "MODEL_CUT_OFF"),
    ],
)
async def test_what_is_no_answer_fails_before_the_first_token(body: str, content_type: str, reason: str) -> None:
    failed = await failure([{"text": body}], content_type)

    assert (failed.reason, failed.is_retryable, failed.has_spoken) == (reason, True, False)


@pytest.mark.parametrize(
    "odd",
    [
        '{"choices": [1]}',
        '{"choices": {}}',
        '{"choices": "x"}',
        '{"choices": [{"delta": "x"}]}',
        '{"choices": [{"delta": {"content": 5}}]}',
        '{"choices": [{"delta": {"content": {"text": 5}}}]}',
        '{"choices": [{"delta": {"content": [5, null, {"type": "text"}, {"text": 5}, []]}}]}',
        '{"choices": [{"delta": {"tool_calls": 5, "function_call": 5}, "finish_reason": 5, "usage": 5}]}',
        '{"id": 5, "model": [], "usage": [1], "x_groq": 5, "error": null}',
        '{"choices": [{"message": {"content": "Hello."}}]}',
        "{}",
    ],
)
async def test_odd_chunk_voids_nothing(odd: str) -> None:
    answer = await ask([SAID, {"text": f"data: {odd}\n\n"}, FINISH, DONE])

    assert answer.message.content == "Hello."


async def test_message_that_comes_whole_in_a_stream_is_read() -> None:
    answer = await ask([{"text": f"data: {whole({'content': 'Hello.'})['text']}\n\n"}, DONE])

    assert answer.message.content == "Hello."


async def test_chunks_may_end_with_a_single_line_feed() -> None:
    lines = "".join(piece["text"].replace("\n\n", "\n") for piece in (SAID, SAID, FINISH, DONE))

    answer = await ask([{"text": lines}])

    assert answer.message.content == "Hello.Hello."


async def test_notices_of_the_server_are_passed_over() -> None:
    answer = await ask(
        [{"text": "event: ping\ndata: still here\n\n"}, SAID, {"text": "event: end\ndata: bye\n\n"}, DONE]
    )

    assert answer.message.content == "Hello."


@pytest.mark.parametrize("body", ['[{"choices": []}]', '[{"x": 1}]', "[[]]", "[{}, {}]"])
async def test_json_that_is_no_completion_is_an_invalid_answer_in_any_form(body: str) -> None:
    assert (await failure([{"text": body}])).reason == "MODEL_INVALID_ANSWER"


@pytest.mark.parametrize(("reason", "finish"), [("length", Finish.LENGTH), ("content_filter", Finish.FILTERED)])
async def test_what_was_cut_stays_cut_if_a_closing_chunk_says_stop(reason: str, finish: Finish) -> None:
    answer = await ask([SAID, delta(reason), delta("stop"), DONE])

    assert answer.completion.finish_reason is finish


async def test_calls_in_a_whole_message_after_deltas_of_text_are_read() -> None:
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    closing = {"choices": [{"message": {"content": "Hello.", "tool_calls": [call]}, "finish_reason": "tool_calls"}]}

    answer = await ask([SAID, {"text": f"data: {json.dumps(closing)}\n\n"}, DONE])

    assert answer.message.content == "Hello."
    assert [found["args"] for found in answer.message.tool_calls] == [{"a": 1}]


async def test_placeholder_of_a_call_in_a_cut_answer_is_not_taken_for_its_arguments() -> None:
    first, second = (
        {"index": index, "id": str(index), "function": {"name": "f", "arguments": "{}"}} for index in range(2)
    )

    answer = await ask([delta(tool_calls=[first]), delta(tool_calls=[second]), delta("length"), DONE])

    assert answer.message.tool_calls == []
    assert len(answer.message.invalid_tool_calls) == 2


async def test_entry_that_says_nothing_is_no_call() -> None:
    answer = await ask([SAID, delta(tool_calls=[{}]), delta(function_call={"name": "", "arguments": ""}), FINISH, DONE])

    assert (answer.message.content, answer.message.tool_calls) == ("Hello.", [])


async def test_more_calls_than_any_round_makes_are_an_invalid_answer() -> None:
    calls = [{"index": index, "id": str(index), "function": {"name": "f"}} for index in range(1_000)]

    assert (await failure([delta(tool_calls=calls), DONE])).reason == "MODEL_INVALID_ANSWER"


async def test_answer_without_end_is_an_invalid_answer() -> None:
    piece = delta(content="x" * 500_000)

    assert (await failure([piece] * 140)).reason == "MODEL_INVALID_ANSWER"


async def test_long_answer_in_small_chunks_is_whole() -> None:
    """Its thoughts included, which servers send in chunks of some 300 bytes a token."""
    thought = delta(reasoning_content="t" * 300)

    answer = await ask([*[thought] * 30_000, delta(content="Done."), FINISH, DONE])

    assert answer.message.content == "Done."


async def test_opaque_data_that_no_request_can_carry_is_dropped() -> None:
    nested: Any = {}
    for _ in range(600):
        nested = {"n": nested}

    answer = await ask([delta(content="Hello.", reasoning_details=[nested]), FINISH, DONE])

    assert answer.message.additional_kwargs == {}
