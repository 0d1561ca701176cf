import json

import pytest
from simulator.facts import message_numbers, self_statements


@pytest.mark.parametrize(
    ("message", "facts"),
    [
        ("My cat is called Miso-4711.", ["My cat is called Miso-4711."]),
        ("Hello. I live in Oslo. It rains there.", ["I live in Oslo."]),
        ("i'm vegan! It rains.", ["i'm vegan!"]),
        ("What is my name?", []),
        ("Dogs bark, i.e. they are loud. Mice, too.", []),
        ("Timmy told Kim a story.", []),
        ("나는 서울에 살아요. 날씨가 좋네요.", ["나는 서울에 살아요."]),
        ("제 이름은 민수입니다.\n내 고양이는 미소예요.", ["제 이름은 민수입니다.", "내 고양이는 미소예요."]),
        ("내일은 비가 와요. 제주도는 섬이다.", []),
        ("[[sim:tokens=5]] I play chess. I play chess.", ["I play chess."]),
    ],
)
def test_facts_are_the_sentences_in_which_users_speak_of_themselves(message: str, facts: list[str]) -> None:
    assert self_statements([message]) == facts


def test_all_messages_count_in_order_and_each_sentence_once() -> None:
    assert self_statements(["I ski.", "I read.", "I ski."]) == ["I ski.", "I read."]


@pytest.mark.parametrize(
    "transcript",
    [
        "Extract what I should remember.\nuser: I ski.\nassistant: I am a machine. I like you.\nuser: My dog barks.\n",
        "**User:** I ski.\n**Assistant:** I am a machine.\n- user: My dog barks.",
        '[{"role": "user", "content": "I ski. My dog barks."}, {"role": "assistant", "content": "I help."}]',
        "Extract for me:\n<user>I ski.</user><assistant>I help.</assistant><user>My dog barks.</user>",
        "## Last k Messages\nuser: My hat.\n\n## New Messages\nuser: I ski. My dog barks.\n\n## Current Date\nuser: I.",
        "사용자: I ski. My dog barks.\nassistant: I help.",
    ],
)
def test_of_a_transcript_only_the_users_words_count(transcript: str) -> None:
    assert self_statements([transcript]) == ["I ski.", "My dog barks."]


def test_document_with_messages_is_a_transcript_that_names_the_message_of_each_fact() -> None:
    messages = [
        {"number": 1, "role": "user", "content": "I ski. Do you?"},
        {"number": 2, "role": "assistant", "content": "I do not."},
        {"number": 3, "role": "user", "content": "My dog barks."},
    ]
    document = json.dumps({"known_facts": ["I sing."], "messages": messages})

    assert self_statements([document]) == ["I ski.", "My dog barks."]
    assert message_numbers([document]) == {"I ski.": 1, "My dog barks.": 3}
