"""The roles of a request's messages, for servers that do not take them in any order."""

from typing import Any, Final

from mesh_agent.llm.quirks import Quirks

# Between a tool's result and a message of the user, where strict servers demand an answer.
_FILLER: Final = "OK."
_MERGED_ROLES: Final = ("user", "assistant")


def with_roles(entries: list[dict[str, Any]], quirks: Quirks) -> list[dict[str, Any]]:
    """The messages as the server takes them. Their content is text or null."""
    if quirks.alternate_roles:
        entries = _instructions_first(entries)
    if quirks.instructions_role != "system":
        entries = [
            {**entry, "role": quirks.instructions_role} if entry["role"] == "system" else entry for entry in entries
        ]
    return _alternating(entries) if quirks.alternate_roles else entries


def _instructions_first(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    instructions = [entry["content"] for entry in entries if entry["role"] == "system"]
    if not instructions or (len(instructions) == 1 and entries[0]["role"] == "system"):
        return entries
    others = [entry for entry in entries if entry["role"] != "system"]
    return [{"role": "system", "content": "\n\n".join(instructions)}, *others]


def _alternating(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merges successive messages of one role, such as two of the user after a failed turn."""
    ordered: list[dict[str, Any]] = []
    for entry in entries:
        role = entry["role"]
        if role == "assistant" and not entry.get("content") and not entry.get("tool_calls"):
            # Strict servers refuse an empty answer.
            continue
        before = ordered[-1] if ordered else {}
        if role in _MERGED_ROLES and before.get("role") == role and not before.get("tool_calls"):
            texts = (before.get("content"), entry.get("content"))
            ordered[-1] = {**before, **entry, "content": "\n\n".join(text for text in texts if text)}
            continue
        if role == "user" and before.get("role") == "tool":
            ordered.append({"role": "assistant", "content": _FILLER})
        ordered.append(entry)
    return ordered
