"""Ids of tool calls in the form that a server demands. Another provider may have made them, even in the same run."""

import hashlib
import re
from collections.abc import Callable
from itertools import count
from typing import Final

from mesh_agent.model_settings import CallIds

_DIGITS: Final = 9
_FORMS: Final = {
    # OpenAI refuses longer ones.
    "at_most_40": re.compile(r"[\x21-\x7e]{1,40}"),
    # Mistral refuses all others.
    "nine_alphanumerics": re.compile(r"[a-zA-Z0-9]{9}"),
}


def call_id_mapping(form: CallIds) -> Callable[[str], str] | None:
    """Maps the ids of one request: a call and its result have the same id, and each call has its own.

    An id has the same replacement in every request, so that a provider's prompt cache recognises the history. None if
    any id is accepted.
    """
    accepted = _FORMS.get(form)
    if accepted is None:
        return None
    replacements: dict[str, str] = {}
    taken: set[str] = set()

    def mapped(call_id: str) -> str:
        if call_id not in replacements:
            candidates = (_digest(call_id, attempt) for attempt in count())
            given = call_id if accepted.fullmatch(call_id) and call_id not in taken else ""
            replacements[call_id] = given or next(each for each in candidates if each not in taken)
            taken.add(replacements[call_id])
        return replacements[call_id]

    return mapped


def _digest(call_id: str, attempt: int) -> str:
    text = f"{attempt} {call_id}".encode(errors="surrogatepass")
    return hashlib.sha256(text).hexdigest()[:_DIGITS]
