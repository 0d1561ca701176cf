"""Patterns of parameters, and the error message for a value that does not match."""

from typing import Final

VISIBLE_ASCII: Final = r"^[\x21-\x7e]{1,255}$"
MONTH: Final = r"^\d{4}-(0[1-9]|1[0-2])$"
PATTERN_WORDS: Final = {VISIBLE_ASCII: "must be 1 to 255 visible ASCII characters", MONTH: "must be YYYY-MM"}
