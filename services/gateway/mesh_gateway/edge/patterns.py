"""Patterns of parameters, and the error message for a value that does not match."""

from typing import Final

VISIBLE_ASCII: Final = r"^[\x21-\x7e]{1,255}$"
MONTH: Final = r"^[0-9]{4}-(0[1-9]|1[0-2])$"
CURSOR: Final = r"^[A-Za-z0-9_-]+={0,2}$"
JOB_KIND: Final = r"^[a-z_]{1,64}$"
# Documented only: what does not match is refused by `runs.position`.
EVENT_ID: Final = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}:[0-9]{1,9}:[0-9]{1,9}$"
PATTERN_WORDS: Final = {
    VISIBLE_ASCII: "must be 1 to 255 visible ASCII characters",
    MONTH: "must be YYYY-MM",
    CURSOR: "is not a cursor of this list",
    JOB_KIND: "is not a kind of job",
}
