"""Makes a tool of a typed function: the parameters are its schema, and its result is text."""

import asyncio
import inspect
from collections.abc import Mapping
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import to_json

from mesh_agent.domain.tools import Approval, Effect
from mesh_agent.sdk.tool import Call, ToolDefinition, ToolError
from mesh_agent.tools.call import current_call
from mesh_agent.tools.registry import MeshTool
from mesh_agent.tools.tool import Tool, argument_faults

_CONFIG = ConfigDict(extra="forbid", protected_namespaces=())


@dataclass(frozen=True, slots=True)
class CodedTool:
    """`call_parameter` is the one that gets the `Call`, if there is one."""

    name: str
    definition: ToolDefinition
    arguments: type[BaseModel]
    call_parameter: str | None

    def opened(self, threads: Executor) -> MeshTool:
        """`threads` run the function if it is no coroutine."""
        definition = self.definition
        return MeshTool(
            Tool(self.name, convert_to_openai_tool(self.arguments), partial(self._call, threads)),
            Effect(definition.effect),
            definition.timeout_s,
            Approval(definition.approval),
            definition.max_result_chars,
            definition.is_parallel,
        )

    async def _call(self, threads: Executor, arguments: Mapping[str, Any]) -> str:
        try:
            values = self.arguments.model_validate(arguments)
        except ValidationError as error:
            raise ToolError(argument_faults(error)) from error
        given = {str(field.alias): getattr(values, name) for name, field in self.arguments.model_fields.items()}
        if self.call_parameter:
            given[self.call_parameter] = _this_call()
        function = partial(self.definition.function, **given)
        if inspect.iscoroutinefunction(self.definition.function):
            result = await function()
        else:
            in_context = partial(copy_context().run, function)
            result = await asyncio.get_running_loop().run_in_executor(threads, in_context)
        return result if isinstance(result, str) else to_json(result).decode()


def coded_tool(name: str, definition: ToolDefinition) -> CodedTool:
    """Raises TypeError for a function that models cannot call."""
    function = definition.function
    description = inspect.getdoc(function)
    if not description:
        raise TypeError("the function has no docstring, from which models learn what it is for")
    call_parameter = None
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            raise TypeError(f"the parameter {parameter.name} cannot be given by its name")
        if parameter.annotation is parameter.empty:
            raise TypeError(f"the parameter {parameter.name} has no type")
        if parameter.annotation is Call:
            call_parameter = parameter.name
        else:
            default = ... if parameter.default is parameter.empty else parameter.default
            # pydantic gives some names, such as `copy`, another meaning; parameters keep theirs as aliases.
            fields[f"field_{len(fields)}"] = (Annotated[parameter.annotation, Field(alias=parameter.name)], default)
    arguments = create_model(name, __config__=_CONFIG, __doc__=description, **fields)
    return CodedTool(name, definition, arguments, call_parameter)


def _this_call() -> Call:
    identity = current_call()
    subject = identity.subject
    return Call(identity.key, subject.organisation_id, subject.user_id, identity.run_id, identity.thread_id)
