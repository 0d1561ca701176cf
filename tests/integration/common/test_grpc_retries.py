"""How often the channel repeats a call that was refused: https://github.com/grpc/proposal/blob/master/A6-client-retries.md."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from mesh.agent.v1 import agent_pb2
from mesh.eval.v1 import eval_pb2
from mesh_admin.secrets import SecretSet
from mesh_common.errors import MeshError, Unavailable
from support.grpc_echo import Echo, open_echo

_CALLS = 20


class Refusal:
    """Refuses every call, and counts the calls that were served."""

    def __init__(self, error: Callable[[], MeshError]) -> None:
        self.served = 0
        self._error = error

    async def __call__(self) -> None:
        self.served += 1
        raise self._error()


@pytest.fixture
async def agent(secrets: SecretSet) -> AsyncIterator[Echo]:
    """With a channel of its own: the budget of retries belongs to the channel's target."""
    async with open_echo(secrets, service="agent") as echo:
        echo.script.events = 0
        yield echo


async def _list_scores(echo: Echo) -> None:
    with pytest.raises(Unavailable):
        await echo.calls("eval").unary(echo.evals.ListScores, eval_pb2.ListScoresRequest(), timeout_s=5.0)


async def _follow(echo: Echo) -> None:
    with pytest.raises(Unavailable):
        await _read(echo)


async def _read(echo: Echo) -> None:
    calls = echo.calls("agent")
    async with calls.stream(echo.agents.FollowRun, agent_pb2.FollowRunRequest(), timeout_s=5.0) as stream:
        async for _ in stream:
            pass


def _full() -> MeshError:
    return Unavailable("Too many runs are pending.", reason="TOO_MANY_PENDING_RUNS", retry_after_s=5)


def _stops() -> MeshError:
    return Unavailable("This replica stops.")


async def test_a_refusal_that_says_when_to_come_back_is_not_repeated(evals: Echo) -> None:
    evals.script.unary = refusal = Refusal(_full)

    await asyncio.gather(*(_list_scores(evals) for _ in range(_CALLS)))

    assert refusal.served == _CALLS


async def test_a_stream_that_is_refused_with_a_wait_is_not_repeated(agent: Echo) -> None:
    agent.script.stream = refusal = Refusal(_full)

    await asyncio.gather(*(_follow(agent) for _ in range(_CALLS)))

    assert refusal.served == _CALLS


async def test_the_wait_of_a_refusal_arrives(evals: Echo) -> None:
    evals.script.unary = Refusal(_full)

    with pytest.raises(Unavailable) as raised:
        await evals.calls("eval").unary(evals.evals.ListScores, eval_pb2.ListScoresRequest(), timeout_s=5.0)

    assert (raised.value.reason, raised.value.retry_after_s) == ("TOO_MANY_PENDING_RUNS", 5.0)


async def test_a_refusal_without_a_wait_is_repeated_at_another_replica(evals: Echo) -> None:
    evals.script.unary = refusal = Refusal(_stops)

    await _list_scores(evals)

    assert refusal.served == 3


async def test_calls_to_a_service_that_only_fails_are_soon_repeated_no_more(agent: Echo) -> None:
    """Each failure takes a token of the channel's, each success returns a tenth; below half there is no retry."""
    agent.script.stream = refusal = Refusal(_stops)

    for _ in range(10):
        await asyncio.gather(*(_follow(agent) for _ in range(_CALLS)))

    assert refusal.served <= 10 * _CALLS + 60
