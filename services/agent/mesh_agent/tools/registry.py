"""Which tools there are, and calling one by name within its bounds."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from langchain_core.tools import BaseTool, ToolException
from mesh_common.process.telemetry import tracer
from opentelemetry.trace import Status, StatusCode
from pydantic import ValidationError

from mesh_agent.domain import MAX_TOOL_RESULT_CHARS, ToolResult
from mesh_agent.metrics import TOOL_CALLS
from mesh_agent.tools.call import Effect, ToolCall, UnknownOutcomeError

log = structlog.get_logger()

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class MeshTool:
    tool: BaseTool
    effect: Effect


@dataclass(frozen=True, slots=True)
class _Outcome:
    content: str
    is_error: bool = False
    is_unknown: bool = False

    @property
    def label(self) -> str:
        return "unknown" if self.is_unknown else "error" if self.is_error else "ok"


class ToolRegistry:
    def __init__(self, tools: Sequence[MeshTool]) -> None:
        """Raises ValueError when two tools have the same name."""
        self._tools = {tool.tool.name: tool for tool in tools}
        if len(self._tools) != len(tools):
            raise ValueError("two tools have the same name")

    def allowed(self, allows: Callable[[str], bool]) -> tuple[BaseTool, ...]:
        return tuple(tool.tool for name, tool in self._tools.items() if allows(name))

    def effect_of(self, name: str) -> Effect:
        """NONE for a tool that is not there: calling it does nothing."""
        return self._tools[name].effect if name in self._tools else Effect.NONE

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
            outcome = await self._outcome(call, allowed)
            if outcome.is_error:
                span.set_status(Status(StatusCode.ERROR))
        TOOL_CALLS.labels(_known_name(call, allowed), outcome.label).inc()
        content = outcome.content[:MAX_TOOL_RESULT_CHARS]
        return ToolResult(call.id, call.name, call.arguments_json, content, outcome.is_error, outcome.is_unknown)

    async def _outcome(self, call: ToolCall, allowed: Sequence[BaseTool]) -> _Outcome:
        tool = next((tool for tool in allowed if tool.name == call.name), None)
        if tool is None:
            return _Outcome(f"There is no tool {call.name!r}.", is_error=True)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                # PostgreSQL stores no NUL, and a checkpoint may hold this.
                return _Outcome(str(await tool.ainvoke(call.arguments)).replace("\x00", "\ufffd"))
        except UnknownOutcomeError as error:
            return _Outcome(str(error), is_error=True, is_unknown=self.effect_of(call.name) is not Effect.NONE)
        except ToolException as error:
            return _Outcome(str(error), is_error=True)
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
            return _Outcome(f"The arguments are not valid: {faults}", is_error=True)
        except TimeoutError:
            text = f"The tool did not answer within {_TIMEOUT_S:.0f} s."
            return _Outcome(text, is_error=True, is_unknown=self.effect_of(call.name) is not Effect.NONE)


def _known_name(call: ToolCall, allowed: Sequence[BaseTool]) -> str:
    # A model may make names up; labels and span names come from a closed set.
    return call.name if any(tool.name == call.name for tool in allowed) else "unknown"
