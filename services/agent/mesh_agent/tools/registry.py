"""The tools of this process. Calls them by name, within the limits of a run's plan."""

import asyncio
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from langchain_core.tools import ToolException
from mesh_common.process.telemetry import tracer
from opentelemetry.trace import Status, StatusCode

from mesh_agent.domain.tools import MAX_TOOL_RESULT_CHARS, Approval, Effect, ToolResult
from mesh_agent.metrics import TOOL_CALLS
from mesh_agent.plans.plan import PlannedTool
from mesh_agent.sdk.tool import UnknownOutcomeError
from mesh_agent.tools.call import ToolCall, bounding
from mesh_agent.tools.schema import ArgumentSchemas
from mesh_agent.tools.tool import Tool

log = structlog.get_logger()

# For a tool that sets none; users do not wait longer.
_TIMEOUT_S = 30.0
# The source of the built-in tools and of those that the settings describe.
_SETTINGS = "settings"


@dataclass(frozen=True, slots=True)
class MeshTool:
    tool: Tool
    effect: Effect
    timeout_s: float = _TIMEOUT_S
    approval: Approval = Approval.NEVER
    max_result_chars: int = MAX_TOOL_RESULT_CHARS
    is_parallel: bool = True
    is_question: bool = False

    def planned(self) -> PlannedTool:
        """The tool as new plans store it."""
        return PlannedTool(
            self.tool.name,
            self.tool.schema,
            self.effect,
            self.timeout_s,
            self.max_result_chars,
            self.approval,
            self.is_parallel,
            self.is_question,
        )


@dataclass(frozen=True, slots=True)
class _Outcome:
    content: str
    is_error: bool = False
    is_unknown: bool = False

    @property
    def label(self) -> str:
        return "unknown" if self.is_unknown else "error" if self.is_error else "ok"


class ToolRegistry:
    """`planned` are the tools as new plans may have them, and a new tuple whenever they change."""

    def __init__(self, tools: Sequence[MeshTool]) -> None:
        """Raises ValueError as `replace`."""
        self._sources: dict[str, tuple[MeshTool, ...]] = {}
        self._tools: dict[str, Tool] = {}
        self.planned: tuple[PlannedTool, ...] = ()
        self._schemas = ArgumentSchemas(())
        self.replace(_SETTINGS, tools)

    def replace(self, source: str, tools: Sequence[MeshTool]) -> None:
        """Replaces all tools of one source. Calls in progress keep theirs.

        Raises ValueError, and changes nothing, if two tools have the same name or a schema is not valid.
        """
        sources = {**self._sources, source: tuple(tools)}
        all_tools = [tool for of_source in sources.values() for tool in of_source]
        by_name = {tool.tool.name: tool.tool for tool in all_tools}
        if len(by_name) != len(all_tools):
            raise ValueError("two tools have the same name")
        # Building the schemas costs 3 % of a turn, so runs get them with their plans.
        planned = tuple(tool.planned() for tool in all_tools)
        self._schemas = ArgumentSchemas(planned)
        self._sources, self._tools, self.planned = sources, by_name, planned

    def faults(self, arguments: Mapping[str, Any], policy: PlannedTool) -> str:
        """What is wrong with the arguments by the plan's schema; empty if nothing is."""
        return self._schemas.faults(policy, arguments)

    async def call(self, call: ToolCall, planned: Sequence[PlannedTool], *, is_approved: bool = False) -> ToolResult:
        """The tool's result, or an explanation that the model can act on.

        Calls only tools of the plan, with the plan's policy.
        """
        policy = tool_of_plan(call, planned)
        label = policy.name if policy else "unknown"
        with tracer.start_as_current_span(f"execute_tool {label}", record_exception=False) as span:
            span.set_attributes(
                {
                    "gen_ai.operation.name": "execute_tool",
                    "gen_ai.tool.call.id": call.id,
                    "gen_ai.tool.type": "function",
                }
            )
            outcome = await self._outcome(call, policy, is_approved=is_approved)
            if outcome.is_error:
                span.set_status(Status(StatusCode.ERROR))
        TOOL_CALLS.labels(label, outcome.label).inc()
        return ToolResult(
            call.id, call.name, call.arguments_json, outcome.content, outcome.is_error, outcome.is_unknown
        )

    async def _outcome(self, call: ToolCall, policy: PlannedTool | None, *, is_approved: bool) -> _Outcome:
        if call.fault:
            return _Outcome(call.fault, is_error=True)
        if policy is None:
            return _Outcome(f"There is no tool {call.name!r}.", is_error=True)
        if policy.needs_approval and not is_approved:
            return _Outcome("Nobody has approved this call, and it was not made.", is_error=True)
        tool = self._tools.get(policy.name)
        if tool is None:
            # The run began on a replica with other settings.
            return _Outcome(f"The tool {call.name!r} is not available any more.", is_error=True)
        faults = self._schemas.faults(policy, call.arguments)
        if faults:
            outcome = _Outcome(f"The arguments are not valid: {faults}".replace("\x00", "\ufffd"), is_error=True)
        else:
            outcome = await _called(tool, call, policy)
        return replace(outcome, content=outcome.content[: policy.max_result_chars])


def tool_of_plan(call: ToolCall, planned: Sequence[PlannedTool]) -> PlannedTool | None:
    """None for a tool that the run does not have: a model may invent names."""
    return next((tool for tool in planned if tool.name == call.name), None)


async def _called(tool: Tool, call: ToolCall, policy: PlannedTool) -> _Outcome:
    may_have_acted = policy.effect is not Effect.NONE
    try:
        with bounding(policy.max_result_chars):
            async with asyncio.timeout(policy.timeout_s):
                # A checkpoint may contain this text, and PostgreSQL cannot store NUL.
                return _Outcome(str(await tool.call(call.arguments)).replace("\x00", "\ufffd"))
    except UnknownOutcomeError as error:
        return _Outcome(str(error), is_error=True, is_unknown=may_have_acted)
    except ToolException as error:
        return _Outcome(str(error), is_error=True)
    except TimeoutError:
        text = f"The tool did not answer within {policy.timeout_s:g} s."
        return _Outcome(text, is_error=True, is_unknown=may_have_acted)
    except Exception as error:  # noqa: BLE001 - a tool may be anybody's code, and must not end the run
        # Without the error's text, which may quote what a user or a model wrote.
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("tool.crashed", tool=policy.name, error=type(error).__name__, traceback=where)  # noqa: TRY400 - as said
        return _Outcome("The tool failed.", is_error=True, is_unknown=may_have_acted)
