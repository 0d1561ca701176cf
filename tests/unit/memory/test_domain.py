import pytest
from mesh_memory.domain import may_say_the_same, own_statements, shortened, text_hash, tidy


def test_tidy_text_has_single_spaces_and_one_line() -> None:
    assert tidy("  I like\n\n tea \t a lot. ") == "I like tea a lot."


def test_texts_in_two_unicode_forms_are_the_same() -> None:
    assert text_hash("Caf\u00e9") == text_hash("Cafe\u0301")


@pytest.mark.parametrize(("one", "other"), [("I like tea.", "i  LIKE tea."), ("Straße", "STRASSE")])
def test_spaces_and_case_do_not_make_another_text(one: str, other: str) -> None:
    assert text_hash(one) == text_hash(other)


def test_other_words_make_another_text() -> None:
    assert text_hash("I like tea.") != text_hash("I like teas.")


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("My name is Ada and my code word is zebra-4711.", ["My name is Ada and my code word is zebra-4711."]),
        ("Hi!\nI live in  Berlin.\nWhat is  the weather?", ["Hi! I live in Berlin."]),
        ("저는 서울에 살아요. 날씨가 어때요?", ["저는 서울에 살아요."]),
        ("我叫王小明。天气怎么样？", ["我叫王小明。"]),  # noqa: RUF001 - full-width marks are intended
        ("What is my code word?", []),
        ("Thanks", []),
        ("I'm Ada", ["I'm Ada"]),
        ("   ", []),
    ],
)
def test_questions_and_short_messages_are_not_kept(message: str, kept: list[str]) -> None:
    assert own_statements([message]) == kept


def test_each_message_is_kept_by_itself() -> None:
    assert own_statements(["I like tea.", "ok", "I like coffee."]) == ["I like tea.", "I like coffee."]


def test_a_long_text_is_cut_without_a_space_at_its_end() -> None:
    text = shortened("a" * 1_999 + " " + "b" * 50)

    assert text == "a" * 1_999


@pytest.mark.parametrize(
    ("one", "other", "may"),
    [
        ("My code word is zebra-4711.", "My code word is zebra-4712.", False),
        ("Call me at 10:30", "Call me at 10:45", False),
        ("I am 30 years old.", "The user is 30 years old", True),
        ("I like hiking", "I enjoy hiking", True),
    ],
)
def test_texts_with_other_numbers_never_say_the_same(one: str, other: str, may: bool) -> None:  # noqa: FBT001
    assert may_say_the_same(one, other) is may


def test_message_of_invisible_characters_states_nothing() -> None:
    assert own_statements(["\u200b" * 20, "\u2060 \ufeff"]) == []
