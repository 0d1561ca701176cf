"""Characters that nobody sees: whether a text has anything else, and the text without them."""

import re
import unicodedata
from typing import Final

# Default_Ignorable_Code_Point of Unicode 16 (DerivedCoreProperties.txt), which Python's unicodedata does not have.
_IGNORABLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
# Controls, formats, and separators of every kind.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})


def without_ignorables(text: str) -> str:
    """The text in NFC without characters that are not rendered. To compare texts, not to show them: some of these
    characters shape emoji and the letters of Persian and of Indian scripts."""
    return unicodedata.normalize("NFC", _IGNORABLE.sub("", text))


def is_visible(text: str) -> bool:
    """Whether a reader sees anything of the text."""
    return any(unicodedata.category(character) not in _UNSEEN for character in _IGNORABLE.sub("", text))
