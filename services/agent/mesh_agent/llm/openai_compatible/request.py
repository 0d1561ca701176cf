"""The form of all requests to one model. What never changes between them is built once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableBinding
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from mesh_agent.llm.openai_compatible.request_messages import request_messages
from mesh_agent.llm.openai_compatible.source import Source
from mesh_agent.llm.quirks import Quirks
from mesh_agent.llm.registry import Model
from mesh_agent.model_settings import InstructionsRole, OutputLimit
from mesh_agent.plans.plan import ToolSchema

NOTHING_GIVEN: Final[Mapping[str, Any]] = {}
ROLE: Final = "role"
"""Stands for the role of the instructions among the parameters of a form."""
_OTHER_LIMIT: Final[dict[OutputLimit, OutputLimit]] = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}
_OTHER_ROLE: Final[dict[InstructionsRole, InstructionsRole]] = {"developer": "system", "system": "user"}
_PARALLEL: Final = "parallel_tool_calls"


@dataclass(frozen=True, slots=True)
class RequestForm:
    """`refused` are parameters that the server has refused, so that none of them is sent again."""

    model: Model
    quirks: Quirks
    source: Source
    refused: frozenset[str] = frozenset()
    _describe: ChatOpenAI = field(init=False, repr=False)
    _fields: dict[str, Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Only describes the tools of requests. It never connects.
        describe = ChatOpenAI(
            model=self.model.provider_model, base_url=self.model.base_url, api_key=SecretStr("none"), max_retries=0
        )
        fields = {**self.quirks.extra_body, "model": self.model.provider_model, "stream": True}
        if self.quirks.stream_options:
            fields["stream_options"] = {"include_usage": True}
        object.__setattr__(self, "_describe", describe)
        object.__setattr__(self, "_fields", fields)

    @classmethod
    def of(cls, model: Model) -> "RequestForm":
        return cls(model, model.quirks, Source.of(model.provider, model.base_url, model.provider_model))

    def payload(
        self,
        messages: Sequence[BaseMessage],
        tools: Sequence[ToolSchema],
        max_output_tokens: int | None,
        given: Mapping[str, Any] = NOTHING_GIVEN,
    ) -> dict[str, Any]:
        """`given`: parameters of the run's assistant. The operator's `extra_body` wins over them."""
        payload = {**self._fields, "messages": request_messages(messages, self.source, self.quirks)}
        for name, value in given.items():
            if name not in self.refused:
                payload.setdefault(name, value)
        if self.quirks.output_limit != "none":
            payload[self.quirks.output_limit] = max_output_tokens or self.model.max_output_tokens
        return payload | self._offer(tools) if tools else payload

    def parameters(self, given: Mapping[str, Any] = NOTHING_GIVEN) -> frozenset[str]:
        """The optional parameters that are sent, which a server may refuse."""
        quirks = self.quirks
        names = {quirks.output_limit, *quirks.reasoning_fields, *quirks.extra_body} - {"none"}
        names |= {"stream_options"} if quirks.stream_options else set()
        names |= set() if quirks.parallel_tool_calls else {_PARALLEL}
        names |= {ROLE} if quirks.instructions_role in _OTHER_ROLE else set()
        names |= given.keys() - self.refused
        return frozenset(names)

    def without(self, parameter: str) -> "RequestForm":
        """The form in which a parameter is renamed, or left out if it has no other name."""
        quirks, refused = self.quirks, self.refused | {parameter}
        if parameter == quirks.output_limit:
            other = _OTHER_LIMIT[quirks.output_limit]
            quirks = replace(quirks, output_limit="none" if other in refused else other)
        elif parameter == ROLE:
            quirks = replace(quirks, instructions_role=_OTHER_ROLE[quirks.instructions_role])
        elif parameter == "stream_options":
            quirks = replace(quirks, stream_options=False)
        elif parameter == _PARALLEL:
            quirks = replace(quirks, parallel_tool_calls=True)
        elif parameter in quirks.extra_body:
            body = {name: value for name, value in quirks.extra_body.items() if name != parameter}
            quirks = replace(quirks, extra_body=body)
        elif parameter in quirks.reasoning_fields:
            fields = tuple(name for name in quirks.reasoning_fields if name != parameter)
            quirks = replace(quirks, reasoning_fields=fields)
        return replace(self, quirks=quirks, refused=refused)

    def _offer(self, tools: Sequence[ToolSchema]) -> dict[str, Any]:
        bound = self._describe.bind_tools([dict(tool) for tool in tools])
        if not isinstance(bound, RunnableBinding):
            raise TypeError("langchain-openai binds tools by a RunnableBinding")
        offer = dict(bound.kwargs)
        return offer if self.quirks.parallel_tool_calls else offer | {_PARALLEL: False}
