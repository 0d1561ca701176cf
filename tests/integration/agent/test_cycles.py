"""A run's objects are freed by reference counting, not by the garbage collector."""

from functools import partial

import pytest
from mesh_common.errors import InvalidInput, MeshError, NotFound
from mesh_common.ids import new_id
from support.agent import AgentUnderTest, some_user
from support.cycles import cycles_left_by

TURNS = {
    "answered": "[[sim:tokens=20]]",
    "with a tool": '[[sim:tool=calculate {"expression": "6*7"}]] [[sim:reply=It is {tool_result}.]]',
    "failed": "[[sim:error=400]]",
}


@pytest.mark.parametrize("message", TURNS.values(), ids=TURNS)
async def test_run_leaves_no_cycle(agent: AgentUnderTest, message: str) -> None:
    assert not await cycles_left_by(partial(agent.run, some_user(), message))


async def test_cancelled_run_leaves_no_cycle(agent: AgentUnderTest) -> None:
    user_id = some_user()

    async def cancel_one() -> None:
        async with agent.starting(user_id, "[[sim:reply=one two three]] [[sim:itl=20000]]") as started:
            await started.until("message_delta")
            await agent.cancel(user_id, started.run_id)
            await started.rest()

    assert not await cycles_left_by(cancel_one)


@pytest.mark.parametrize(
    ("order", "refusal"),
    [({"thread_id": str(new_id())}, NotFound), ({"model": "no-such-model"}, InvalidInput)],
    ids=["in the transaction", "before it"],
)
async def test_refused_start_leaves_no_cycle(
    agent: AgentUnderTest, order: dict[str, str], refusal: type[MeshError]
) -> None:
    user_id = some_user()

    async def be_refused() -> None:
        try:
            await agent.run(user_id, "Hello.", **order)
        except refusal:
            return
        pytest.fail("it was not refused")

    assert not await cycles_left_by(be_refused)
