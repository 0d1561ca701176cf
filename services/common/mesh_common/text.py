"""Which text a reader can see.

Texts that differ in invisible characters only look alike, and text that consists of them looks empty. The set is
Unicode's property Default_Ignorable_Code_Point (DerivedCoreProperties.txt, 17.0), which `unicodedata` does not have.
"""

import re
import unicodedata
from typing import Final

_RANGES: Final = (
    (0x00AD, 0x00AD),  # soft hyphen
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x061C, 0x061C),  # Arabic letter mark
    (0x115F, 0x1160),  # Hangul fillers
    (0x17B4, 0x17B5),  # Khmer inherent vowels
    (0x180B, 0x180F),  # Mongolian variation selectors
    (0x200B, 0x200F),  # zero-width spaces and joiners, direction marks
    (0x202A, 0x202E),  # direction embeddings and overrides
    (0x2060, 0x206F),  # word joiner, invisible operators, direction isolates
    (0x3164, 0x3164),  # Hangul filler
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFEFF, 0xFEFF),  # byte order mark
    (0xFFA0, 0xFFA0),  # halfwidth Hangul filler
    (0xFFF0, 0xFFF8),  # unassigned specials
    (0x1BCA0, 0x1BCA3),  # shorthand format controls
    (0x1D173, 0x1D17A),  # musical format controls
    (0xE0000, 0xE0FFF),  # tags, variation selectors supplement
)
# White space, controls, marks of annotations, and a symbol that is drawn as a space.
_BLANK: Final = (
    (0x0000, 0x0020),
    (0x007F, 0x00A0),
    (0x1680, 0x1680),
    (0x2000, 0x200A),
    (0x2028, 0x2029),
    (0x202F, 0x202F),
    (0x205F, 0x205F),
    (0x2800, 0x2800),
    (0x3000, 0x3000),
    (0xFFF9, 0xFFFB),
)
_IGNORABLE: Final = dict.fromkeys(code for first, last in _RANGES for code in range(first, last + 1))
_BMP: Final = 0xFFFF


def _class_member(code: int) -> str:
    """For regular expressions of Python and of JSON Schema, which share no escape beyond the BMP."""
    return f"\\u{code:04x}" if code <= _BMP else chr(code)


VISIBLE_CHARACTER: Final = (
    f"[^{''.join(f'{_class_member(first)}-{_class_member(last)}' for first, last in (*_RANGES, *_BLANK))}]"
)
"""A pattern for one character that leaves a mark. Private and unassigned characters do: fonts may have them."""
_search: Final = re.compile(VISIBLE_CHARACTER).search


def is_visible(text: str) -> bool:
    """Whether at least one character of `text` leaves a mark when it is displayed."""
    return _search(text) is not None


def without_invisible(text: str) -> str:
    """`text` without its default-ignorable characters, for comparison only.

    Never display the result: joiners and variation selectors shape emoji, Persian and the scripts of India.
    """
    return text if text.isascii() else text.translate(_IGNORABLE)


def comparable(text: str) -> str:
    """`text` in NFC without its default-ignorable characters: equal for texts that look alike."""
    return composed(without_invisible(text))


def composed(text: str) -> str:
    """`text` in Unicode's normalization form C: keyboards and file systems differ in how they write é and 한."""
    return unicodedata.normalize("NFC", text)
