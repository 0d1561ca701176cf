"""The arguments of a tool call: one JSON object, from the pieces that servers send."""

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import orjson

from mesh_agent.llm.broken_text import repaired, repaired_json

# `[]` is how PHP writes an empty object.
_PLACEHOLDERS: Final = ("{}", "null", "[]", '""')


@dataclass(frozen=True, slots=True)
class Arguments:
    """`is_stated` is false for arguments that are empty or a placeholder: the real ones may have been cut."""

    value: dict[str, Any]
    is_stated: bool


def as_piece(arguments: Any) -> str:
    """The piece as text: some servers send the arguments as the object itself."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else json.dumps(arguments, ensure_ascii=False)


def is_whole(text: str) -> bool:
    """Whether the text is a JSON object with something in it."""
    return text.lstrip().startswith("{") and bool(_object(text))


def read_arguments(pieces: list[str]) -> Arguments | None:
    """None if the pieces give no JSON object.

    Usually they are parts of one text. Some servers send a placeholder before it, the text so far in each piece, or
    the whole text again at the end.
    """
    stated = [piece for piece in pieces if piece.strip()]
    while stated and stated[0].strip() in _PLACEHOLDERS:
        stated = stated[1:]
    if not stated:
        return Arguments({}, is_stated=False)
    for text in _readings(pieces, stated):
        value = _object(text)
        if value is not None:
            return Arguments(value, is_stated=bool(value))
    return None


def _readings(pieces: list[str], stated: list[str]) -> list[str]:
    """What the pieces may mean, most likely first."""
    last, before = stated[-1], "".join(stated[:-1])
    readings = ["".join(pieces), "".join(stated)]
    is_cumulative = all(later.startswith(earlier) for earlier, later in pairwise(stated))
    if is_cumulative or last == before or all(map(is_whole, stated)):
        readings.append(last)
    return readings


def _object(text: str) -> dict[str, Any] | None:
    """The object with values that can be encoded wherever it goes: into events, checkpoints and requests.

    A model may write lone surrogates, or numbers beyond 64 bits, which orjson rejects.
    """
    try:
        value = json.loads(repaired(text), strict=False)
        if isinstance(value, str):
            # Encoded twice.
            value = json.loads(value, strict=False)
        value = repaired_json(value)
        return orjson.loads(json.dumps(value, allow_nan=False)) if isinstance(value, dict) else None
    except (ValueError, RecursionError):
        return None
