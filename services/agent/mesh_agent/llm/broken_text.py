"""Text that a server cut inside a character: halves are joined where both arrive, and replaced where one does not.

A server that streams token by token may split a character between two tokens: as the two escaped halves of a surrogate
pair (`\\ud83d`, then `\\ude00`), or as UTF-8 bytes (`f0 9f`, then `98 80`), which makes each chunk invalid UTF-8.
"""

import codecs
import json
import re
from typing import Any, Final

import orjson

# A byte that is not UTF-8 becomes two low surrogates until its neighbours are known: text has no such pair.
_MARK: Final = "\udfff"
_BYTE_BASE: Final = 0xDC00
_ESCAPED_BYTES: Final = re.compile("(?:\udfff[\udc80-\udcff])+")
_HIGH_SURROGATES: Final = range(0xD800, 0xDC00)
_REPLACEMENT: Final = "\ufffd"


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    broken = error.object[error.start : error.end]
    return "".join(_MARK + chr(_BYTE_BASE + byte) for byte in broken), error.end


codecs.register_error("mesh_escape", _escape)


def loads(data: bytes) -> Any:
    """Parses JSON as servers write it, with halves of characters, NaN and numbers of any size.

    Its strings may contain halves of surrogate pairs, which `repaired` and `TextJoiner` resolve. Raises ValueError.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data.decode("utf-8", errors="mesh_escape"), strict=False)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def repaired(text: str) -> str:
    """The text with all halves joined, or replaced by U+FFFD. NUL is replaced as well.

    PostgreSQL cannot store NUL, and an answer that cannot be stored would be retried again and again.
    """
    if _is_whole(text):
        return text
    text = _ESCAPED_BYTES.sub(lambda run: _bytes_of(run[0]).decode("utf-8", errors="replace"), text)
    text = text.encode("utf-16-le", errors="surrogatepass").decode("utf-16-le", errors="replace")
    return text.replace("\x00", _REPLACEMENT)


def repaired_json(value: Any) -> Any:
    """The JSON value with `repaired` applied to every string in it. Raises RecursionError or ValueError."""
    match value:
        case str():
            return repaired(value)
        case list():
            return [repaired_json(item) for item in value]
        case dict():
            return {repaired(name): repaired_json(item) for name, item in value.items()}
    return value


class TextJoiner:
    """Joins the pieces of one text. The end of a piece is held back while it may be half of a character."""

    def __init__(self) -> None:
        self.held = ""
        """The end of the last piece, if it may be half of a character."""

    def add(self, piece: str) -> str:
        """The text that is certain now."""
        if not self.held and _is_whole(piece):
            return piece
        text = self.held + piece
        self.held = _half_at_end(text)
        return repaired(text[: len(text) - len(self.held)])

    def close(self) -> str:
        """What was held back, replaced: its other half never came."""
        text, self.held = repaired(self.held), ""
        return text


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def _half_at_end(text: str) -> str:
    if not text:
        return ""
    if ord(text[-1]) in _HIGH_SURROGATES:
        return text[-1]
    for length in (6, 4, 2):
        tail = text[-length:]
        if len(tail) == length and _ESCAPED_BYTES.fullmatch(tail) and _may_continue(_bytes_of(tail)):
            return tail
    return ""


def _may_continue(data: bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        return decoder.decode(data) == ""
    except UnicodeDecodeError:
        return False


def _bytes_of(escaped: str) -> bytes:
    return bytes(ord(char) - _BYTE_BASE for char in escaped[1::2])
