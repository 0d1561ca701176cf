"""A refused call leaves nothing to the collector of cycles: in a storm of refusals its pauses would stop all others."""

from contextlib import suppress

import pytest
from mesh.agent.v1 import agent_pb2
from mesh.eval.v1 import eval_pb2
from mesh_common.errors import MeshError, Unavailable
from support.cycles import cycles_left
from support.grpc_echo import Echo


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


@pytest.mark.parametrize("error", [Unavailable("Full."), RuntimeError("a bug")], ids=["refused", "crashed"])
async def test_a_call_that_fails_leaves_no_cycle_on_either_side(evals: Echo, error: Exception) -> None:
    async def fail() -> None:
        raise error.with_traceback(None)

    evals.script.unary = fail
    await _ask(evals)

    with cycles_left() as left:
        await _ask(evals)

    assert not left


@pytest.mark.parametrize("error", [Unavailable("Full."), RuntimeError("a bug")], ids=["refused", "crashed"])
async def test_a_stream_that_fails_leaves_no_cycle_on_either_side(agents: Echo, error: Exception) -> None:
    async def fail() -> None:
        raise error.with_traceback(None)

    agents.script.stream = fail
    await _follow(agents)

    with cycles_left() as left:
        await _follow(agents)

    assert not left
