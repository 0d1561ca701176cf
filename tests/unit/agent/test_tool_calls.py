"""Calls at a safe point: the record of `once` calls is consulted whenever an earlier attempt may have made the call."""

from dataclasses import replace
from typing import Any, cast

from fakes.agent.runs import a_claim
from mesh_agent.checkpoint import RunCheckpoints
from mesh_agent.domain.attempts import Claim
from mesh_agent.domain.tools import ToolResult
from mesh_agent.graph.tool_calls import call_at_safe_point
from mesh_agent.tools.call import ToolCall
from mesh_agent.tools.registry import ToolRegistry

REVOKED = ToolCall("c-1", "charge_card", {"amount": 5})


class Recorded:
    """Checkpoints of a run in which an earlier attempt has begun every call."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.consulted: list[str] = []

    async def begin_once(self, call_key: str) -> bool:
        self.consulted.append(call_key)
        return False

    async def flush(self) -> None:
        pass


class Listening:
    forget_generation = None

    def tool_started(self, call: ToolCall) -> None:
        pass

    def tool_finished(self, call: ToolCall, result: ToolResult) -> None:
        pass


async def _called(claim: Claim) -> tuple[ToolResult, Recorded]:
    checkpoints = Recorded(claim)
    fake = cast("RunCheckpoints", cast("Any", checkpoints))
    result = await call_at_safe_point(ToolRegistry([]), (), fake, Listening(), REVOKED, "1:0")
    return result, checkpoints


async def test_call_begun_before_its_tool_was_revoked_is_reported_unknown() -> None:
    result, checkpoints = await _called(replace(a_claim(), attempt=2))

    assert result.is_unknown
    assert checkpoints.consulted == ["1:0"]


async def test_call_of_an_unknown_tool_in_the_first_attempt_is_an_error() -> None:
    result, checkpoints = await _called(a_claim())

    assert result.is_error
    assert not result.is_unknown
    assert checkpoints.consulted == []
