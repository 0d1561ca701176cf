"""The description of an assistant, as files and the API hold it. docs/api/assistant.schema.json is made from it."""

import re
from string import Template
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from mesh_common.errors import FieldFault, InvalidInput
from mesh_common.json_schema import document_names
from mesh_common.response_format import ResponseFormat

MAX_SPEC_BYTES: Final = 131_072
MAX_NAME_CHARS: Final = 63
NAME: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
NAME_PATTERN: Final = re.compile(NAME)
REFERENCE: Final = rf"{NAME[:-1]}(@[0-9a-f]{{1,16}})?$"
"""A name, or a name and a version."""
REFERENCE_PATTERN: Final = re.compile(REFERENCE)
VARIABLES: Final = ("memories",)
"""What instructions may contain as `$name`, besides what `variables` defines."""
_MAX_SHOWN_FAULTS: Final = 20


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the character NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain lone surrogates") from None
    return text


Text = Annotated[str, AfterValidator(_storable), Field(json_schema_extra={"pattern": r"^[^\u0000]*$"})]
Name = Annotated[str, Field(pattern=NAME)]
TOOL_NAME: Final = r"^[a-zA-Z0-9_-]{1,64}$"
VariableName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
ModelName = Annotated[Text, Field(min_length=1, max_length=128)]


def _no_text(number: Any) -> Any:
    """pydantic would read numbers in texts, and true as 1."""
    if isinstance(number, str | bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic collects these
    return number


# A whole number may be written as 3.0, as JSON Schema allows. Last, or pydantic does not document the bounds before it.
_A_NUMBER: Final = BeforeValidator(_no_text)


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Parameters(Part):
    """How models are asked. What a provider does not take is left out."""

    temperature: Annotated[float, Field(ge=0.0, le=2.0), _A_NUMBER] | None = None
    top_p: Annotated[float, Field(gt=0.0, le=1.0), _A_NUMBER] | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=1_000_000), _A_NUMBER] | None = None
    """Of one answer. The model's own limit holds as well."""
    stop: tuple[Annotated[Text, Field(min_length=1, max_length=64)], ...] = Field(default=(), max_length=4)
    seed: Annotated[int, Field(ge=0, le=2**31 - 1), _A_NUMBER] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = None
    response_format: ResponseFormat | None = None
    """The answer is JSON of this schema, unless a request asks for another one. Only for the kind `single`."""


class Tool(Part):
    """A tool of this service. Its policy can only become stricter."""

    name: Annotated[str, Field(pattern=TOOL_NAME)]
    approval: Literal["never", "on_effect", "always"] | None = None
    """Which calls a person must approve; the tool's own rule holds as well."""
    timeout_s: Annotated[float, Field(gt=0.0, le=600.0), _A_NUMBER] | None = None
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
    rounds: Annotated[int, Field(ge=1, le=100), _A_NUMBER] | None = None
    """Answers of models in one run."""
    tokens: Annotated[int, Field(ge=1, le=10**12), _A_NUMBER] | None = None
    """Tokens read and written in one run. When they are used up, one more answer is asked for, without tools."""
    seconds: Annotated[float, Field(gt=0.0, le=86_400.0), _A_NUMBER] | None = None
    """Of one attempt."""


class Graph(Part):
    """A graph in code, by the name of its entry point."""

    name: Annotated[Text, Field(min_length=1, max_length=128)]
    config: dict[str, JsonValue] = Field(default_factory=dict)
    """What the graph's package documents."""


class Member(Part):
    """An assistant that works in a team."""

    assistant: Annotated[str, Field(pattern=REFERENCE)]
    """Its name, or `name@version`."""
    description: Annotated[Text, Field(max_length=1_000)] = ""
    """When to turn to it, for the models of the others. If absent, the assistant's own description."""

    @property
    def name(self) -> str:
        return self.assistant.partition("@")[0]


def _member(member: Any) -> Any:
    return {"assistant": member} if isinstance(member, str) else member


class _ReferenceOrMember:
    """Documents that a reference alone stands for a member without a description of its own."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "pattern": REFERENCE}, handler(schema)]}


NamedMember = Annotated[Member, BeforeValidator(_member), _ReferenceOrMember]
TEAMS: Final = ("supervisor", "handoff")

_PARTS_BY_KIND: Final[dict[str, JsonValue]] = {
    "allOf": [
        {
            "if": {"properties": {"kind": {"const": "graph"}}, "required": ["kind"]},
            "then": {"properties": {"graph": {"type": "object"}}, "required": ["graph"]},
            "else": {"properties": {"graph": {"type": "null"}}},
        },
        {
            "if": {"properties": {"kind": {"enum": list(TEAMS)}}, "required": ["kind"]},
            "then": {"properties": {"members": {"minItems": 1}}, "required": ["members"]},
            "else": {"properties": {"members": {"maxItems": 0}}},
        },
        {
            "if": {"properties": {"kind": {"const": "single"}}},
            "else": {"properties": {"parameters": {"properties": {"response_format": {"type": "null"}}}}},
        },
    ]
}


class AssistantSpec(Part):
    """A description of an agent."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_PARTS_BY_KIND)

    description: Annotated[Text, Field(max_length=1_000)] = ""
    """For people who choose an assistant."""
    instructions: Annotated[Text, Field(max_length=100_000)] | None = None
    """Markdown with `$variables`. Without them, those of the service are used."""
    variables: dict[VariableName, Annotated[Text, Field(max_length=2_000)]] = Field(
        default_factory=dict, max_length=32, json_schema_extra=document_names
    )
    """Values of `$variables` in the instructions."""
    models: tuple[ModelName, ...] = Field(default=(), max_length=16)
    """Names of GET /api/v1/models, in the order in which they are tried. All of the service if empty."""
    parameters: Parameters = Parameters()
    tools: tuple[NamedTool, ...] | None = Field(default=None, max_length=128)
    """Names, or names with rules. All of the service if absent; none if empty."""
    memory: Literal["recall_and_remember", "recall", "off"] = "recall_and_remember"
    kind: Literal["single", "supervisor", "handoff", "graph"] = "single"
    """`supervisor` gives tasks to its members and answers itself; `handoff` may pass the conversation on to them."""
    members: tuple[NamedMember, ...] = Field(default=(), max_length=16, validate_default=True)
    """Only for the kinds `supervisor` and `handoff`, at least one."""
    graph: Graph | None = Field(default=None, validate_default=True)
    """Only for the kind `graph`."""
    limits: Limits = Limits()
    metadata: dict[Annotated[Text, Field(min_length=1, max_length=64)], Annotated[Text, Field(max_length=512)]] = Field(
        default_factory=dict, max_length=16
    )

    @field_validator("kind")
    @classmethod
    def _may_have_a_response_format(cls, kind: str, info: ValidationInfo) -> str:
        parameters = info.data.get("parameters")
        if kind != "single" and parameters and parameters.response_format:
            raise ValueError("must be `single` for an assistant with `parameters.response_format`")
        return kind

    @field_validator("members")
    @classmethod
    def _are_members_of_a_team(cls, members: tuple[Member, ...], info: ValidationInfo) -> tuple[Member, ...]:
        if "kind" in info.data and (info.data["kind"] in TEAMS) is not bool(members):
            raise ValueError("must be given for the kinds `supervisor` and `handoff`, and for no other")
        return members

    @field_validator("graph")
    @classmethod
    def _is_of_the_kind(cls, graph: Graph | None, info: ValidationInfo) -> Graph | None:
        if "kind" in info.data and (info.data["kind"] == "graph") is not (graph is not None):
            raise ValueError("must be given for the kind `graph`, and for no other")
        return graph

    def named(self, name: str) -> "NamedAssistantSpec":
        """As the agent stores it."""
        return NamedAssistantSpec(name=name, **{field: getattr(self, field) for field in self.model_fields_set})

    def unknown_variables(self) -> list[str]:
        """Variables that the instructions use and nothing defines."""
        template = Template(self.instructions or "")
        return [name for name in template.get_identifiers() if name not in {*VARIABLES, *self.variables}]

    def as_json(self) -> str:
        """Without what has its default, so that a later release may change a default."""
        return self.model_dump_json(exclude_defaults=True, by_alias=True)


class NamedAssistantSpec(AssistantSpec):
    """A named description of an agent."""

    name: Name


def parsed(spec_json: str) -> NamedAssistantSpec:
    """Raises InvalidInput with the path of each fault."""
    if len(spec_json.encode()) > MAX_SPEC_BYTES:
        raise InvalidInput.of_field("assistant", f"is longer than {MAX_SPEC_BYTES} bytes")
    try:
        content = orjson.loads(spec_json)
    except orjson.JSONDecodeError as error:
        raise InvalidInput.of_field("assistant", "is not JSON") from error
    return validated(content)


def validated(content: Any) -> NamedAssistantSpec:
    """Raises InvalidInput with the path of each fault."""
    try:
        return NamedAssistantSpec.model_validate(content)
    except RecursionError as error:
        raise InvalidInput.of_field("assistant", "is nested too deeply") from error
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
        **NamedAssistantSpec.model_json_schema(mode="validation"),
    }
