"""However the network splits an answer, it is the same answer."""

import itertools
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.agent.chat_models import Heard
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_agent.llm.completion import Completion
from mesh_agent.llm.openai_compatible.stream import read_chunks
from mesh_agent.llm.provider_errors import ProviderError

CASES = [json.loads(line) for line in Path("tests/cases/provider-streams.jsonl").read_text("utf-8").splitlines()]


async def _read(data: bytes, cuts: Sequence[int]) -> dict[str, Any]:
    async def received() -> AsyncIterator[bytes]:
        places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
        for start, stop in itertools.pairwise(places):
            yield data[start:stop]

    completion, heard, failure = Completion(), Heard(), ""
    try:
        await read_chunks(received(), completion, heard.on_text)
    except ProviderError as error:
        failure = error.reason
    calls = [(call.id, call.index, call.name, call.pieces, call.extra_content) for call in completion.tool_calls.calls]
    return {
        "text": "".join(heard.texts),
        "chunks": heard.chunks,
        "calls": calls,
        "finish_reason": completion.finish_reason,
        "usage": completion.usage,
        "reasoning": completion.reasoning,
        "failure": failure,
    }


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 2_000), max_size=8), end=st.sampled_from(["\n", "\r\n", "\r"]))
async def test_splits_change_nothing(case: dict[str, Any], cuts: list[int], end: str) -> None:
    text = "".join(piece.get("text", "") for piece in case["pieces"])
    data = text.replace("\r\n", "\n").replace("\n", end).encode()

    whole = await _read(data, ())

    assert await _read(data, cuts) == await _read(data, range(len(data))) == whole
