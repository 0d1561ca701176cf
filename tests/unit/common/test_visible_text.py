import pytest
from mesh_common.visible_text import is_visible, without_ignorables

FAMILY = "\U0001f468\u200d\U0001f469"


@pytest.mark.parametrize("text", ["a", " 나 ", ".", "\u200ba", FAMILY, "\u0301", "\u00e9", "0"])
def test_text_that_shows_something_is_visible(text: str) -> None:
    assert is_visible(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", " \t\n", "\u200b", "\u200b \u2060", "\ufeff", "\u00ad", "\u3164", "\u115f\u1160", "\ufe0f"),
        *("\u00a0\u2003", "\u2028", "\x01\x7f", "\U000e0041", "\u202e", "\u034f", "\u180e"),
    ],
)
def test_text_of_unseen_characters_is_not_visible(text: str) -> None:
    assert not is_visible(text)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("I like\u200b tea\ufeff.", "I like tea."),
        ("caf\u200be\u0301", "caf\u00e9"),
        ("cafe\u034f\u0301", "caf\u00e9"),
        ("\u1112\u1161\u11ab", "\ud55c"),
        ("plain  text\n", "plain  text\n"),
    ],
)
def test_ignorables_are_left_out_and_the_rest_is_composed(text: str, plain: str) -> None:
    assert without_ignorables(text) == plain
