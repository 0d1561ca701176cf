"""Which tools there are, and calling one by name within its bounds."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
import structlog
from langchain_core.tools import BaseTool, ToolException
from mesh_common.telemetry import tracer
from opentelemetry.trace import Status, StatusCode
from pydantic import ValidationError

from mesh_agent.domain import MAX_TOOL_RESULT_CHARS, ToolResult
from mesh_agent.metrics import TOOL_CALLS

log = structlog.get_logger()

_TIMEOUT_S = 30.0


class Effect(StrEnum):
    """What calling a tool twice would do to the world (DESIGN §6.7)."""

    NONE = "none"
    IDEMPOTENT = "idempotent"
    ONCE = "once"


@dataclass(frozen=True, slots=True)
class MeshTool:
    tool: BaseTool
    effect: Effect


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What a model asks for; `arguments` as it gave them, not checked yet."""

    id: str
    name: str
    arguments: dict[str, Any]

    @property
    def arguments_json(self) -> str:
        return orjson.dumps(self.arguments).decode()


class ToolRegistry:
    def __init__(self, tools: Sequence[MeshTool]) -> None:
        self._tools = {tool.tool.name: tool for tool in tools}

    def allowed(self, allows: Callable[[str], bool]) -> tuple[BaseTool, ...]:
        return tuple(tool.tool for name, tool in self._tools.items() if allows(name))

    async def call(self, call: ToolCall, allowed: Sequence[BaseTool]) -> ToolResult:
        """The tool's result, or why there is none, in words the model can act on."""
        with tracer.start_as_current_span(f"execute_tool {_known_name(call, allowed)}", record_exception=False) as span:
            span.set_attributes(
                {
                    "gen_ai.operation.name": "execute_tool",
                    "gen_ai.tool.call.id": call.id,
                    "gen_ai.tool.type": "function",
                }
            )
            content, is_error = await self._outcome(call, allowed)
            if is_error:
                span.set_status(Status(StatusCode.ERROR))
        TOOL_CALLS.labels(_known_name(call, allowed), "error" if is_error else "ok").inc()
        return ToolResult(call.id, call.name, call.arguments_json, content[:MAX_TOOL_RESULT_CHARS], is_error)

    async def _outcome(self, call: ToolCall, allowed: Sequence[BaseTool]) -> tuple[str, bool]:
        tool = next((tool for tool in allowed if tool.name == call.name), None)
        if tool is None:
            return f"There is no tool {call.name!r}.", True
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                # PostgreSQL stores no NUL, and a checkpoint may hold this.
                return str(await tool.ainvoke(call.arguments)).replace("\x00", "\ufffd"), False
        except ToolException as error:
            return str(error), True
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
            return f"The arguments are not valid: {faults}", True
        except TimeoutError:
            return f"The tool did not answer within {_TIMEOUT_S:.0f} s.", True


def _known_name(call: ToolCall, allowed: Sequence[BaseTool]) -> str:
    # A model may make names up; labels and span names come from a closed set.
    return call.name if any(tool.name == call.name for tool in allowed) else "unknown"
