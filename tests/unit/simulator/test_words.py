from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator.words import reply_text, split_tokens, writer_for


def test_the_same_question_gets_the_same_words() -> None:
    first = reply_text(seed=7, model="m", user_message="Hello", tokens=20)
    second = reply_text(seed=7, model="m", user_message="Hello", tokens=20)

    assert first == second
    assert len(first.split(" ")) == 20


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 8, "model": "m", "user_message": "Hello"},
        {"seed": 7, "model": "n", "user_message": "Hello"},
        {"seed": 7, "model": "m", "user_message": "Hello!"},
    ],
)
def test_seed_model_and_question_each_change_the_words(other: dict[str, Any]) -> None:
    text = reply_text(seed=7, model="m", user_message="Hello", tokens=20)

    assert reply_text(**other, tokens=20) != text


def test_an_answer_longer_than_the_table_of_words_has_its_full_length() -> None:
    texts, deltas = writer_for(0).write("m", "long", 150_000)

    assert len(texts) == len(deltas) == 150_000


def test_deltas_carry_the_tokens_of_the_text() -> None:
    texts, deltas = writer_for(0).write("m", "Hello", 50)

    assert [orjson.loads(delta)["content"] for delta in deltas] == texts
    assert not texts[0].startswith(" ")


@given(st.text())
def test_tokens_joined_are_the_text_again(text: str) -> None:
    tokens = split_tokens(text)

    assert "".join(tokens) == text
    assert tokens
