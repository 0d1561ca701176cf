"""What a run leaves behind goes with its last reference, and not when the collector comes by."""

import pytest
from support.agent import AgentUnderTest, some_user
from support.cycles import cycles_left

TURNS = {
    "answered": "[[sim:tokens=20]]",
    "with a tool": '[[sim:tool=calculate {"expression": "6*7"}]] [[sim:reply=It is {tool_result}.]]',
    "failed": "[[sim:error=400]]",
}


@pytest.mark.parametrize("message", TURNS.values(), ids=TURNS)
async def test_run_leaves_no_cycle(agent: AgentUnderTest, message: str) -> None:
    user_id = some_user()
    await agent.run(user_id, message)

    with cycles_left() as left:
        await agent.run(user_id, message)

    assert not left


async def test_cancelled_run_leaves_no_cycle(agent: AgentUnderTest) -> None:
    user_id = some_user()

    async def cancel_one() -> None:
        async with agent.starting(user_id, "[[sim:reply=one two three]] [[sim:itl=20000]]") as started:
            await started.until("message_delta")
            await agent.cancel(user_id, started.run_id)
            await started.rest()

    await cancel_one()

    with cycles_left() as left:
        await cancel_one()

    assert not left
