"""Which parameter of a request a server refuses, as far as its error names one that was sent.

Providers name it in a field of its own (OpenAI, vLLM), as a path into the request (Mistral, FastAPI), or in a sentence
(Gemini, Groq, proxies).
"""

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, Final, get_args

from mesh_agent.llm.openai_compatible.request import ROLE
from mesh_agent.model_settings import ReasoningField

_CODES: Final = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter", "extra_forbidden"})
_REFUSED: Final = re.compile(
    r"unsupported|(?:not|n.t) (?:\w+ )?support|no longer support|unknown|unrecogni[sz]ed|unexpected|extra inputs?|"
    r"extra fields?|additional propert|not (?:permitted|allowed|accepted|valid)|deprecated|forbidden|"
    r"invalid (?:parameter|argument|field|name)|cannot (?:find|be (?:used|set|specified))|not one of|does not match",
    re.IGNORECASE,
)
# The server wants more of the parameter, not less.
_WANTED: Final = re.compile(
    r"\b(?:missing|must (?:be|have|not be empty)|required|requires|too (?:large|small|long|short|many))\b",
    re.IGNORECASE,
)
_TEXT_FIELDS: Final = ("message", "msg", "detail", "error")
# Deep enough for Mistral, whose `message` is an object with a list of faults.
_MAX_DEPTH: Final = 5
# A server that repeats the request does so after it has said what is wrong.
_MAX_TEXT_CHARS: Final = 1_000
_MESSAGE_FIELDS: Final = frozenset(get_args(ReasoningField))
_ROLE_PATH: Final = re.compile(r"messages?\W{0,2}\d+\W{0,2}role")
_OUR_ROLE: Final = re.compile(r"""messages?\W{0,2}\d*\W{0,2}role\b|['"`](?:developer|system)['"`]""")


def refused_parameter(body: bytes, sent: Collection[str]) -> str | None:
    """The name among those that were `sent`; None if the error is about something else."""
    errors = [*_errors(_parsed(body))]
    found = (name for read in (_by_field, _by_path, _by_text) for error in errors if (name := read(error, sent)))
    return next(found, None)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return {"message": body.decode(errors="replace")}


def _errors(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """The objects of an error. The request, which some servers repeat as `input` or `body`, is not one."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for entry in value:
            yield from _errors(entry, depth + 1)
    if isinstance(value, str):
        yield {"message": value}
    if isinstance(value, dict):
        yield value
        for name in (*_TEXT_FIELDS, "details", "errors"):
            if not isinstance(value.get(name), str):
                yield from _errors(value.get(name), depth + 1)


def _by_field(error: dict[str, Any], sent: Collection[str]) -> str | None:
    """`{"param": "max_tokens", "code": "unsupported_parameter"}`."""
    parameter = error.get("param")
    if not isinstance(parameter, str) or not (error.get("code") in _CODES or _is_refusal(_text(error))):
        return None
    if _ROLE_PATH.fullmatch(parameter):
        return ROLE if ROLE in sent else None
    return _named(re.findall(r"\w+", parameter), sent)


def _by_path(error: dict[str, Any], sent: Collection[str]) -> str | None:
    """`{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}`."""
    path = error.get("loc")
    if not isinstance(path, list) or not (error.get("type") in _CODES or _is_refusal(_text(error))):
        return None
    if ROLE in sent and "messages" in path and _OUR_ROLE.search(_text(error)):
        return ROLE
    return _named([name for name in path if isinstance(name, str)], sent)


def _named(path: list[str], sent: Collection[str]) -> str | None:
    """The parameter at a path. In messages it is the last name: those before are roles and places."""
    if path[:1] == ["body"]:
        path = path[1:]
    if not path:
        return None
    is_in_messages = path[0].startswith("message")
    name = path[-1] if is_in_messages else path[0]
    return name if name in sent and (name in _MESSAGE_FIELDS) is is_in_messages else None


def _by_text(error: dict[str, Any], sent: Collection[str]) -> str | None:
    """`Unknown name "stream_options": Cannot find field.` or `property 'reasoning' is unsupported`."""
    text = _text(error)
    if not _is_refusal(text):
        return None
    places = {name: match.start() for name in sent if (match := _quoted(name).search(text))}
    return min(places, key=places.__getitem__) if places else None


def _is_refusal(text: str) -> bool:
    return bool(_REFUSED.search(text)) and not _WANTED.search(text)


def _quoted(name: str) -> re.Pattern[str]:
    """The name as a parameter: in quotes, after a colon, or bare if no text of a person contains such a word."""
    if name == ROLE:
        return re.compile(
            r"""messages?\W{0,2}\d+\W{0,2}role\b|role\b[^.]{0,40}['"`](?:developer|system)['"`]|"""
            r"""['"`](?:developer|system)['"`][^.]{0,40}\brole"""
        )
    bare = r"|\b" + re.escape(name) + r"\b" if "_" in name else ""
    return re.compile(rf"""['"`]{re.escape(name)}['"`]|: {re.escape(name)}\b{bare}""")


def _text(error: dict[str, Any]) -> str:
    texts = (error.get(name) for name in _TEXT_FIELDS)
    return " ".join(text for text in texts if isinstance(text, str))[:_MAX_TEXT_CHARS]
