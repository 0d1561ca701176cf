"""No user can read or change another user's data: by RPC, by store function, in any table."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from fakes.agent.runs import a_question
from mesh.agent.v1 import agent_pb2 as pb
from mesh_agent.domain.attempts import Claim
from mesh_agent.domain.interrupts import Decision, DecisionKind
from mesh_agent.domain.runs import RunInput
from mesh_agent.execution.asking import as_interrupts
from mesh_agent.store import claims, forks, interrupts, messages, plans, rollbacks, runs, starts, threads, unended
from mesh_agent.store.checkpoint_database import CheckpointDatabase
from mesh_agent.store.fenced import begin_call, lock_lease
from mesh_agent.store.history import history_of
from mesh_agent.store.starts import NewRun
from mesh_common.database.postgres import Database
from mesh_common.database.statements import Statement
from mesh_common.errors import NotFound
from mesh_common.ids import RunId, ThreadId, UserId, new_id
from mesh_common.jobs.queue import JobQueue, NewJob
from simulator.client import SimulatorAdmin
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from support.agent import AgentUnderTest, Followed, Started, some_user
from support.assistants import AssistantCalls
from support.row_security import EXPECTED, tables_of, who_sees
from support.subjects import personal

TURN = '[[sim:tool=calculate {"expression": "6*7"}]]'


async def a_turn(agent: AgentUnderTest, user_id: UserId) -> Followed:
    return await agent.run(user_id, "Hello", idempotency_key="key")


UNARY: list[tuple[str, Callable[[Followed], Any]]] = [
    ("CancelRun", lambda turn: pb.CancelRunRequest(run_id=turn.run_id)),
    ("GetRun", lambda turn: pb.GetRunRequest(run_id=turn.run_id)),
    ("ListRuns", lambda turn: pb.ListRunsRequest(thread_id=turn.thread_id)),
    ("GetThread", lambda turn: pb.GetThreadRequest(thread_id=turn.thread_id)),
    ("ForkThread", lambda turn: pb.ForkThreadRequest(thread_id=turn.thread_id)),
    ("UpdateThread", lambda turn: pb.UpdateThreadRequest(thread_id=turn.thread_id, title="Mine")),
    ("DeleteThread", lambda turn: pb.DeleteThreadRequest(thread_id=turn.thread_id)),
    ("ListMessages", lambda turn: pb.ListMessagesRequest(thread_id=turn.thread_id)),
]


@pytest.mark.parametrize(("rpc", "request_of"), UNARY)
async def test_rpc_with_a_strangers_id_is_not_found(
    agent: AgentUnderTest, rpc: str, request_of: Callable[[Followed], Any]
) -> None:
    user_id = some_user()
    turn = await a_turn(agent, user_id)

    with pytest.raises(NotFound):
        await agent.calls.unary(getattr(agent.stub, rpc), request_of(turn), timeout_s=5, subject=personal(some_user()))

    assert len(await agent.messages(user_id, turn.thread_id)) == 2


async def test_stream_with_a_strangers_id_is_not_found(agent: AgentUnderTest) -> None:
    turn = await a_turn(agent, some_user())

    with pytest.raises(NotFound):
        await agent.follow(some_user(), turn.run_id)
    with pytest.raises(NotFound):
        await agent.run(some_user(), "Hello", thread_id=turn.thread_id)


async def test_live_run_of_a_stranger_is_not_found(agent: AgentUnderTest) -> None:
    user_id, stranger = some_user(), some_user()
    async with agent.starting(user_id, "[[sim:itl=20000]]") as started:
        await started.until("message_delta")

        with pytest.raises(NotFound):
            await agent.follow(stranger, started.run_id)
        with pytest.raises(NotFound):
            await agent.cancel(stranger, started.run_id)
        run = await agent.get_run(user_id, started.run_id)

        await agent.cancel(user_id, started.run_id)
    assert run.status == pb.RUN_STATUS_RUNNING


async def test_lists_show_ones_own_alone(agent: AgentUnderTest) -> None:
    await a_turn(agent, some_user())

    response = await agent.calls.unary(
        agent.stub.ListThreads, pb.ListThreadsRequest(), timeout_s=5, subject=personal(some_user())
    )

    assert not response.threads


def a_claim(user_id: UserId, started: Started, fence: int = 1) -> Claim:
    thread_id, run_id = ThreadId(UUID(started.thread_id)), RunId(UUID(started.run_id))
    return Claim(run_id, thread_id, personal(user_id), 1, 1, fence, "", None, {})


async def ask(database: Database, owner: UserId, started: Started) -> None:
    """Stores a question of the run."""
    claim = a_claim(owner, started)
    async with database.as_subject(personal(owner)) as connection:
        await interrupts.insert_asked(connection, claim, as_interrupts(claim, [a_question()], ttl_s=60))


async def test_a_row_of_any_table_is_its_organisations_and_its_users(
    agent: AgentUnderTest, agent_database: Database, agent_checkpoints: CheckpointDatabase, simulator: SimulatorAdmin
) -> None:
    """With organisation, user, both and neither, while every table has rows of a user whose tool loop is running."""
    owner = some_user()
    await simulator.put_rules([{"match": {"anywhere": "42"}, "action": {"itl_ms": 20_000}}])
    tables = await tables_of(agent_database)
    await agent.run(owner, "Hello")
    async with agent.starting(owner, TURN) as started:
        await started.until("tool_finished")
        await started.until("message_delta")
        async with agent_checkpoints.as_subject(personal(owner)) as checkpoints:
            assert await begin_call(checkpoints, a_claim(owner, started), "1:0")
        later = NewJob("later", started.run_id, personal(owner), {}, delay_s=60)
        async with agent_database.as_subject(personal(owner)) as connection:
            await JobQueue("agent.outbox").add(connection, later)
        await ask(agent_database, owner, started)
        # A private one: what is shared, other members see as well (test_assistants).
        await AssistantCalls(agent, personal(owner)).create()

        seen = {table: await who_sees(agent_database, table, owner) for table in tables}
        await agent.cancel(owner, started.run_id)

    assert len(tables) == 12
    assert seen == dict.fromkeys(tables, EXPECTED)


APPROVED = Decision("call_0", DecisionKind.APPROVE)

type Query = Callable[[AsyncConnection, UserId, ThreadId, RunId], Awaitable[object]]

# Each gets the owner's ids, and the owner in its user condition. The connection is the stranger's.
QUERIES: list[tuple[str, Query, object]] = [
    ("get_thread", lambda c, u, t, _: threads.get_thread(c, u, t), None),
    ("lock_thread", lambda c, u, t, _: threads.lock_thread(c, u, t), None),
    (
        "insert_run",
        lambda c, u, t, _: starts.insert_run(c, personal(u), t, NewRun(RunInput(RunId(new_id()), t, "Hi"), b"")),
        None,
    ),
    (
        "list_threads",
        lambda c, u, _, __: threads.list_threads(c, u, limit=9, after=None, query=None),
        [],
    ),
    ("thread_by_key", lambda c, u, _, __: threads.thread_by_key(c, u, "key"), None),
    ("update_thread", lambda c, u, t, _: threads.update_thread(c, u, t, title="x", metadata=None), None),
    ("delete_thread", lambda c, u, t, _: threads.delete_thread(c, u, t), None),
    ("list_messages", lambda c, u, t, _: messages.list_messages(c, u, t, limit=9, max_bytes=999, after=None), []),
    ("history_of", lambda c, u, t, r: history_of(c, Claim(r, t, personal(u), 10**9, 1, 1, "", None, {})), ()),
    ("messages_to_remember", lambda c, u, t, _: messages.messages_to_remember(c, u, t, limit=9), []),
    ("assistant_message", lambda c, u, _, r: messages.assistant_message(c, u, r), None),
    ("get_run", lambda c, u, _, r: runs.get_run(c, u, r), None),
    ("followed_run", lambda c, u, _, r: runs.followed_run(c, u, r), None),
    ("list_runs", lambda c, u, t, _: runs.list_runs(c, u, t, status=None, limit=9, before=None), []),
    ("run_by_id_or_key", lambda c, u, _, r: runs.run_by_id_or_key(c, u, r, "key"), None),
    ("is_thread_busy", lambda c, _, t, __: unended.is_thread_busy(c, t, besides=RunId(UUID(int=0))), False),
    ("input_and_frames", lambda c, u, _, r: runs.input_and_frames(c, u, r), None),
    ("frames_of_execution", lambda c, _, __, r: rollbacks.frames_of_execution(c, r), []),
    ("has_begun_calls", lambda c, _, __, r: rollbacks.has_begun_calls(c, r), False),
    ("place_of", lambda c, u, t, _: forks.place_of(c, u, t, None), None),
    (
        "messages_until",
        lambda c, u, t, _: forks.messages_until(c, u, t, forks.Place(10**9, 1, is_ended=True), limit=9),
        [],
    ),
    ("interrupted_run", lambda c, u, _, r: runs.interrupted_run(c, u, r), None),
    ("owner_of", lambda c, u, _, r: runs.owner_of(c, personal(u).organisation_id, r), None),
    ("interrupts_of_run", lambda c, _, __, r: interrupts.of_run(c, r), ()),
    ("decide", lambda c, u, _, r: interrupts.decide(c, r, [APPROVED], decided_by=u, resumed_by=r), 0),
    ("decided_for", lambda c, u, t, r: interrupts.decided_for(c, Claim(r, t, personal(u), 1, 1, 1, "", None, {})), {}),
    ("reject_waiting", lambda c, _, t, __: interrupts.reject_waiting(c, t, message=""), []),
    ("reject_expired", lambda c, _, __, ___: interrupts.reject_expired(c, limit=9, message=""), []),
    (
        "list_waiting",
        lambda c, u, _, __: interrupts.list_waiting(c, user_id=u, organisation_id=None, limit=9, after=None),
        [],
    ),
    (
        "list_waiting_of_organisation",
        lambda c, u, _, __: interrupts.list_waiting(
            c, user_id=None, organisation_id=personal(u).organisation_id, limit=9, after=None
        ),
        [],
    ),
    ("count_pending", lambda c, u, _, __: unended.count_pending(c, u), 0),
    ("cancel_unclaimed", lambda c, u, _, r: unended.cancel_unclaimed(c, u, r, frames=b""), False),
    ("lock_unended_before", lambda c, u, _, r: unended.lock_unended_before(c, u, r), []),
    ("count_by_status", lambda c, _, __, ___: unended.count_by_status(c), {"pending": 0, "running": 0}),
    ("claim_run", lambda c, _, __, r: claims.claim_run(c, claims.Owner("x", "y"), r, ttl_s=5), None),
    ("claim_runs", lambda c, _, __, ___: claims.claim_runs(c, claims.Owner("x", "y"), limit=9, ttl_s=5), []),
]


@pytest.mark.parametrize(("query", "nothing"), [pytest.param(run, nothing, id=name) for name, run, nothing in QUERIES])
async def test_query_with_the_owners_user_condition_shows_a_stranger_nothing(
    agent: AgentUnderTest, agent_database: Database, query: Query, nothing: object
) -> None:
    """The user condition names the owner, so that only row-level security protects the rows."""
    owner = some_user()
    async with agent.starting(owner, "[[sim:itl=20000]]", idempotency_key="key") as started:
        await started.until("message_delta")
        await ask(agent_database, owner, started)

        async with agent_database.as_subject(personal(some_user())) as connection:
            found = await query(connection, owner, ThreadId(UUID(started.thread_id)), RunId(UUID(started.run_id)))

        run = await agent.cancel(owner, started.run_id)
    assert found == nothing
    assert run.status == pb.RUN_STATUS_CANCELLED


FENCE = Statement("fence", "SELECT fence FROM agent.leases WHERE run_id = :run_id")


async def test_lease_is_locked_by_its_user_alone(
    agent: AgentUnderTest, agent_database: Database, agent_checkpoints: CheckpointDatabase
) -> None:
    owner = some_user()
    async with agent.starting(owner, "[[sim:itl=20000]]") as started:
        await started.until("message_delta")
        async with agent_database.as_worker() as connection:
            [row] = await FENCE.rows(connection, {"run_id": UUID(started.run_id)})
        claim = a_claim(owner, started, row["fence"])

        async with agent_checkpoints.as_subject(personal(some_user())) as checkpoints:
            is_locked_by_stranger = await lock_lease(checkpoints, claim, ttl_s=6.0)
        async with agent_checkpoints.as_subject(personal(owner)) as checkpoints:
            is_locked_by_owner = await lock_lease(checkpoints, claim, ttl_s=6.0)

        await agent.cancel(owner, started.run_id)
    assert (is_locked_by_stranger, is_locked_by_owner) == (False, True)


async def test_no_user_reads_or_writes_plans(agent: AgentUnderTest, agent_database: Database) -> None:
    """Not even the plan of one's own run: it may hold text that an assistant's author keeps private."""
    owner = some_user()
    turn = await agent.run(owner, "Hello")
    statement = text("SELECT plan_hash FROM agent.runs WHERE id = :run_id")
    async with agent_database.as_worker() as connection:
        plan_hash = bytes((await connection.execute(statement, {"run_id": turn.run_id})).scalar_one())
        assert await plans.plan_of(connection, plan_hash)

    for user_id in (owner, some_user()):
        async with agent_database.as_subject(personal(user_id)) as connection:
            assert await plans.plan_of(connection, plan_hash) is None
            assert (await connection.execute(text("DELETE FROM agent.plans"))).rowcount == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with agent_database.as_subject(personal(user_id)) as connection:
                await plans.keep_plan(connection, b"mine", b"{}")
