"""The description of an assistant, as files and the API hold it. docs/api/assistant.schema.json is made from it."""

import re
from string import Template
from typing import Annotated, Any, Final, Literal

import orjson
from mesh_common.errors import FieldFault, InvalidInput
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)

MAX_SPEC_BYTES: Final = 131_072
MAX_NAME_CHARS: Final = 63
NAME: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
NAME_PATTERN: Final = re.compile(NAME)
VARIABLES: Final = ("memories",)
"""What instructions may contain as `$name`, besides what `variables` defines."""
_MAX_SHOWN_FAULTS: Final = 20


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the character NUL")
    return text


Text = Annotated[str, AfterValidator(_without_nul)]
Name = Annotated[str, Field(pattern=NAME)]
TOOL_NAME: Final = r"^[a-zA-Z0-9_-]{1,64}$"
VariableName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
ModelName = Annotated[Text, Field(min_length=1, max_length=128)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Parameters(Part):
    """How models are asked. What a provider does not take is left out."""

    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    max_output_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    """Of one answer. The model's own limit holds as well."""
    stop: tuple[Annotated[Text, Field(min_length=1, max_length=64)], ...] = Field(default=(), max_length=4)
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = None


class Tool(Part):
    """A tool of this service. Its policy can only become stricter."""

    name: Annotated[str, Field(pattern=TOOL_NAME)]
    approval: Literal["never", "on_effect", "always"] | None = None
    """Which calls a person must approve; the tool's own rule holds as well."""
    timeout_s: float | None = Field(default=None, gt=0.0, le=600.0)
    """Of one call, if that is shorter than the tool's own."""


def _named(tool: Any) -> Any:
    return {"name": tool} if isinstance(tool, str) else tool


class _NameOrRules:
    """Documents that a name alone stands for a tool without rules of its own."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "pattern": TOOL_NAME}, handler(schema)]}


NamedTool = Annotated[Tool, BeforeValidator(_named), _NameOrRules]


class Limits(Part):
    rounds: int | None = Field(default=None, ge=1, le=100)
    """Answers of models in one run."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens read and written in one run. When they are used up, one more answer is asked for, without tools."""
    seconds: float | None = Field(default=None, gt=0.0, le=86_400.0)
    """Of one attempt."""


class Graph(Part):
    """A graph in code, by the name of its entry point."""

    name: Annotated[Text, Field(min_length=1, max_length=128)]
    config: dict[str, Any] = Field(default_factory=dict)
    """What the graph's package documents."""


class AssistantSpec(Part):
    """A named description of an agent."""

    name: Name
    description: Annotated[Text, Field(max_length=1_000)] = ""
    """For people who choose an assistant."""
    instructions: Annotated[Text, Field(max_length=100_000)] | None = None
    """Markdown with `$variables`. Without them, those of the service are used."""
    variables: dict[VariableName, Annotated[Text, Field(max_length=2_000)]] = Field(default_factory=dict, max_length=32)
    """Values of `$variables` in the instructions."""
    models: tuple[ModelName, ...] = Field(default=(), max_length=16)
    """Names of GET /api/v1/models, in the order in which they are tried. All of the service if empty."""
    parameters: Parameters = Parameters()
    tools: tuple[NamedTool, ...] | None = Field(default=None, max_length=128)
    """Names, or names with rules. All of the service if absent; none if empty."""
    memory: Literal["recall_and_remember", "recall", "off"] = "recall_and_remember"
    kind: Literal["single", "graph"] = "single"
    graph: Graph | None = None
    """Only for the kind `graph`."""
    limits: Limits = Limits()
    metadata: dict[Annotated[Text, Field(min_length=1, max_length=64)], Annotated[Text, Field(max_length=512)]] = Field(
        default_factory=dict, max_length=16
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> "AssistantSpec":
        if (self.kind == "graph") is not (self.graph is not None):
            raise ValueError("`graph` must be given for the kind `graph`, and for no other")
        names = [tool.name for tool in self.tools or ()]
        if len(set(names)) != len(names):
            raise ValueError("`tools` names a tool twice")
        if len(set(self.models)) != len(self.models):
            raise ValueError("`models` names a model twice")
        if self.instructions is not None and "memories" in self.variables:
            raise ValueError("`variables` must not define `memories`")
        return self

    def unknown_variables(self) -> list[str]:
        """Variables that the instructions use and nothing defines."""
        template = Template(self.instructions or "")
        return [name for name in template.get_identifiers() if name not in {*VARIABLES, *self.variables}]

    def as_json(self) -> str:
        """Without what has its default, so that a later release may change a default."""
        return self.model_dump_json(exclude_defaults=True)


def parsed(spec_json: str) -> AssistantSpec:
    """Raises InvalidInput with the path of each fault."""
    if len(spec_json.encode()) > MAX_SPEC_BYTES:
        raise InvalidInput.of_field("assistant", f"is longer than {MAX_SPEC_BYTES} bytes")
    try:
        content = orjson.loads(spec_json)
    except orjson.JSONDecodeError as error:
        raise InvalidInput.of_field("assistant", "is not JSON") from error
    return validated(content)


def validated(content: Any) -> AssistantSpec:
    """Raises InvalidInput with the path of each fault."""
    try:
        # As JSON, in which a list may stand for a tuple although the model is strict.
        return AssistantSpec.model_validate_json(orjson.dumps(content))
    except (TypeError, RecursionError) as error:
        raise InvalidInput.of_field("assistant", "is not JSON") from error
    except ValidationError as invalid:
        faults = tuple(
            FieldFault(".".join(map(str, _path(error["loc"]))) or "assistant", error["msg"])
            for error in invalid.errors(include_url=False, include_input=False)[:_MAX_SHOWN_FAULTS]
        )
        raise InvalidInput("The assistant is not valid.", fields=faults) from invalid


def _path(location: tuple[int | str, ...]) -> list[int | str]:
    """Without the names of the alternatives of a union, which pydantic adds."""
    return [step for step in location if not (isinstance(step, str) and not re.fullmatch(r"[a-z_]+", step))]


def schema() -> dict[str, Any]:
    """The JSON Schema of a description."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **AssistantSpec.model_json_schema(mode="validation"),
    }
