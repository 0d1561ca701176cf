import math

import pytest
from simulator.embeddings import embed

# Fixed on purpose: stored vectors and the expectations of other tests rely on it.
EXPECTED_STABLE = [0.2867, -0.2867, 0.0, 0.8192, 0.0, 0.0, 0.2867, -0.2867]


def cosine(one: str, other: str) -> float:
    return math.sumprod(embed(one, 384), embed(other, 384))


@pytest.mark.parametrize("text", ["My cat is called Miso.", "나는 서울에 살아요", "?!", " ", "한"])
@pytest.mark.parametrize("dimensions", [1, 384, 1536])
def test_a_vector_has_the_asked_dimensions_and_length_one(text: str, dimensions: int) -> None:
    vector = embed(text, dimensions)

    assert len(vector) == dimensions
    assert math.sumprod(vector, vector) == pytest.approx(1, abs=1e-5)


def test_the_vector_of_a_text_never_changes() -> None:
    embed.cache_clear()
    first = embed("stable", 8)
    embed.cache_clear()

    assert embed("stable", 8) == first
    assert [round(value, 4) for value in first] == EXPECTED_STABLE


@pytest.mark.parametrize(
    ("question", "fact", "others"),
    [
        (
            "What is the name of my cat?",
            "My cat is called Miso.",
            ["I live in Oslo.", "My brother plays the violin.", "I am allergic to nuts."],
        ),
        ("Where do I live?", "I live in Oslo.", ["My cat is called Miso.", "I am allergic to nuts."]),
        ("서울에 사는 사람", "나는 서울에 살아요.", ["제 고양이는 미소예요.", "저는 바이올린을 연주해요."]),
        ("query: violins", "passage: My brother plays the violin.", ["passage: I live in Oslo."]),
    ],
)
def test_a_question_is_nearest_to_the_fact_it_shares_words_with(question: str, fact: str, others: list[str]) -> None:
    nearest_other = max(cosine(question, other) for other in others)

    assert cosine(question, fact) > nearest_other + 0.1


def test_unrelated_texts_are_far_apart_and_near_duplicates_close() -> None:
    assert abs(cosine("The train leaves at noon", "Quantum chromodynamics")) < 0.2
    assert cosine("I love green tea", "I love green teas") > 0.7
