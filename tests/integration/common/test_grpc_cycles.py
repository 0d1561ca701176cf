"""A failed call leaves no reference cycle: in a storm of errors the collector's pauses would delay all other calls."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
from mesh.agent.v1 import agent_pb2
from mesh.eval.v1 import eval_pb2
from mesh_common.errors import MeshError, Unavailable
from support.cycles import cycles_left_by
from support.grpc_echo import Echo

ERRORS = {"refused": partial(Unavailable, "Full."), "crashed": partial(RuntimeError, "a bug")}


async def _ask(echo: Echo) -> None:
    with suppress(MeshError):
        await echo.calls("eval").unary(echo.evals.ListScores, eval_pb2.ListScoresRequest(), timeout_s=5.0)


async def _follow(echo: Echo) -> None:
    with suppress(MeshError):
        async with echo.calls("agent").stream(
            echo.agents.FollowRun, agent_pb2.FollowRunRequest(), timeout_s=5.0
        ) as stream:
            async for _ in stream:
                pass


@pytest.mark.parametrize("new_error", ERRORS.values(), ids=ERRORS)
async def test_a_call_that_fails_leaves_no_cycle_on_either_side(
    evals: Echo, new_error: Callable[[], Exception]
) -> None:
    async def fail() -> None:
        raise new_error()

    evals.script.unary = fail

    assert not await cycles_left_by(partial(_ask, evals))


@pytest.mark.parametrize("new_error", ERRORS.values(), ids=ERRORS)
async def test_a_stream_that_fails_leaves_no_cycle_on_either_side(
    agents: Echo, new_error: Callable[[], Exception]
) -> None:
    async def fail() -> None:
        raise new_error()

    agents.script.stream = fail

    assert not await cycles_left_by(partial(_follow, agents))
