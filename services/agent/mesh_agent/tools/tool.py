"""What a tool is to the agent, wherever it is implemented."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.tools import BaseTool, ToolException
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ValidationError

from mesh_agent.plans.plan import ToolSchema


@dataclass(frozen=True, slots=True)
class Tool:
    """`schema` is the tool as OpenAI's API describes it. The registry has checked the arguments against it before
    `call` gets them."""

    name: str
    schema: ToolSchema
    call: Callable[[dict[str, Any]], Awaitable[object]]


def of_function(made: BaseTool) -> Tool:
    """A function that LangChain's decorator `tool` describes. Parameters named `config` or `run_manager` mean something
    else there, so only functions of this package are tools in this way."""

    async def call(arguments: dict[str, Any]) -> object:
        try:
            return await made.ainvoke(arguments)
        except ValidationError as error:
            raise ToolException(argument_faults(error)) from error

    return Tool(made.name, convert_to_openai_tool(made), call)


def argument_faults(error: ValidationError) -> str:
    """What a model has to correct."""
    faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    return f"The arguments are not valid: {faults}"


def of_schema(
    name: str,
    description: str,
    parameters: Mapping[str, Any],
    call: Callable[[dict[str, Any]], Awaitable[object]],
) -> Tool:
    """`parameters` is a JSON Schema of type object."""
    function = {"name": name, "description": description, "parameters": dict(parameters)}
    return Tool(name, {"type": "function", "function": function}, call)
