"""The messages of a request, in the form that strict servers accept."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.utils import convert_to_openai_messages

from mesh_agent.llm.openai_compatible.call_ids import call_id_mapping
from mesh_agent.llm.openai_compatible.messages import OPAQUE
from mesh_agent.llm.openai_compatible.roles import with_roles
from mesh_agent.llm.openai_compatible.source import Source
from mesh_agent.llm.quirks import Quirks

# OpenAI's form of a name.
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NOT_IN_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]")
# Gemini's documented substitute for the signature of a call that another model made
# (https://ai.google.dev/gemini-api/docs/thought-signatures).
_NO_SIGNATURE: Final = {"google": {"thought_signature": "skip_thought_signature_validator"}}


def request_messages(messages: Sequence[BaseMessage], source: Source, quirks: Quirks) -> list[dict[str, Any]]:
    """The messages of a request to `source`.

    Arguments are always a JSON object, and a tool's message has no `name`, which Groq refuses. Opaque fields are those
    that the same source wrote.
    """
    converted: list[dict[str, Any]] = convert_to_openai_messages(messages)
    mapped_id: Callable[[str], str] | None = None
    for message, entry in zip(messages, converted, strict=True):
        if isinstance(message, AIMessage):
            _complete(entry, message, source, quirks)
        elif entry["role"] == "tool":
            entry.pop("name", None)
        else:
            continue
        mapped_id = mapped_id or call_id_mapping(quirks.call_ids)
        if mapped_id:
            _map_ids(entry, mapped_id)
    return with_roles(converted, quirks)


def _map_ids(entry: dict[str, Any], mapped_id: Callable[[str], str]) -> None:
    for call in entry.get("tool_calls", ()):
        call["id"] = mapped_id(call["id"] or "")
    if "tool_call_id" in entry:
        entry["tool_call_id"] = mapped_id(entry["tool_call_id"])


def _complete(entry: dict[str, Any], message: AIMessage, source: Source, quirks: Quirks) -> None:
    opaque = message.additional_kwargs.get(OPAQUE) or {}
    if not source.wrote(opaque):
        opaque = {}
    wants_extras = "extra_content" in quirks.reasoning_fields
    extras = opaque.get("calls", {}) if wants_extras else {}
    entry.update({name: value for name, value in opaque.get("fields", {}).items() if name in quirks.reasoning_fields})
    calls = [_call_entry(call["id"], call["name"], call["args"], extras) for call in message.tool_calls]
    calls += [
        _call_entry(call["id"], call["name"], {"unreadable": call["args"]}, extras)
        for call in message.invalid_tool_calls
    ]
    if not calls:
        return
    entry["tool_calls"] = calls
    if quirks.reasoning_placeholders:
        _fill_reasoning(entry, quirks)
    if not entry.get("content"):
        _empty_content(entry, quirks)


def _fill_reasoning(entry: dict[str, Any], quirks: Quirks) -> None:
    if "reasoning_content" in quirks.reasoning_fields:
        entry.setdefault("reasoning_content", "")
    if "extra_content" in quirks.reasoning_fields and not any("extra_content" in call for call in entry["tool_calls"]):
        # Of parallel calls, only the first has a signature.
        entry["tool_calls"][0]["extra_content"] = _NO_SIGNATURE


def _empty_content(entry: dict[str, Any], quirks: Quirks) -> None:
    match quirks.empty_content:
        case "none":
            entry["content"] = None
        case "empty":
            entry["content"] = ""
        case "absent":
            entry.pop("content", None)


def _call_entry(
    call_id: str | None, name: str | None, arguments: Any, extras: Mapping[str | None, Any]
) -> dict[str, Any]:
    name = name or ""
    if not _NAME.fullmatch(name):
        # A model may invent a name that servers refuse in a request.
        name = _NOT_IN_NAME.sub("_", name)[:64] or "unknown"
    function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
    entry: dict[str, Any] = {"id": call_id, "type": "function", "function": function}
    if call_id in extras:
        entry["extra_content"] = extras[call_id]
    return entry
