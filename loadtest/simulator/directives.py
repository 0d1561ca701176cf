"""Directives inside a user's message, such as `[[sim:tokens=300]]`, for tests that can only use the chat API.

They apply only in the last user message of a chat request without `response_format`: memory extraction and judging
quote the user and must not follow the quoted directives. README.md lists them.
"""

import json
import re
from typing import Any

from pydantic import ValidationError

from simulator.rules import Action

_OPENING = "[[sim:"
_DIRECTIVE = re.compile(r"\[\[sim:(?P<name>[a-z_]+)(?:=(?P<value>.*?))?\]\]", re.DOTALL)
_TOOL = re.compile(r"\[\[sim:(?P<name>tool|tool_loop)=(?P<tool>[^\s\]]+)\s*")
_FIELDS = {
    "tokens": "tokens",
    "reply": "reply",
    "after": "after_tokens",
    "retry_after": "retry_after_s",
    "ttft": "ttft_ms",
    "itl": "itl_ms",
}


class DirectiveError(ValueError):
    """The message contains an invalid directive, which the text names."""


def parse_directives(message: str) -> tuple[Action, str | None] | None:
    """The action that the message requests and the key that it names, or None without directives.

    Raises: DirectiveError
    """
    if _OPENING not in message:
        return None
    fields: dict[str, Any] = {}
    key = None
    position = message.find(_OPENING)
    while position >= 0:
        name, value, end = _read(message, position)
        if name == "key":
            key = value
        else:
            _apply(fields, name, value)
        position = message.find(_OPENING, end)
    try:
        return Action.model_validate(fields), key
    except ValidationError as invalid:
        raise DirectiveError(str(invalid)) from invalid


def strip_directives(message: str) -> str:
    """The message without its directives."""
    if _OPENING not in message:
        return message
    kept = []
    position = 0
    while (opening := message.find(_OPENING, position)) >= 0:
        kept.append(message[position:opening])
        try:
            position = _read(message, opening)[2]
        except DirectiveError:
            kept.append(_OPENING)
            position = opening + len(_OPENING)
    return "".join([*kept, message[position:]]).strip()


def _read(message: str, position: int) -> tuple[str, Any, int]:
    tool = _TOOL.match(message, position)
    if tool:
        return _read_tool(message, tool)
    found = _DIRECTIVE.match(message, position)
    if not found:
        raise DirectiveError(f"unreadable directive: {message[position : position + 60]}")
    return found["name"], found["value"], found.end()


def _read_tool(message: str, tool: re.Match[str]) -> tuple[str, Any, int]:
    # Arguments are JSON and may contain `]]`, so they are parsed as JSON and not up to the next bracket.
    arguments: Any = {}
    end = tool.end()
    if not message.startswith("]]", end):
        try:
            arguments, end = json.JSONDecoder().raw_decode(message, end)
        except ValueError as invalid:
            raise DirectiveError(f"arguments of tool {tool['tool']} are not JSON: {invalid}") from invalid
    if not message.startswith("]]", end):
        raise DirectiveError(f"directive of tool {tool['tool']} is not closed")
    return tool["name"], {"name": tool["tool"], "arguments": arguments}, end + 2


def _apply(fields: dict[str, Any], name: str, value: Any) -> None:
    match name:
        case "tool" | "tool_loop":
            fields.setdefault("tool_calls", []).append(value)
            fields["in_rounds"] = True
            fields["repeat"] = fields.get("repeat", False) or name == "tool_loop"
        case "echo":
            fields["echo"] = "user"
        case "prompt":
            fields["echo"] = "prompt"
        case "fault":
            kind, _, after = (value or "").partition("@")
            fields["fault"] = kind
            if after:
                fields["after_tokens"] = after
        case _ if name in _FIELDS:
            fields[_FIELDS[name]] = value
        case _:
            raise DirectiveError(f"unknown directive: {name}")
