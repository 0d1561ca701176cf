"""Reads JSON from the text that a model answers.

Models that are asked for JSON alone put it in a fence, think aloud before it, or explain it. Memory and eval both read
such answers. A half answer is never taken for a whole one: from the bracket that is not closed, nothing is read.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

# Thoughts may hold JSON that the model then discards. Some chat templates open the element in the prompt, so that the
# answer holds only its end.
_THOUGHTS: Final = re.compile(r"\A.*</(think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)
_UNFINISHED_THOUGHTS: Final = re.compile(r"\A\s*<(think|thinking|thought|reasoning)>", re.IGNORECASE)
_FENCE: Final = re.compile(r"^[ \t]*```[ \t]*(?:json\w*)?[ \t]*\r?\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)
_OPENING: Final = re.compile(r"[{\[]")
# Prose may contain brackets, but an answer is not searched forever.
_MAX_OPENINGS: Final = 100


def json_values(text: object) -> Iterator[Any]:
    """The objects and arrays that the answer may mean, the likeliest first: the caller takes the first of its form.

    The order: the whole text, which may quote thoughts and fences; the contents of its fences; what its prose contains.
    Yields nothing for anything but a string. NaN and Infinity are not JSON.
    """
    if not isinstance(text, str):
        return
    text = text.lstrip("\ufeff")
    said = _THOUGHTS.sub("", text, count=1).strip()
    if _UNFINISHED_THOUGHTS.match(said):
        return
    for candidate in (text, said, *(fence[1] for fence in _FENCE.finditer(said))):
        value = _whole(candidate)
        if isinstance(value, dict | list):
            yield value
    yield from _in_prose(said)


def _whole(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _in_prose(text: str) -> Iterator[Any]:
    position = 0
    for _ in range(_MAX_OPENINGS):
        opening = _OPENING.search(text, position)
        if opening is None:
            return
        try:
            value, position = _DECODER.raw_decode(text, opening.start())
        except json.JSONDecodeError as error:
            if _is_cut(error):
                return
            position = opening.end()
        except (ValueError, RecursionError):
            return
        else:
            yield value


def _is_cut(error: json.JSONDecodeError) -> bool:
    """Whether the JSON was right up to the end of the text."""
    return error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant, strict=False)
