"""The database cost of a turn: statements and commits."""

from support.agent import AgentUnderTest, some_user
from support.statements import counted


async def test_plain_turn_on_a_new_thread_is_two_commits_and_ten_statements(agent: AgentUnderTest) -> None:
    user_id = some_user()
    # The first run stores the plan that all share.
    await agent.run(some_user(), "Hello")

    with counted(user_id) as counts:
        await agent.run(user_id, "Hello")

    assert counts.commits == 2
    assert len(counts.statements) <= 10, counts.statements


async def test_plain_turn_on_a_thread_with_history_is_two_commits_and_nine_statements(agent: AgentUnderTest) -> None:
    user_id = some_user()
    thread_id = (await agent.run(user_id, "Hello")).thread_id

    with counted(user_id) as counts:
        await agent.run(user_id, "Hello again", thread_id=thread_id)

    assert counts.commits == 2
    assert len(counts.statements) <= 9, counts.statements
