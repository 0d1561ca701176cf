"""The run plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from string import Template
from typing import Any, Final, assert_never

import orjson

from mesh_agent.domain.tools import MAX_TOOL_RESULT_CHARS, Approval, Effect

DEFAULT_ASSISTANT: Final = "default"
"""The assistant that the settings of the process describe."""

type ToolSchema = Mapping[str, Any]
"""A function tool as OpenAI's API describes it; never changed in place."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The assistant from which a plan was resolved. Without a version, its content comes from the settings."""

    name: str = DEFAULT_ASSISTANT
    version: str = ""


@dataclass(frozen=True, slots=True)
class Instructions:
    """Templates with `$variables` (string.Template). A `$name` without a value stays as written.

    `system` contains `$memories`, replaced by the rendered `memories`; that contains `$facts`, one line per memory.
    """

    system: str
    memories: str = ""
    variables: tuple[tuple[str, str], ...] = ()

    def prompt(self, memories: Sequence[str]) -> str:
        """The system message. Each memory is one line, so that it cannot imitate a heading or another speaker."""
        facts = "\n".join(f"- {' '.join(memory.split())}" for memory in memories)
        rendered = Template(self.memories).safe_substitute(facts=facts) if facts else ""
        return Template(self.system).safe_substitute(dict(self.variables), memories=rendered).strip()


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A model of the registry, by name, with the limits of this run."""

    name: str
    context_tokens: int
    max_output_tokens: int

    @property
    def input_budget_tokens(self) -> int:
        return input_budget_tokens(self.context_tokens, self.max_output_tokens)


@dataclass(frozen=True, slots=True)
class PlannedTool:
    """A tool as it was when the run began. If a stored plan lacks a policy, the strictest applies."""

    name: str
    schema: ToolSchema
    effect: Effect = Effect.ONCE
    timeout_s: float = 30.0
    max_result_chars: int = MAX_TOOL_RESULT_CHARS
    approval: Approval = Approval.NEVER
    is_parallel: bool = True
    """Whether a call may run while other calls of the same answer run."""
    is_question: bool = False
    """Whether a call asks the user, and the user's answer is its result. Such a tool needs approval as well."""

    @property
    def needs_approval(self) -> bool:
        match self.approval:
            case Approval.NEVER:
                return False
            case Approval.ALWAYS:
                return True
            case Approval.ON_EFFECT:
                return self.effect is not Effect.NONE
            case _:
                assert_never(self.approval)


@dataclass(frozen=True, slots=True)
class MemoryPolicy:
    """Whether the run is given memories of its user."""

    recalls: bool = True
    remembers: bool = True
    """Whether memory receives what was said."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`rounds`: model answers in one run. The last is requested without tools, so that it addresses the user.

    `seconds`: how long one attempt may take. `tokens`: read and written; when they are used up, the next answer is the
    last one.
    """

    rounds: int = 8
    seconds: float = 600.0
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ModelParameters:
    """How models are asked, by the names of OpenAI's API. None: the provider's own default."""

    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    reasoning_effort: str | None = None
    response_format_json: str | None = None
    """As in requests; the answer is text without one."""

    def given(self) -> dict[str, Any]:
        """Those that are set."""
        values = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "stop": list(self.stop) or None,
            "seed": self.seed,
            "reasoning_effort": self.reasoning_effort,
            "response_format": orjson.loads(self.response_format_json) if self.response_format_json else None,
        }
        return {name: value for name, value in values.items() if value is not None}


NO_PARAMETERS: Final = ModelParameters()


@dataclass(frozen=True, slots=True)
class PlannedGraph:
    """A graph in code, by the name of its entry point, with its configuration as JSON."""

    name: str
    config_json: str = "{}"


class TeamKind(StrEnum):
    SUPERVISOR = "supervisor"
    """The assistant gives its members tasks, and answers the user itself."""
    HANDOFF = "handoff"
    """The assistant and its members pass the conversation on to each other."""


@dataclass(frozen=True, slots=True)
class PlannedMember:
    """`description` tells the other agents when to turn to it. `id` is of the API's assistants only."""

    name: str
    description: str
    plan: "RunPlan"
    id: str = ""


@dataclass(frozen=True, slots=True)
class PlannedTeam:
    kind: TeamKind
    members: tuple[PlannedMember, ...] = ()


@dataclass(frozen=True, slots=True)
class RunPlan:
    """`models` in the order they are tried. A new field needs a default, because older plans lack it."""

    instructions: Instructions
    models: tuple[PlannedModel, ...]
    tools: tuple[PlannedTool, ...] = ()
    history_tokens: int = 2_000
    memory: MemoryPolicy = MemoryPolicy()
    limits: Limits = Limits()
    origin: Origin = Origin()
    graph: PlannedGraph | None = None
    """None for the built-in graph."""
    parameters: ModelParameters = NO_PARAMETERS
    team: PlannedTeam | None = None
    """The limits of the run hold for all agents together; those of a member for each of its tasks."""

    @property
    def input_budget_tokens(self) -> int:
        """The input that the largest of its models can read. Each model receives what fits its own budget."""
        return max(model.input_budget_tokens for model in self.models)


def input_budget_tokens(context_tokens: int, max_output_tokens: int) -> int:
    """The input that may be sent to a model so that an answer still fits."""
    return context_tokens - min(max_output_tokens, context_tokens // 2)
