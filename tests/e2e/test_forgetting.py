"""Forgetting is a barrier: what was said before a deletion does not come back, however far it has got."""

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
from mesh_common.grpc.edges import ServiceName
from mesh_common.ids import new_id
from mesh_dev.stack import Stack
from simulator.client import SimulatorAdmin
from support.api import User, eventually

# Long enough that a deletion arrives while the extraction model still answers.
_SLOW_MS = 1_500
_LATER = "I keep bees."
_QUEUES: dict[ServiceName, str] = {"agent": "agent.outbox", "memory": "memory.jobs"}
_KINDS = ["remember", "forget_thread", "keep_turn"]


@pytest.fixture
async def pending(stack: Stack) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Counts the turns of all users on their way from the agent to memory's store."""
    connections = {
        queue: await asyncpg.connect(stack.environments.of(service)[f"{service.upper()}_DATABASE_URL"])
        for service, queue in _QUEUES.items()
    }
    for queue, connection in connections.items():
        await connection.execute(f"SET ROLE {queue.partition('.')[0]}_worker")

    async def count() -> int:
        # The agent's first: a turn is in both queues for a moment, never in neither.
        return sum(
            [
                await connection.fetchval(f"SELECT count(*) FROM {queue} WHERE kind = ANY($1)", _KINDS)  # noqa: S608
                for queue, connection in connections.items()
            ]
        )

    yield count
    for connection in connections.values():
        await connection.close()


@pytest.fixture
def fact() -> str:
    """A fact that no other test mentions."""
    return f"My code word is zebra-{new_id().hex}."


async def _settled(pending: Callable[[], Awaitable[int]]) -> None:
    await eventually("the queues to be empty", pending, lambda count: count == 0)


async def _extracting(simulator: SimulatorAdmin, fact: str) -> None:
    """Makes the extraction of `fact` slow."""
    # In the prompts of judges, which are also structured, the fact does not follow this key.
    match = {"structured": True, "contains": f'"content":"{fact}'}
    await simulator.put_rules([{"match": match, "action": {"ttft_ms": _SLOW_MS}}])


async def _has_begun(simulator: SimulatorAdmin) -> None:
    await eventually("the extraction", simulator.rules, lambda rules: rules[0]["hits"] > 0)


async def _delete_all(user: User) -> None:
    assert (await user.delete("/memories")).status_code == 200


async def _delete_one(user: User) -> None:
    """Deletes a memory that the user wrote before."""
    [memory] = [one for one in await user.items("/memories") if one["origin"] == "written"]
    assert (await user.delete(f"/memories/{memory['id']}")).status_code == 204


DELETIONS = pytest.mark.parametrize("delete", [_delete_all, _delete_one])


@DELETIONS
async def test_turn_that_was_answered_is_not_stored_after_a_deletion(
    user: User, fact: str, pending: Callable[[], Awaitable[int]], delete: Callable[[User], Awaitable[None]]
) -> None:
    await user.post("/memories", {"text": "I live in Rome."})
    turn = await user.chat(fact)

    await delete(user)

    # In the same thread, so that both turns may arrive at memory in one call.
    await user.chat(_LATER, thread_id=turn.thread_id)
    await _settled(pending)
    assert await user.memories() == [_LATER]


@DELETIONS
async def test_turn_whose_facts_are_being_extracted_is_not_stored_after_a_deletion(
    user: User,
    fact: str,
    simulator: SimulatorAdmin,
    pending: Callable[[], Awaitable[int]],
    delete: Callable[[User], Awaitable[None]],
) -> None:
    await user.post("/memories", {"text": "I live in Rome."})
    await _extracting(simulator, fact)
    await user.chat(fact)
    await _has_begun(simulator)

    await delete(user)

    await user.chat(_LATER)
    await _settled(pending)
    assert await user.memories() == [_LATER]


@DELETIONS
async def test_run_that_executes_during_a_deletion_is_not_stored(
    user: User, fact: str, pending: Callable[[], Awaitable[int]], delete: Callable[[User], Awaitable[None]]
) -> None:
    await user.post("/memories", {"text": "I live in Rome."})
    body = {"message": f"{fact} [[sim:reply=one two three]] [[sim:itl=300]]"}
    async with user.open_stream("/chatbot/chat/stream", body) as (_, events):
        async for event in events:
            if event.type == "message_delta":
                await delete(user)
                break
        ends = [event.type async for event in events]
    assert ends[-1] == "run_finished"

    await user.chat(_LATER)
    await _settled(pending)
    assert await user.memories() == [_LATER]


async def test_turn_of_a_deleted_thread_is_not_stored(
    user: User, fact: str, pending: Callable[[], Awaitable[int]]
) -> None:
    turn = await user.chat(fact)

    assert (await user.delete(f"/threads/{turn.thread_id}")).status_code == 204

    await user.chat(_LATER)
    await _settled(pending)
    assert await user.memories() == [_LATER]


async def test_turn_of_a_deleted_thread_is_not_stored_even_if_its_facts_are_being_extracted(
    user: User, fact: str, simulator: SimulatorAdmin, pending: Callable[[], Awaitable[int]]
) -> None:
    await _extracting(simulator, fact)
    turn = await user.chat(fact)
    await _has_begun(simulator)

    assert (await user.delete(f"/threads/{turn.thread_id}")).status_code == 204

    await user.chat(_LATER)
    await _settled(pending)
    assert await user.memories() == [_LATER]


async def test_memory_of_a_thread_outlives_the_thread(user: User, pending: Callable[[], Awaitable[int]]) -> None:
    turn = await user.chat(_LATER)
    await eventually("the memory", user.memories, lambda texts: texts == [_LATER])

    assert (await user.delete(f"/threads/{turn.thread_id}")).status_code == 204

    await _settled(pending)
    assert await user.memories() == [_LATER]
