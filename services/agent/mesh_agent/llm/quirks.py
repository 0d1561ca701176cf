"""How a model's server differs from others, as data: what requests to it look like."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mesh_agent.model_settings import CallIds, EmptyContent, InstructionsRole, OutputLimit, ReasoningField


@dataclass(frozen=True, slots=True)
class Quirks:
    """The defaults are the form that most servers accept. `QuirkSettings` describes each field."""

    output_limit: OutputLimit = "max_tokens"
    stream_options: bool = True
    instructions_role: InstructionsRole = "system"
    alternate_roles: bool = False
    reasoning_fields: tuple[ReasoningField, ...] = ()
    reasoning_placeholders: bool = False
    parallel_tool_calls: bool = True
    call_ids: CallIds = "at_most_40"
    empty_content: EmptyContent = "none"
    extra_headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    extra_body: Mapping[str, Any] = field(default_factory=dict, hash=False)
