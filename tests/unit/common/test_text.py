"""Which texts a reader can see, and which look alike."""

import unicodedata

import pytest
from mesh_common.text import comparable, composed, is_visible, without_invisible


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \t\r\n",
        "\u00a0\u3000",
        "\u200b",
        "\u200d\u2060\ufeff",
        "\u00ad\u034f\u061c",
        "\u115f\u1160\u3164\uffa0",
        "\ufe0f\U000e0100",
        "\u202e \u2066",
        "\U000e0041\U000e007f",
        "\x07\x1b",
        "\u2800",
        "\u2028\u2029",
    ],
)
def test_text_without_a_mark_is_not_visible(text: str) -> None:
    assert not is_visible(text)


@pytest.mark.parametrize("text", ["a", ".", "\u200ba\u200b", "한", "\u0301", "👩\u200d🚀", "\ue000", " \u00a0!"])
def test_text_with_a_mark_is_visible(text: str) -> None:
    assert is_visible(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text\n", "plain text\n"),
        ("a\u200bb", "ab"),
        ("\ufeffa\ufe0f", "a"),
        ("pass\u00adword", "password"),
        ("e\u034f\u0301", "e\u0301"),
        ("\u200b", ""),
    ],
)
def test_invisible_characters_are_removed(text: str, shown: str) -> None:
    assert without_invisible(text) == shown


def test_format_characters_that_are_drawn_stay() -> None:
    # U+0600 is the Arabic number sign.
    assert without_invisible("\u0600") == "\u0600"


def test_both_forms_of_a_text_are_composed_to_one() -> None:
    assert composed(unicodedata.normalize("NFD", "한글 é")) == composed("한글 é") == "한글 é"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("I like\u200b tea\ufeff.", "I like tea."),
        ("caf\u200be\u0301", "caf\u00e9"),
        ("cafe\u034f\u0301", "caf\u00e9"),
        ("plain  text\n", "plain  text\n"),
    ],
)
def test_texts_that_look_alike_are_comparable(text: str, same: str) -> None:
    assert comparable(text) == same
