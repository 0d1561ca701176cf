"""The tools by which the agents of a team turn to each other. No server executes them: the team does."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mesh_agent.domain.tools import Effect
from mesh_agent.plans.plan import PlannedMember, PlannedTool

# The longest name that providers take.
_MAX_NAME_CHARS: Final = 64
_TASK: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "task": {
            "type": "string",
            "minLength": 1,
            "maxLength": 32_000,
            "description": "What it should do, with all it has to know: it does not see this conversation.",
        }
    },
    "required": ["task"],
    "additionalProperties": False,
}
_TRANSFER: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"reason": {"type": "string", "maxLength": 2_000}},
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One such tool, and the agent that it turns to."""

    member: PlannedMember
    tool: PlannedTool


def tasks(members: Iterable[PlannedMember]) -> dict[str, Turn]:
    """By the tool's name."""
    return _turns("ask_", "Gives the agent {name} a task and returns its answer. {description}", _TASK, members)


def transfers(members: Iterable[PlannedMember]) -> dict[str, Turn]:
    """By the tool's name."""
    return _turns("transfer_to_", "Passes the conversation on to the agent {name}. {description}", _TRANSFER, members)


def _turns(
    prefix: str, description: str, parameters: Mapping[str, Any], members: Iterable[PlannedMember]
) -> dict[str, Turn]:
    turns: dict[str, Turn] = {}
    for index, member in enumerate(members):
        name = f"{prefix}{member.name}"[:_MAX_NAME_CHARS]
        if name in turns:
            number = f"_{index}"
            name = f"{name[: _MAX_NAME_CHARS - len(number)]}{number}"
        text = description.format(name=member.name, description=member.description).strip()
        schema = {"type": "function", "function": {"name": name, "description": text, "parameters": parameters}}
        turns[name] = Turn(member, PlannedTool(name, schema, Effect.NONE))
    return turns
