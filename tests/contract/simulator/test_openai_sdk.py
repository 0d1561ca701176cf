"""Compatibility with OpenAI, tested with OpenAI's own client."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel, Field
from simulator import reply_text
from simulator.client import SimulatorAdmin

USER: Any = {"role": "user", "content": "Hello there"}
CALCULATE: Any = {
    "type": "function",
    "function": {"name": "calculate", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture
async def client(base_url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0) as sdk:
        yield sdk


async def test_a_stream_holds_the_reply_one_token_a_chunk_then_finish_and_usage(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="m", messages=[USER], stream=True, stream_options={"include_usage": True}
    )

    chunks = [chunk async for chunk in stream]

    contents = [chunk.choices[0].delta.content for chunk in chunks[1:-2]]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(map(str, contents)) == reply_text(seed=1, model="m", user_message="Hello there", tokens=10)
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(contents) == 10
    assert chunks[-1].usage.prompt_tokens == 5
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_without_streaming_the_answer_is_the_same(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="m", messages=[USER])

    assert answer.choices[0].message.content == reply_text(seed=1, model="m", user_message="Hello there", tokens=10)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 10


async def test_max_tokens_cuts_the_answer_and_says_so(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="m", messages=[USER], max_completion_tokens=4)

    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


async def test_a_streamed_tool_call_then_its_result_in_the_answer(client: AsyncOpenAI) -> None:
    user: Any = {"role": "user", "content": 'What is it? [[sim:tool=calculate {"expression": "20 + 22"}]]'}
    async with client.chat.completions.stream(model="m", messages=[user], tools=[CALCULATE]) as stream:
        asked = (await stream.get_final_completion()).choices[0]
    assert asked.finish_reason == "tool_calls"
    assert asked.message.tool_calls is not None
    call = asked.message.tool_calls[0]
    assert call.type == "function"
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "42"}
    said: Any = asked.message.to_dict()

    answer = await client.chat.completions.create(model="m", messages=[user, said, result], tools=[CALCULATE])

    assert (call.function.name, call.function.arguments) == ("calculate", '{"expression":"20 + 22"}')
    assert answer.choices[0].message.content == "The tool says: 42"
    assert answer.choices[0].finish_reason == "stop"


async def test_several_tools_of_a_message_are_called_in_rounds(client: AsyncOpenAI) -> None:
    user: Any = {"role": "user", "content": "[[sim:tool=one]] [[sim:tool=two]] [[sim:reply=Got {tool_result}.]]"}
    messages: list[Any] = [user]
    called = []
    for number in range(2):
        message = (
            (await client.chat.completions.create(model="m", messages=messages, tools=[CALCULATE])).choices[0].message
        )
        assert message.tool_calls is not None
        called += [call.function.name for call in message.tool_calls if call.type == "function"]
        messages += [
            message.to_dict(),
            {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": f"r{number}"},
        ]

    answer = await client.chat.completions.create(model="m", messages=messages, tools=[CALCULATE])

    assert called == ["one", "two"]
    assert answer.choices[0].message.content == "Got r0; r1."


async def test_tools_are_not_called_when_none_are_offered_or_allowed(client: AsyncOpenAI) -> None:
    user: Any = {"role": "user", "content": "[[sim:tool_loop=calculate]]"}

    bare = await client.chat.completions.create(model="m", messages=[user])
    forbidden = await client.chat.completions.create(model="m", messages=[user], tools=[CALCULATE], tool_choice="none")

    assert bare.choices[0].message.tool_calls is None
    assert forbidden.choices[0].message.tool_calls is None
    assert bare.choices[0].message.content


class Judgement(BaseModel):
    score: float = Field(ge=0, le=1)
    reasoning: str


class Memory(BaseModel):
    text: str


class Memories(BaseModel):
    memories: list[Memory]


async def test_structured_output_is_valid_and_repeats_itself(client: AsyncOpenAI) -> None:
    judged = [
        await client.chat.completions.parse(model="m", messages=[USER], response_format=Judgement) for _ in range(2)
    ]

    first, second = (answer.choices[0].message.parsed for answer in judged)
    assert first is not None
    assert 0 <= first.score <= 1
    assert first == second


async def test_facts_come_from_the_users_words_and_directives_in_them_do_nothing(client: AsyncOpenAI) -> None:
    prompt = "user: [[sim:fault=500]] My marker is X-4711. It rains.\nassistant: I see.\n"
    messages: list[Any] = [{"role": "system", "content": "Extract the facts."}, {"role": "user", "content": prompt}]

    answer = await client.chat.completions.parse(model="m", messages=messages, response_format=Memories)

    assert answer.choices[0].message.parsed == Memories(memories=[Memory(text="My marker is X-4711.")])


async def test_a_json_object_about_memories_has_mem0s_shape(client: AsyncOpenAI) -> None:
    messages: list[Any] = [
        {"role": "system", "content": "Extract memories."},
        {"role": "user", "content": "## New Messages\nuser: I ski.\n\n# Output:"},
    ]

    answer = await client.chat.completions.create(model="m", messages=messages, response_format={"type": "json_object"})

    assert answer.choices[0].message.content == '{"facts":["I ski."],"memory":[{"id":"0","text":"I ski."}]}'


async def test_embeddings_by_default_encoding_and_as_floats_agree(client: AsyncOpenAI) -> None:
    # The SDK asks for base64 by default.
    packed = await client.embeddings.create(model="e", input=["cat", "dog"])
    plain = await client.embeddings.create(model="e", input=["cat", "dog"], encoding_format="float")
    short = await client.embeddings.create(model="e", input="cat", dimensions=8)

    assert [item.embedding for item in packed.data] == [item.embedding for item in plain.data]
    assert [len(item.embedding) for item in packed.data] == [384, 384]
    assert len(short.data[0].embedding) == 8


async def test_models_are_listed(client: AsyncOpenAI) -> None:
    models = await client.models.list()

    assert [model.id for model in models.data] == ["sim-large", "sim-small", "sim-embedding"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("429", openai.RateLimitError),
        ("500", openai.InternalServerError),
        ("503", openai.InternalServerError),
        ("cut", openai.APIConnectionError),
        ("garbage", ValueError),
    ],
)
async def test_a_fault_is_the_error_that_the_sdk_knows(
    client: AsyncOpenAI, admin: SimulatorAdmin, fault: str, error: type[Exception]
) -> None:
    await admin.put_rules([{"match": {"model": "bad"}, "action": {"fault": fault, "retry_after_s": 3}}])

    with pytest.raises(error) as raised:
        await client.chat.completions.create(model="bad", messages=[USER])

    if isinstance(raised.value, openai.RateLimitError):
        assert raised.value.response.headers["retry-after"] == "3"
    good = await client.chat.completions.create(model="good", messages=[USER])
    assert good.choices[0].finish_reason == "stop"
