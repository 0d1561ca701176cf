"""Reading a provider's stream, however the network splits it."""

import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest
from fakes.agent.chat_models import Heard
from hypothesis import example, given
from hypothesis import strategies as st
from mesh_agent.llm.completion import Completion
from mesh_agent.llm.finish_reasons import Finish
from mesh_agent.llm.openai_compatible.messages import message_of
from mesh_agent.llm.openai_compatible.source import Source
from mesh_agent.llm.openai_compatible.stream import read_chunks
from mesh_agent.llm.provider_errors import ProviderError

Delta = dict[str, Any]
EVERYWHERE = range(5_000)
HERE = Source.of("other", "http://here/v1", "m")


def line(delta: Delta, finish_reason: str | None = None, end: bytes = b"\n\n") -> bytes:
    chunk = {"id": "c1", "model": "m1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}
    return b"data: " + orjson.dumps(chunk) + end


def body(texts: Sequence[str], end: bytes = b"\n\n") -> bytes:
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": len(texts), "total_tokens": 9}}
    call = {"index": 0, "id": "a", "function": {"name": "calculate", "arguments": '{"expression": "1"}'}}
    lines = [line({"role": "assistant", "content": ""}, end=end), b": a comment" + end, b"event: x" + end]
    lines += [line({"content": text}, end=end) for text in texts]
    lines += [
        line({"tool_calls": [call]}, "stop", end=end),
        b"data: " + orjson.dumps(usage) + end,
        b"data: [DONE]" + end,
    ]
    return b"".join(lines)


async def pieces(data: bytes, cuts: Sequence[int]) -> AsyncIterator[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, stop in itertools.pairwise(places):
        yield data[start:stop]


def calls_of(completion: Completion) -> list[tuple[str | None, str, dict[str, Any]]]:
    return [(call["id"], call["name"], call["args"]) for call in message_of(completion, [], HERE, ()).tool_calls]


async def read(data: bytes, cuts: Sequence[int] = ()) -> tuple[Completion, Heard]:
    completion, heard = Completion(), Heard()
    await read_chunks(pieces(data, cuts), completion, heard.on_text)
    return completion, heard


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1), max_size=6),
    st.lists(st.integers(0, 5_000), max_size=12),
    st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\r", b"\n"]),
)
@example(["h\u00e9 \U0001f375"], EVERYWHERE, b"\n\n")
@example(["h\u00e9 \U0001f375"], EVERYWHERE, b"\r\n\r\n")
@example(["h\u00e9 \U0001f375"], EVERYWHERE, b"\r\r")
async def test_cuts_change_nothing(texts: list[str], cuts: Sequence[int], end: bytes) -> None:
    completion, heard = await read(body(texts, end), cuts)

    reported = len(texts)
    if not "".join(texts).strip():
        # White space alone is not an answer.
        texts = []
    assert ("".join(heard.texts), heard.chunks) == ("".join(texts), len(texts))
    assert completion.text == "".join(texts)
    assert calls_of(completion) == [("a", "calculate", {"expression": "1"})]
    assert completion.finish_reason is Finish.END
    assert completion.chunks == len(texts)
    assert completion.usage == {"prompt_tokens": 7, "completion_tokens": reported, "total_tokens": 9}


async def test_chunks_that_are_read_at_once_are_heard_at_once() -> None:
    first, rest = line({"content": "Well"}), body(["Fi", "ne", "."])

    _, heard = await read(first + rest, [len(first)])

    assert (heard.texts, heard.chunks) == (["Well", "Fine."], 4)


async def test_tool_calls_are_joined_by_their_index() -> None:
    deltas: list[Delta] = [
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "calculate", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "current_time", "arguments": "{}"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"expression"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ': "1+1"}'}}]},
    ]

    completion, _ = await read(b"".join(map(line, deltas)) + line({}, "tool_calls"))

    assert calls_of(completion) == [("a", "calculate", {"expression": "1+1"}), ("b", "current_time", {})]


CUT_OFF = "MODEL_CUT_OFF"
UNAVAILABLE = "MODEL_UNAVAILABLE"


@pytest.mark.parametrize("has_spoken", [True, False])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", CUT_OFF),
        (b": only a comment\n\n", CUT_OFF),
        (b"data: {nonsense\n\n", "MODEL_INVALID_ANSWER"),
        (b"data: [1]\n\n", "MODEL_INVALID_ANSWER"),
        (b"data: 5\n\n", "MODEL_INVALID_ANSWER"),
        (b'data: {"choices": [{"finish_reason": "error"}]}\n\n', CUT_OFF),
        (b'data: {"error": {"message": "overloaded"}}\n\n', UNAVAILABLE),
        (b'data: [{"error": {"code": 503}}]\n\n', UNAVAILABLE),
        (b'data: {"object": "error", "message": "overloaded"}\n\n', UNAVAILABLE),
        (b"event: error\ndata: overloaded\n\n", UNAVAILABLE),
        (b'event: error\ndata: {"message": "overloaded"}\n\n', UNAVAILABLE),
        (b'data: {"x_groq": {"error": "over_capacity"}}\n\n', UNAVAILABLE),
    ],
)
async def test_stream_that_is_none_says_why_and_whether_it_spoke(
    data: bytes,
    reason: str,
    has_spoken: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    """Another model may be called only before the first token, so each error must tell whether there was one."""
    before = line({"content": "Hi"}) if has_spoken else b""

    for cuts in ([len(before)], []):
        with pytest.raises(ProviderError) as failed:
            await read(before + data, cuts)

        assert failed.value.reason == (CUT_OFF if has_spoken and reason == UNAVAILABLE else reason)
        assert failed.value.has_spoken == has_spoken


NO_TOKENS: list[object] = ["seven", "\u0667", -1, "-1", 2**63, "9" * 10, 1.5, 1e300, True, []]


@pytest.mark.parametrize("usage", [5, *({"prompt_tokens": tokens} for tokens in NO_TOKENS), [], "x"])
async def test_usage_that_is_none_is_passed_over(usage: object) -> None:
    usage_line = b"data: " + orjson.dumps({"choices": [], "usage": usage}) + b"\n\n"

    completion, _ = await read(line({"content": "Hi"}) + line({}, "stop") + usage_line)

    assert completion.usage is None


@pytest.mark.parametrize("tokens", [7, 7.0, "7"])
async def test_whole_numbers_of_tokens_are_read_in_every_form(tokens: object) -> None:
    usage_line = b"data: " + orjson.dumps({"choices": [], "usage": {"prompt_tokens": tokens}}) + b"\n\n"

    completion, _ = await read(line({"content": "Hi"}) + line({}, "stop") + usage_line)

    assert completion.usage == {"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 0}


async def test_usage_of_zeros_does_not_replace_a_real_one() -> None:
    usages = [{"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}, {"prompt_tokens": 0}, None]
    lines = [b"data: " + orjson.dumps({"choices": [], "usage": usage}) + b"\n\n" for usage in usages]

    completion, _ = await read(line({"content": "Hi"}) + line({}, "stop") + b"".join(lines))

    assert completion.usage == usages[0]


async def test_nul_is_replaced() -> None:
    _, heard = await read(line({"content": "a\x00b"}) + line({}, "stop"))

    assert heard.texts == ["a\ufffdb"]
